"""What a run that asks again for servers takes over from the one that has ended, as the command decides it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from bms_async import DurableRun, HttpOk, Rollout, TcpOpen, Window
from bms_async.cli.rolling import RolloutArguments
from bms_async.cli.runs.retrying import RetryOptions
from bms_async.cli.runs.taken_over import take_over
from bms_async.cli.terminal.exit import UsageError
from bms_async.fleet.rollout.kept import keep
from bms_async.runs.options import KeptOptions
from tests.cli.test_progress import progress_of
from tests.cli.test_rollouts import NOTHING


def ended_run(rollout: Rollout | None, **changes: object) -> DurableRun:
    options = KeptOptions(rollout=None if rollout is None else keep(rollout))
    plain = {
        "key": "k", "wave_size": 8, "wave_follows": False, "abort_above": 0.0, "abort_sample": 1, "verify": True,
        "rollout": None if options.rollout is None else options.rollout.rollout(),
        "progress": progress_of(40, submitted=40), "_kept": SimpleNamespace(options=options.encode()),
    }  # fmt: skip
    return cast("DurableRun", SimpleNamespace(**plain | changes))


def test_all_that_protected_the_servers_is_taken_over_and_what_is_given_anew_is_not() -> None:
    before = Rollout(
        canary=2, group_by="tag:rack", max_unavailable=1, max_groups=3,
        ready=TcpOpen(port=22), ready_timeout=60.0, settle=9.0,
        window=Window("Sat 22:00-04:00", zone="Europe/Berlin"),
    )  # fmt: skip
    taken = take_over(ended_run(before), RetryOptions(changes=NOTHING))
    assert taken[:5] == (8, 0.0, 1, True, before)
    assert ", ".join(taken.words).replace("\N{NO-BREAK SPACE}", " ") == (
        "at most 8 under way at once, ended by the first failure, 2 canaries first, grouped by tag:rack, at most 1 of a"
        " group unavailable, at most 3 groups touched at once, each well again within 1 min, 9 s between two of"
        " a group, begun only within Sat 22:00-04:00 (Europe/Berlin), states read back at the end"
    )
    typed: RolloutArguments = {
        **NOTHING, "settle": 5.0, "ready": (HttpOk(port=80),), "ready_timeout": 30.0, "max_unavailable": 0.5
    }  # fmt: skip
    changed = take_over(ended_run(before), RetryOptions(wave=4, abort_above=0.5, changes=typed))
    assert changed[:4] == (4, 0.5, 1, True)
    assert changed.rollout == msgspec.structs.replace(
        before, settle=5.0, ready=HttpOk(port=80), ready_timeout=30.0, max_unavailable=0.5
    )
    assert not {"at most 8 under way at once", "0:09 between two of a group"} & set(changed.words)
    assert "2 canaries first" in changed.words
    plain = take_over(ended_run(None, wave_follows=True, abort_above=None), RetryOptions(changes=typed))
    assert (plain.wave, plain.rollout and plain.rollout.canary, plain.words) == (
        None,
        0,
        ("states read back at the end",),
    )
    without = take_over(ended_run(before), RetryOptions(no_rollout=True, changes=NOTHING))
    assert (without.rollout, without.wave) == (None, 8)


def test_a_part_of_an_option_says_nothing_of_what_an_earlier_run_had() -> None:
    before = Rollout(window=Window("Sat 22:00-04:00", zone="Europe/Berlin"), ready=TcpOpen(port=22))
    for part in ({"window_zone": "UTC"}, {"ready_address": "fixed"}):
        with pytest.raises(UsageError, match="beside it"):
            take_over(ended_run(before), RetryOptions(changes=cast("RolloutArguments", {**NOTHING, **part})))


def test_groups_that_the_journal_does_not_know_are_asked_for() -> None:
    before = Rollout(group_by=lambda server: server.name, max_unavailable=1)
    for run in (
        ended_run(before),
        ended_run(
            # As an earlier version wrote it.
            msgspec.structs.replace(before, group_by=None),
            progress=SimpleNamespace(rollout=SimpleNamespace(groups=2)),
        ),
    ):
        with pytest.raises(UsageError, match="give --group-by, or leave its rollout out by `bms runs retry k"):
            take_over(run, RetryOptions(changes=NOTHING))
        taken = take_over(run, RetryOptions(changes={**NOTHING, "group_by": "flavor"}))
        assert taken.rollout == Rollout(group_by="flavor", max_unavailable=1)
