"""What users are given can be sent to another process, put into a cache, and copied."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args, get_origin

import msgspec
import pytest

import bms_async
from bms_async import (
    AllOf,
    FleetReport,
    HttpResponse,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    Progress,
    SubJobFailedError,
    Window,
    all_of,
    http_ok,
    tcp_open,
)
from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcome import make_outcome
from bms_async.fleet.outcomes import Outcomes
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = SubJobFailedError(server_id="b", job_id="j", code="BMS.0006", reason="no")

WAYS: list[Callable[[Any], Any]] = [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy]


def structs() -> list[type[msgspec.Struct]]:
    named = (getattr(bms_async, name) for name in bms_async.__all__)
    # An answer may hold a token, and a pickle is a store.
    return sorted(
        {each for each in named if isinstance(each, type) and issubclass(each, msgspec.Struct)} - {HttpResponse},
        key=lambda each: each.__name__,
    )


def example_of(kind: Any) -> Any:
    """Return anything that a field of this kind may hold."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        values = {each.name: example_of(each.type) for each in msgspec.structs.fields(kind) if each.required}
        return kind(**values)
    origin = get_origin(kind)
    if origin is not None and not isinstance(origin, type):
        return example_of(get_args(kind)[0])
    plain: dict[Any, Any] = {str: "text", int: 3, float: 1.5, bool: True, bytes: b"data", datetime: NOW, dict: {}}
    return plain.get(kind, FrozenDict({S.SUCCEEDED: 1}) if "Mapping" in str(kind) else None)


EXAMPLES: dict[type[msgspec.Struct], msgspec.Struct] = {
    Window: Window("Sat 22:00-04:00", zone="Europe/Berlin"),
    AllOf: all_of(tcp_open(22), http_ok(path="/healthz")),
}


@pytest.mark.parametrize("kind", structs(), ids=lambda each: each.__name__)
def test_every_public_struct_can_be_pickled_and_copied(kind: type[msgspec.Struct]) -> None:
    example = EXAMPLES.get(kind) or example_of(kind)
    for way in WAYS:
        again = way(example)
        assert type(again) is type(example)
        assert again == example


def test_an_answer_is_copied_and_not_pickled() -> None:
    answer = HttpResponse(status=201, headers=(("X-Subject-Token", "a token"),), body=b"{}")

    assert copy.deepcopy(answer) == copy.copy(answer) == answer
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(answer)


def test_the_report_and_the_progress_of_a_run_can_be_pickled_and_copied() -> None:
    async def main() -> tuple[Progress, FleetReport]:
        async with simulated(servers=2500, fail_share=0.02) as sim:
            run = sim.bms.fleet.stop([*sim.ids, "no/id"])
            await advance(3)
            return run.progress, await run

    progress, report = run_virtually(main)
    for way in WAYS:
        assert way(progress) == progress
        again: FleetReport = way(report)
        assert (again.by_state, again.by_code, len(again)) == (report.by_state, report.by_code, 2501)
        assert [(each.server_id, each.state, each.code) for each in again.outcomes] == [
            (each.server_id, each.state, each.code) for each in report.outcomes
        ]
        with pytest.raises(ExceptionGroup):
            again.raise_for_failures()


@pytest.mark.parametrize("name", ["by_state", "by_code"])
def test_the_counts_of_a_report_are_complete_and_cannot_be_changed(name: str) -> None:
    async def main() -> FleetReport:
        async with simulated(servers=5) as sim:
            return await sim.bms.fleet.stop(sim.ids)

    report = run_virtually(main)
    assert list(report.by_state) == list(S)
    counts: Any = getattr(report, name)
    changes: list[Callable[[], object]] = [
        lambda: counts.update({"a": 1}),
        lambda: counts.pop("a"),
        counts.clear,
        lambda: counts.setdefault("a", 1),
        lambda: counts.__setitem__("a", 1),
        lambda: counts.__delitem__("a"),
        lambda: counts.__ior__({"a": 1}),
        counts.popitem,
    ]
    for change in changes:
        with pytest.raises(TypeError, match="immutable"):
            change()
    assert type(counts | {"a": 1}) is dict
    assert msgspec.json.decode(msgspec.json.encode(counts)) == {str(key): value for key, value in counts.items()}


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500])
def test_outcomes_are_a_sequence_like_any_other(number: int) -> None:
    plain: list[Outcome] = [
        make_outcome(f"s{place}", S.FAILED if place % 7 == 0 else S.SKIPPED if place % 11 == 0 else S.SUCCEEDED,
                     error=ERROR if place % 7 == 0 else None)
        for place in range(number)
    ]  # fmt: skip
    outcomes = Outcomes(plain)
    assert outcomes == plain
    assert outcomes != [*plain, make_outcome("one-more", S.SKIPPED)]
    assert list(outcomes) == list(reversed(list(reversed(outcomes)))) == plain
    assert [outcomes[place] for place in range(-number, number)] == [plain[place] for place in range(-number, number)]
    assert outcomes[1:-1:3] == plain[1:-1:3]
    for place in (0, 7, 500, 999, 1000):
        assert list(outcomes.since(place)) == plain[place:]
    assert list(outcomes.not_as_asked()) == [
        (each.reason, each.server_id, place) for place, each in enumerate(plain) if not each.state.is_success
    ]
    for outside in (number, -number - 1):
        with pytest.raises(IndexError):
            outcomes[outside]
    assert repr(outcomes[:3]) == repr(plain[:3])


def test_outcomes_that_are_read_while_they_grow_are_those_that_were_there() -> None:
    outcomes = Outcomes([make_outcome("a", S.SUCCEEDED)] * 999)
    reader = outcomes.since(0)
    next(reader)
    for _ in range(3000):
        outcomes.append(make_outcome("b", S.SUCCEEDED))
    assert [each.server_id for each in reader] == ["a"] * 998
    assert len(outcomes) == 3999


def test_an_outcome_that_a_run_made_equals_the_one_that_a_test_writes_down() -> None:
    for error, state in ((None, S.SUCCEEDED), (ERROR, S.FAILED)):
        made, written = make_outcome("a", state, error=error), Outcome(server_id="a", state=state, error=error)
        assert made == written
        assert written == made
        assert hash(made) == hash(written)
        assert repr(made) == repr(written)
        assert made != make_outcome("b", state, error=error)


@pytest.mark.parametrize("value", [lambda: None, object(), 7, "a b", (item for item in "ab")])
def test_an_error_about_any_argument_can_be_pickled(value: object) -> None:
    error = InvalidRequestError("server_id", value, "an id is wanted")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.argument, again.rule) == ("server_id", "an id is wanted")
    assert type(again.value) in (type(value), str)


def test_r9_outcomes_are_pickled_one_by_one_so_that_a_thread_that_does_it_holds_nobody_up() -> None:
    taken: list[Outcome] = []
    taken_at: list[int] = []

    class Watched(Outcomes):
        def _read(self, place: int) -> Iterator[Outcome]:
            for outcome in super()._read(place):
                taken.append(outcome)
                yield outcome

    class Written(io.BytesIO):
        def write(self, data: Any) -> int:
            taken_at.append(len(taken))
            return super().write(data)

    outcomes = Watched(make_outcome(f"server-{number}", S.SUCCEEDED) for number in range(20_000))
    written = Written()
    pickle.dump(outcomes, written)

    assert taken_at[0] < 5_000
    assert pickle.loads(written.getvalue()) == outcomes
