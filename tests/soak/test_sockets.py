"""The soak on real sockets, made short; `make soak-sockets` is the long one. And that it would notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bms_async import FleetReport, Outcome, OutcomeState
from bms_async.simulator import CallCounts, OperationCounts, Throttled
from tests.soak.__main__ import main
from tests.soak.faults import BINDING, MISHAPS, draw_mishap, draw_script
from tests.soak.judge import judge_books, judge_deeds, judge_growth, judge_remains, judge_report
from tests.soak.play import TRANSPORTS, soak
from tests.soak.processes import LIMITS
from tests.soak.proxy import ProxyBooks
from tests.soak.remains import SENDING, Remains, look

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_on_sockets_that_break_no_outcome_is_lost_and_nothing_is_left(transport: str) -> None:
    # How much there is time for is the machine's affair, and whether memory grows takes minutes to tell.
    soaked = soak(transport, seconds=5, seed=1, round_seconds=0.7, growth=None)
    assert not soaked.broken, str(soaked)
    assert soaked.rounds
    assert soaked.told.outcomes.total() > 0
    assert soaked.proxy is not None
    assert soaked.proxy.mishaps


def test_the_command_says_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    # So short that memory cannot be told to stay as it is, which is a rule broken.
    assert main(["--seconds", "0", "--transport", "httpx", "--seed", "3", "--share", "0"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("httpx, seed 3: 0 rounds")
    assert "1 rules broken\n  it did not last long enough to tell whether memory grows\n" in said


def test_what_goes_wrong_is_the_same_for_the_same_seed_and_comes_in_every_kind() -> None:
    drawn = [draw_mishap(7, "jobs.get", nth, 0.5) for nth in range(1000)]
    assert drawn == [draw_mishap(7, "jobs.get", nth, 0.5) for nth in range(1000)]
    assert {mishap for mishap, _ in drawn} == {None, *MISHAPS}


def test_what_the_limit_binds_never_comes_to_the_cloud_after_it_was_given_up() -> None:
    drawn = {draw_mishap(7, BINDING, nth, 1.0)[0] for nth in range(1000)}
    assert drawn == set(MISHAPS) - {"slow there", "too late"}


def test_the_cloud_refuses_some_calls_of_each_operation_and_never_two_things_at_one_call() -> None:
    script = draw_script(7)
    assert len({(each.operation, each.nth) for each in script}) == len(script)
    refused = Counter(each.operation for each in script if isinstance(each.fault, Throttled))
    assert refused.keys() == LIMITS.keys() - {BINDING, "servers.get"}


def report(*states: OutcomeState, ids: str = "abc") -> FleetReport:
    outcomes = tuple(Outcome(server_id=each, state=state) for each, state in zip(ids, states, strict=True))
    counts = Counter(states)
    return FleetReport(
        action="servers.stop", outcomes=outcomes, by_state=counts, by_code={}, batches=1, cancelled=False,
        started=NOW, ended=NOW,
    )  # fmt: skip


GOOD, SKIPPED = OutcomeState.SUCCEEDED, OutcomeState.SKIPPED


def test_a_server_without_an_outcome_or_with_two_of_them_would_be_noticed() -> None:
    assert not list(judge_report("stop", report(GOOD, GOOD, SKIPPED), "abc", []))
    assert list(judge_report("stop", report(GOOD, GOOD, GOOD), "abcd", [])) == [
        "R2 1 of 4 servers have no outcome of stop, such as d"
    ]
    assert list(judge_report("stop", report(GOOD, GOOD, GOOD, ids="abb"), "ab", [])) == [
        "R2 1 servers have several outcomes of stop, such as b"
    ]
    assert list(judge_report("stop", None, "a", [])) == ["R2 a run of stop has no report"]


def test_an_outcome_that_somebody_did_not_see_would_be_noticed() -> None:
    whole = report(GOOD, GOOD, GOOD)
    assert list(judge_report("stop", whole, "abc", [whole.outcomes, whole.outcomes[:2]])) == [
        "R2 somebody saw 2 outcomes of stop, and the report has 3"
    ]


def test_a_second_restart_and_a_word_that_is_not_true_would_be_noticed() -> None:
    told = report(GOOD, GOOD, SKIPPED)
    assert not list(judge_deeds("reboot", told, {"a": 4}, {"a": 5, "b": 1}, alone=True))
    assert list(judge_deeds("reboot", told, {"a": 4}, {"a": 6, "c": 1}, alone=True)) == [
        "R3 a was restarted 2 times for one request (SUCCEEDED)",
        "R2 reboot of b is SUCCEEDED, and the cloud has not done it",
        "R2 reboot of c is SKIPPED, and the cloud has done it",
    ]


def books(arrived: int, *, refused: int = 0, worst: int = 0) -> CallCounts:
    book = OperationCounts(
        limit=400, arrived=arrived, refused=refused, unauthorized=0, worst_minute=worst, first=None, last=None
    )
    return CallCounts(operations={BINDING: book}, refused=refused)


def test_a_call_too_many_and_a_restart_too_many_would_be_noticed() -> None:
    proxy = ProxyBooks(delivered=Counter({BINDING: 401}))
    assert not list(judge_books(books(401, worst=400), proxy, {"a": 2}, {"a": 2}, 7))
    assert list(judge_books(books(401, refused=1, worst=401), proxy, {"a": 2}, {"a": 1}, 7)) == [
        "R1 the cloud has counted 1 calls out",
        f"R1 401 calls of {BINDING} in one minute, and 400 are allowed",
        "R3 a was restarted 2 times, and asked for 1 times",
    ]
    assert list(judge_books(books(402), proxy, {}, {}, 7)) == [
        f"the cloud has had 402 calls of {BINDING}, and the proxy gave it 401"
    ]


def remains(*tasks: str, sockets: int = 3, megabytes: float = 50.0, ours: str = "") -> Remains:
    return Remains(
        tasks=Counter(tasks), sockets=sockets, objects=1, ours=Counter([ours] if ours else []), megabytes=megabytes
    )


def test_a_task_a_socket_and_an_object_that_stay_would_be_noticed() -> None:
    base = remains("watcher")
    assert not list(judge_remains(base, remains("watcher", SENDING, sockets=5), 2))
    assert list(judge_remains(base, remains("watcher", *[SENDING] * 3), 2)) == ["3 tasks send over 2 connections"]
    assert list(judge_remains(base, remains("watcher", "run"), 2)) == ["1 tasks are called 'run', and 0 were"]
    assert list(judge_remains(base, remains(sockets=6), 2)) == ["6 sockets are open, 3 were, and 2 may be kept"]
    assert list(judge_remains(base, remains(ours="FleetRun"), 2)) == ["there is 1 FleetRun, and was 0"]


def rounds(*megabytes: float) -> Iterator[tuple[float, Remains]]:
    return ((10.0 * place, remains(megabytes=each)) for place, each in enumerate(megabytes))


def test_memory_that_grows_after_all_is_warm_would_be_noticed() -> None:
    assert not list(judge_growth(list(rounds(10, 50, 51, 50, 52)), 10.0, 3.0))
    assert list(judge_growth(list(rounds(50, 50, 51, 52, 54, 55)), 10.0, 3.0)) == [
        "memory has grown from 50.0 to 55.0 MB, by more than 3"
    ]
    assert list(judge_growth(list(rounds(50, 50)), 10.0, 3.0)) == [
        "it did not last long enough to tell whether memory grows"
    ]


async def test_what_is_there_is_seen() -> None:
    seen = look()
    assert seen.sockets >= 1
    assert seen.megabytes > 10
    assert seen.tasks.total() == 0
