"""Whole lives of a client, drawn from seeds: with hooks all rules hold, with broken ones too, and no event is lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bms_async import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    Hook,
    HookEvent,
    OutcomeRecorded,
    RequestSent,
    RunEnded,
    RunStarted,
)
from tests.hooks._helpers import Ear
from tests.simulation.seeds import Verdict, try_seed
from tests.telemetry._helpers import Recorder

SEEDS = range(8)


@contextmanager
def every_client_has(monkeypatch: pytest.MonkeyPatch, *hooks: Hook) -> Iterator[Callable[[int], Verdict]]:
    """Yield what plays a seed, with hooks that the scenario knows nothing of."""
    with monkeypatch.context() as patched:
        patched.setattr("bms_async.client.read_hooks", lambda given: hooks)
        yield try_seed


@pytest.mark.parametrize("seed", SEEDS)
def test_all_rules_hold_and_what_began_is_told_to_end(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ear, recorder = Ear(), Recorder()
    with every_client_has(monkeypatch, ear, recorder.telemetry) as play:
        verdict = play(seed)
    assert not verdict.broken
    started, ended = ear.heard(CallStarted), ear.heard(CallEnded)
    assert sorted(event.call for event in started) == sorted(event.call for event in ended)
    sent, tried = (
        Counter(event.call for event in events) for events in (ear.heard(RequestSent), ear.heard(AttemptEnded))
    )
    assert sent == tried == Counter({event.call: event.attempts for event in ended if event.attempts})
    assert started
    runs = ear.heard(RunEnded)
    assert [event.run for event in ear.heard(RunStarted)] == sorted(event.run for event in runs)
    for run in runs:
        outcomes = ear.heard(OutcomeRecorded, run=run.run)
        assert len({event.server_id for event in outcomes}) == len(outcomes) == sum(run.by_state.values())
    assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"
    assert len(recorder.spans) == len(started) + len(ear.heard(RequestSent)) + len(runs)
    said = [record.name for record in caplog.records]
    assert not [name for name in said if name == "bms_async.hooks" or name.startswith("opentelemetry")]


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_all_rules_hold_when_a_hook_raises_on_each_event(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = 0

    def broken(event: HookEvent) -> None:
        nonlocal raised
        raised += 1
        raise LookupError(type(event).__name__)

    monkeypatch.setattr(logging.getLogger("bms_async.hooks"), "disabled", True)
    with every_client_has(monkeypatch, broken) as play:
        verdict = play(seed)
    assert not verdict.broken
    assert raised
