"""Outcomes with an error, as a run and its report keep them: untracked, and yet with one error each."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BmsError, FleetReport, Outcome, OutcomeState, SubJobFailedError
from bms_async.fleet.outcome import make_outcome
from bms_async.fleet.outcomes import Outcomes
from bms_async.fleet.sharded import CHUNK_SIZE
from bms_async.redaction import mask_when_shown
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

S = OutcomeState


def failed(server_id: str, *, code: str | None = "BMS.0006", reason: str | None = "no power") -> Outcome:
    error = SubJobFailedError(server_id=server_id, job_id="j", code=code, reason=reason, job_reason="of the job")
    return make_outcome(server_id, S.FAILED, job_id="j", error=error, attempts=1)


def shown(error: BmsError | None) -> Any:
    return None if error is None else (type(error), error.args, str(error), vars(error))


TEXTS = st.none() | st.sampled_from(["", "BMS.0006", "BMS.0212", "no power"]) | st.text(max_size=5)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=12))
def test_an_error_that_is_made_again_says_what_the_first_one_said(parts: list[tuple[str | None, ...]]) -> None:
    first: list[Any] = []
    outcomes = Outcomes()
    for number, (code, reason, job_reason) in enumerate(parts):
        error = SubJobFailedError(server_id=f"s{number}", job_id="j", code=code, reason=reason, job_reason=job_reason)
        outcome = make_outcome(f"s{number}", S.FAILED, job_id="j", error=error)
        first.append((shown(error), outcome.reason, outcome.code))
        outcomes.append(outcome)
        del error, outcome
    assert [(shown(each.error), each.reason, each.code) for each in outcomes] == first
    assert [reason for reason, _, _ in outcomes.not_as_asked()] == [reason for _, reason, _ in first]


def test_as_long_as_an_error_is_held_it_is_the_one_that_every_reader_gets() -> None:
    outcome = failed("a")
    outcomes = Outcomes([outcome])
    assert outcomes[0] == outcome
    assert outcomes[0].error is outcome.error is next(iter(outcomes)).error
    del outcome
    held = outcomes[0].error
    assert held is not None
    held.add_note("rack 7")
    assert outcomes[0].error is held
    assert outcomes[0] == outcomes[0]
    assert hash(outcomes[0]) == hash(outcomes[0])
    assert copy.copy(outcomes)[0].error is held


def test_what_is_stored_of_a_failure_is_not_tracked_and_keeps_no_error() -> None:
    outcome = failed("a")
    assert outcome.error is not None
    gone = weakref.ref(outcome.error)
    outcomes = Outcomes([outcome] * CHUNK_SIZE)
    del outcome
    assert gone() is None
    gc.collect()
    (chunk,) = outcomes._items.chunks()
    assert not any(map(gc.is_tracked, [*outcomes._items._chunks, *chunk]))
    # Those that were read and dropped are not kept either.
    error = outcomes[0].error
    assert error is not None
    gone = weakref.ref(error)
    del error
    assert gone() is None
    assert all(item._made is None for item in chunk)  # type: ignore[union-attr]


def raised(error: SubJobFailedError) -> None:
    try:
        raise error
    except SubJobFailedError:
        pass


CHANGES: dict[str, Callable[[SubJobFailedError], object]] = {
    "a note": lambda error: error.add_note("rack 7"),
    "a cause": lambda error: setattr(error, "__cause__", ValueError()),
    "a context": lambda error: setattr(error, "__context__", ValueError()),
    "a traceback": raised,
    "another server": lambda error: setattr(error, "server_id", "b"),
    "another job": lambda error: setattr(error, "job_id", "k"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_an_error_that_says_more_than_the_failure_of_its_sub_job_is_kept(
    change: Callable[[SubJobFailedError], object],
) -> None:
    outcome = failed("a")
    assert isinstance(outcome.error, SubJobFailedError)
    change(outcome.error)
    kept = weakref.ref(outcome.error)
    outcomes = Outcomes([outcome])
    del outcome
    gc.collect()
    assert outcomes[0].error is kept() is not None


def test_an_error_that_many_servers_share_is_kept_once() -> None:
    shared, other = BmsError("all of it"), BmsError("another")
    errors = [shared] * 1500 + [other] + [shared] * 1500
    outcomes = Outcomes(make_outcome(f"s{number}", S.SKIPPED, error=error) for number, error in enumerate(errors))
    assert [each.error for each in outcomes] == errors
    assert len(outcomes._errors) == 3


def test_equal_texts_that_are_masked_in_different_ways_stay_so() -> None:
    plain = "no power"
    masked = mask_when_shown(plain, lambda text: text.replace("power", "***"))
    outcomes = Outcomes([failed("a", reason=plain), failed("b", reason=masked), failed("c", reason=plain)])
    assert ["***" in str(each.error) for each in outcomes] == [False, True, False]


def test_failures_are_pickled_with_their_errors() -> None:
    outcomes = Outcomes([failed("a"), failed("b", code=None, reason=None), make_outcome("c", S.SUCCEEDED)])
    again = pickle.loads(pickle.dumps(outcomes))
    assert [(each.server_id, shown(each.error)) for each in again] == [
        (each.server_id, shown(each.error)) for each in outcomes
    ]


def test_threads_may_read_a_report_at_once() -> None:
    outcomes = Outcomes(failed(f"s{number}") for number in range(2000))
    wrong: list[str] = []

    def read() -> None:
        for place, each in enumerate(outcomes):
            if not isinstance(each.error, SubJobFailedError) or each.error.server_id != f"s{place}":
                wrong.append(each.server_id)

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_that_make_an_error_at_once_get_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = Outcomes([failed("a")])
    found: list[BmsError | None] = []
    make = SubJobFailedError.__init__

    def make_while_another_thread_reads(self: SubJobFailedError, **fields: Any) -> None:
        monkeypatch.undo()
        thread = Thread(target=lambda: found.append(outcomes[0].error))
        thread.start()
        thread.join()
        make(self, **fields)

    monkeypatch.setattr(SubJobFailedError, "__init__", make_while_another_thread_reads)
    found.append(outcomes[0].error)
    assert found[0] is found[1] is outcomes[0].error


def test_r9_a_run_in_which_all_servers_fail_leaves_the_collector_nothing_to_visit() -> None:
    async def main() -> FleetReport:
        async with simulated(servers=3000, fail_share=1.0) as sim:
            before = len(gc.get_objects())
            report = await sim.bms.fleet.stop(sim.ids)
            gc.collect()
            assert len(gc.get_objects()) - before < 1000
            return report

    report = run_virtually(main)
    assert report.by_state[S.FAILED] == 3000
    with pytest.raises(ExceptionGroup, match="3000 of 3000") as caught:
        report.raise_for_failures()
    errors: tuple[Any, ...] = caught.value.exceptions
    assert sum(len(error.server_ids) for error in errors) == 3000
