"""What functions return is in the outcomes, and all that a power run tells is told of `each` too."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest

from bms_async import ClientClosedError, InvalidRequestError, Outcome, RunEnded, RunStarted, Server
from tests.fleet._helpers import states
from tests.fleet.each._rename import S, outcomes_of, rename
from tests.support.clouds import client_of, simulated
from tests.support.virtual_clock import run_virtually


async def twice(server_id: str) -> tuple[str, str]:
    return server_id, server_id


def test_each_outcome_has_what_the_function_returned_wherever_it_is_read() -> None:
    async def main() -> None:
        async with simulated(servers=1200) as sim:
            run = sim.bms.fleet.each(sim.ids, twice)
            told = [outcome async for outcome in run]
            report = await run
            assert all(outcome.result == (outcome.server_id,) * 2 for outcome in told)
            assert told == report.outcomes
            assert next(reversed(report.outcomes)) == report.outcomes[-1] == told[-1]
            assert report.outcomes[600:603] == told[600:603]

    run_virtually(main)


@pytest.mark.parametrize("result", [None, 0, "", False, [], {}, float("nan"), object()])
def test_any_value_is_a_result(result: object) -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:

            async def call(server_id: str) -> object:
                return result

            assert all(outcome.result is result for outcome in await outcomes_of(sim, call))

    run_virtually(main)


def test_results_are_not_kept_where_nobody_wants_them() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            report = await sim.bms.fleet.each(sim.ids, twice, keep_results=False)
            assert {outcome.result for outcome in report.outcomes} == {None}
            assert not report.outcomes._results  # type: ignore[attr-defined]

    run_virtually(main)


@pytest.mark.parametrize("way", [lambda each: pickle.loads(pickle.dumps(each)), copy.copy, copy.deepcopy])
def test_a_report_with_results_and_errors_can_be_pickled_and_copied(way: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with simulated(servers=60) as sim:

            async def call(server_id: str) -> object:
                if server_id in sim.ids[::3]:
                    raise ValueError(server_id)
                return await sim.bms.servers.get(server_id)

            report = await sim.bms.fleet.each(sim.ids, call)
            again = way(report)
            assert [each.server_id for each in again.outcomes] == [each.server_id for each in report.outcomes]
            assert [each.state for each in again.outcomes] == [each.state for each in report.outcomes]
            assert [each.result for each in again.outcomes] == [each.result for each in report.outcomes]
            assert sum(isinstance(each.result, Server) for each in again.outcomes) == 40
            assert {type(each.error) for each in again.outcomes} == {type(each.error) for each in report.outcomes}

    run_virtually(main)


def test_a_report_as_json_has_no_results_for_these_may_be_anything() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:

            async def call(server_id: str) -> object:
                return object()

            report = await sim.bms.fleet.each(sim.ids, call, action="mark")
            told = msgspec.json.decode(report.to_json())
            assert told["action"] == "mark"
            assert all("result" not in outcome for outcome in told["outcomes"])

    run_virtually(main)


SOURCES: dict[str, Callable[[list[str], list[Server]], object]] = {
    "list": lambda ids, servers: ids,
    "set": lambda ids, servers: set(ids),
    "dict": lambda ids, servers: dict.fromkeys(ids),
    "generator": lambda ids, servers: (each for each in ids),
    "async generator": lambda ids, servers: slowly(ids),
    "servers": lambda ids, servers: servers,
    "twice": lambda ids, servers: [*ids, *(each.upper() for each in ids)],
}


async def slowly(ids: list[str]) -> AsyncIterator[str]:
    for server_id in ids:
        yield server_id


@pytest.mark.parametrize("kind", SOURCES)
def test_servers_may_come_from_anything_that_is_iterable(kind: str) -> None:
    async def main() -> None:
        async with simulated(servers=130) as sim:
            servers = [server async for server in sim.bms.servers.list()]
            called: list[str] = []
            source = SOURCES[kind](sim.ids, servers)
            report = await sim.bms.fleet.each(source, called.append)  # type: ignore[arg-type]
            assert sorted(called) == sorted(outcome.server_id for outcome in report.outcomes) == sorted(sim.ids)

    run_virtually(main)


def test_the_list_of_a_client_can_be_the_source_and_an_invalid_id_is_skipped() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            report = await sim.bms.fleet.each(sim.bms.servers.list(), rename(sim.bms))
            assert states(report.outcomes) == {S.SUCCEEDED: 30}
            report = await sim.bms.fleet.each(["no/id", *sim.ids[:2]], rename(sim.bms))
            assert states(report.outcomes) == {S.SKIPPED: 1, S.SUCCEEDED: 2}

    run_virtually(main)


def test_a_source_that_raises_skips_nothing_that_it_gave_and_its_error_is_the_runs() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:

            def ids() -> Iterator[str]:
                yield from sim.ids
                raise LookupError("the inventory is gone")

            run = sim.bms.fleet.each(ids(), rename(sim.bms))
            with pytest.raises(LookupError):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 30}

    run_virtually(main)


def test_outcomes_jobs_and_progress_are_told_while_the_run_goes_on() -> None:
    async def main() -> None:
        async with simulated(servers=40, job_seconds=(5, 9)) as sim:
            heard: list[Outcome] = []
            jobs: list[str] = []
            run = sim.bms.fleet.each(
                sim.ids,
                lambda server_id: sim.bms.servers.stop([server_id]),
                on_outcome=heard.append,
                on_job=lambda job: jobs.append(job.id),
            )
            report = await run
            assert heard == report.outcomes
            assert sorted(jobs) == sorted(outcome.job_id or "" for outcome in report.outcomes)
            progress = run.progress
            assert (progress.total, progress.submitted, progress.done, progress.in_flight) == (40, 40, 40, 0)
            assert repr(run) == "<FleetRun each ended: 40 submitted, 40 done>"

    run_virtually(main)


def test_a_callback_that_raises_ends_nothing_and_its_error_is_the_runs() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(5, 9)) as sim:

            def fail(told: object) -> None:
                raise LookupError("no such thing")

            run = sim.bms.fleet.each(
                sim.ids, lambda server_id: sim.bms.servers.stop([server_id]), on_outcome=fail, on_job=fail
            )
            with pytest.raises(LookupError):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_hooks_are_told_of_the_run_by_the_name_of_its_action() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            events: list[object] = []
            async with client_of(sim.cloud, hooks=events.append) as bms:
                await bms.fleet.each(sim.ids, rename(bms), action="rename all")
            begun = [event for event in events if isinstance(event, RunStarted)]
            ended = [event for event in events if isinstance(event, RunEnded)]
            assert [event.action for event in begun] == ["rename all"]
            assert len(ended) == 1

    run_virtually(main)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"action": ""}, "action"),
        ({"action": "a\nb"}, "action"),
        ({"max_workers": 0}, "max_workers"),
        ({"max_workers": True}, "max_workers"),
        ({"keep_results": 1}, "keep_results"),
        ({"verify": True}, "verify"),
        ({"jobs": ()}, "jobs"),
        ({"lane": 1}, "lane"),
        ({"total_timeout": 0}, "total_timeout"),
        ({"rollout": 3}, "rollout"),
    ],
)
def test_an_option_that_is_wrong_or_means_nothing_here_is_refused(options: dict[str, Any], argument: str) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            with pytest.raises(InvalidRequestError) as refused:
                sim.bms.fleet.each(sim.ids, twice, **options)
            assert refused.value.argument == argument
            with pytest.raises(InvalidRequestError):
                sim.bms.fleet.each(sim.ids, "rename")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                sim.bms.fleet.each(sim.ids, twice, wave=3)  # type: ignore[call-arg]

    run_virtually(main)


def test_a_run_of_a_client_that_is_not_open_is_refused() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            closed = sim.bms
        with pytest.raises(ClientClosedError, match="not open"):
            closed.fleet.each(["a"], twice)

    run_virtually(main)
