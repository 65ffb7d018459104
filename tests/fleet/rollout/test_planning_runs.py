"""What a rollout learns of its servers before anything is sent, and what happens where it cannot."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from bms_async import (
    FleetError,
    ForeignCodeError,
    GroupBlockedError,
    InvalidRequestError,
    OutcomeState,
    PermissionDeniedError,
    Rollout,
    Server,
    Window,
    tcp_open,
)
from tests.fleet._helpers import assert_one_outcome_each, refuse, states
from tests.fleet.rollout._judge import books_of, judge, racks, zones
from tests.fleet.rollout._runs import ended, well
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
BY_RACK = Rollout(group_by="tag:rack", max_unavailable=1)


async def a_list_of_ids(sim: Simulated) -> Any:
    return sim.ids


async def a_generator_of_ids(sim: Simulated) -> Any:
    return (server_id for server_id in sim.ids)


async def ids_in_capitals(sim: Simulated) -> Any:
    return [server_id.upper() for server_id in sim.ids]


async def a_list_of_servers(sim: Simulated) -> Any:
    return [server async for server in sim.bms.servers.list()]


async def an_async_list_of_servers(sim: Simulated) -> Any:
    return sim.bms.servers.list()


async def brief_servers(sim: Simulated) -> Any:
    return [server async for server in sim.bms.nova.servers.list()]


async def native_servers(sim: Simulated) -> Any:
    return sim.bms.nova.servers.list_details()


async def ids_and_servers(sim: Simulated) -> Any:
    servers = [server async for server in sim.bms.servers.list()]
    return [server if number % 2 else server.id for number, server in enumerate(servers)]


def calls_of(sim: Simulated) -> Counter[str]:
    return Counter(call.operation for call in sim.cloud.calls)  # type: ignore[attr-defined]  # a recording cloud


# How many calls the rollout makes to read a fleet of 200: a page of the list is one.
SOURCES: dict[Callable[[Simulated], Awaitable[Any]], int] = {
    a_list_of_ids: 1,
    a_generator_of_ids: 1,
    ids_in_capitals: 1,
    a_list_of_servers: 0,
    an_async_list_of_servers: 0,
    brief_servers: 1,
    native_servers: 0,
    ids_and_servers: 1,
}


@pytest.mark.parametrize(("make", "calls"), SOURCES.items(), ids=lambda each: getattr(each, "__name__", str(each)))
def test_servers_and_ids_of_any_source_are_grouped_and_read_at_most_once(
    make: Callable[[Simulated], Awaitable[Any]], calls: int
) -> None:
    async def main() -> None:
        async with simulated(servers=200, rack_size=50, job_seconds=(10, 10), boot_seconds=(1, 5)) as sim:
            source = await make(sim)
            before = calls_of(sim)
            rollout = Rollout(group_by="tag:rack", max_unavailable=10, ready=well(sim))
            report = await ended(sim.bms.fleet.reboot(source, rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.by_state[S.SUCCEEDED] == 200
            assert report.extra_calls == calls
            after = calls_of(sim)
            assert after["servers.get"] == after["nova.servers.get"] == 0
            if make not in (an_async_list_of_servers, native_servers):
                assert after.total() - before.total() == report.batches + after["jobs.get"] + calls
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=10)

    run_virtually(main)


def test_a_rollout_without_groups_and_checks_reads_no_server() -> None:
    async def main() -> None:
        async with simulated(servers=50, job_seconds=(10, 10)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(canary=2, max_unavailable=0.5)))
            assert report.extra_calls == 0
            assert states(report.outcomes) == {S.SUCCEEDED: 50}

    run_virtually(main)


@pytest.mark.parametrize("known", [3, 50])
def test_an_id_that_the_cloud_does_not_show_is_skipped_and_says_why(known: int) -> None:
    async def main() -> None:
        async with simulated(servers=known, rack_size=10, job_seconds=(10, 10)) as sim:
            strange = [f"00000000-0000-4000-8000-{number:012d}" for number in range(3)]
            report = await ended(sim.bms.fleet.reboot([strange[0], *sim.ids, *strange], rollout=BY_RACK))
            assert_one_outcome_each([*sim.ids, *strange], report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: known, S.SKIPPED: 3}
            for outcome in report.outcomes:
                if outcome.state is S.SKIPPED:
                    assert outcome.server_id in str(outcome.error)
                    assert "the cloud does not show it" in str(outcome.error)
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


def test_a_fleet_of_which_nothing_can_go_ends() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            strange = [f"00000000-0000-4000-8000-{number:012d}" for number in range(3)]
            report = await ended(sim.bms.fleet.reboot(strange, rollout=Rollout(group_by="tag:rack", canary=2)))
            assert states(report.outcomes) == {S.SKIPPED: 3}
            report = await ended(sim.bms.fleet.reboot([], rollout=Rollout(canary=2, ready=well(sim))))
            assert not report.outcomes
            report = await ended(sim.bms.fleet.reboot(["", "?"], rollout=Rollout(canary=2)))
            assert states(report.outcomes) == {S.SKIPPED: 2}

    run_virtually(main)


def raises(server: Server) -> str:
    raise ValueError("no rack")


def cancels(server: Server) -> str:
    raise asyncio.CancelledError


def exits(server: Server) -> str:
    raise SystemExit(3)


def is_nonsense(server: Server) -> Any:
    return ["rack", 7]


async def is_async(server: Server) -> str:
    return "rack"


def awaits(server: Server) -> Any:
    return is_async(server)


class NeverLess:
    def __lt__(self, other: object) -> bool:
        raise ValueError("not comparable")


def is_incomparable(server: Server) -> Any:
    return NeverLess()


@pytest.mark.parametrize("as_servers", [False, True], ids=["ids", "servers"])
@pytest.mark.parametrize(
    ("option", "function", "error"),
    [
        ("group_by", raises, ValueError),
        ("group_by", cancels, ForeignCodeError),
        ("group_by", exits, ForeignCodeError),
        ("group_by", is_nonsense, InvalidRequestError),
        ("group_by", awaits, InvalidRequestError),
        ("order_by", raises, ValueError),
        ("order_by", cancels, ForeignCodeError),
        ("order_by", exits, ForeignCodeError),
        ("order_by", is_incomparable, ValueError),
    ],
)
def test_a_function_that_breaks_is_the_runs_error_before_anything_is_sent(
    option: str, function: Any, error: type[Exception], as_servers: bool
) -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            source: Any = sim.bms.servers.list() if as_servers else sim.ids
            run = sim.bms.fleet.reboot(source, rollout=Rollout(**{option: function}))
            with pytest.raises(error):
                await ended(run)
            assert run.report is not None
            assert_one_outcome_each(sim.ids, run.report.outcomes)
            assert states(run.report.outcomes) == {S.SKIPPED: 30}
            assert {type(outcome.error) for outcome in run.report.outcomes} == {FleetError}
            assert "nothing was sent" in str(run.report.outcomes[0].error)
            assert sim.arrived("servers.reboot") == 0

    run_virtually(main)


def test_a_function_that_breaks_for_one_server_of_many_breaks_all() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            run = sim.bms.fleet.reboot(
                sim.ids, rollout=Rollout(group_by=lambda server: raises(server) if server.id == sim.ids[7] else "a")
            )
            with pytest.raises(ValueError, match="no rack"):
                await ended(run)
            assert sim.arrived("servers.reboot") == 0

    run_virtually(main)


def test_servers_that_cannot_be_read_are_the_runs_error_and_nothing_is_sent() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            run = sim.bms.fleet.reboot(sim.ids, rollout=BY_RACK)
            with pytest.raises(PermissionDeniedError):
                await ended(run)
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SKIPPED: 30}
            assert sim.arrived("servers.reboot") == 0

    run_virtually(main)


@pytest.mark.parametrize("error", [ValueError("no more"), asyncio.CancelledError()], ids=["raises", "cancels"])
@pytest.mark.parametrize("is_async", [False, True], ids=["now", "async"])
def test_a_source_that_breaks_is_the_runs_error_and_nothing_of_it_is_sent(error: BaseException, is_async: bool) -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:

            def now() -> Iterator[str]:
                yield from sim.ids
                raise error

            async def later() -> AsyncIterator[str]:
                for server_id in now():
                    yield server_id

            run = sim.bms.fleet.reboot(later() if is_async else now(), rollout=Rollout(max_unavailable=1))
            with pytest.raises(ForeignCodeError if isinstance(error, asyncio.CancelledError) else ValueError):
                await ended(run)
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SKIPPED: 30}
            assert {type(outcome.error) for outcome in run.report.outcomes} == {FleetError}
            assert sim.arrived("servers.reboot") == 0

    run_virtually(main)


def test_a_callback_that_breaks_before_the_first_server_is_sent_keeps_none_from_it() -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(5, 5)) as sim:

            def broken(_: object) -> None:
                raise ValueError("the callback")

            async def source() -> AsyncIterator[str]:
                yield "not an id!"
                await advance(5)
                for server_id in sim.ids:
                    yield server_id

            run = sim.bms.fleet.reboot(source(), rollout=BY_RACK, on_outcome=broken)
            with pytest.raises(ValueError, match="the callback"):
                await ended(run)
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 30, S.SKIPPED: 1}

    run_virtually(main)


@pytest.mark.parametrize("end", ["cancel", "detach", "close", "timeout"])
def test_a_run_that_is_ended_while_its_servers_are_read_skips_all(end: str) -> None:
    async def main() -> None:
        async with simulated(servers=30, latency=(5, 5)) as sim:
            run = sim.bms.fleet.reboot(sim.ids, rollout=BY_RACK, total_timeout=2 if end == "timeout" else None)
            await advance(2)
            match end:
                case "cancel" | "detach":
                    run.cancel(detach=end == "detach")
                case "close":
                    await sim.bms.aclose()
            report = await ended(run, within=60)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SKIPPED: 30}
            assert sim.arrived("servers.reboot") == 0

    run_virtually(main)


def test_a_run_that_is_ended_while_its_source_is_read_skips_what_came() -> None:
    async def main() -> None:
        async with simulated(servers=30) as sim:
            closed = False

            async def source() -> AsyncIterator[str]:
                nonlocal closed
                try:
                    for server_id in sim.ids:
                        await advance(1)
                        yield server_id
                finally:
                    closed = True

            run = sim.bms.fleet.reboot(source(), rollout=BY_RACK)
            await advance(5.5)
            run.cancel()
            report = await ended(run, within=60)
            assert states(report.outcomes) == {S.SKIPPED: 5}
            assert closed

    run_virtually(main)


def test_servers_go_in_the_order_of_order_by_and_else_as_given() -> None:
    async def main() -> None:
        async with simulated(servers=12, job_seconds=(5, 5)) as sim:
            given = list(reversed(sim.ids))
            await ended(sim.bms.fleet.reboot(given, rollout=Rollout(max_unavailable=1)))
            first = [absence.server_id for absence in sim.cloud.availability.absences()]
            assert first == given
            rollout = Rollout(max_unavailable=1, order_by=lambda server: sim.ids.index(server.id))
            await ended(sim.bms.fleet.reboot(given, rollout=rollout))
            assert [absence.server_id for absence in sim.cloud.availability.absences()][12:] == sim.ids

    run_virtually(main)


def test_one_call_carries_servers_of_many_groups() -> None:
    async def main() -> None:
        async with simulated(servers=200, rack_size=4, job_seconds=(60, 60)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=BY_RACK))
            assert report.batches == 4
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_groups_are_touched_than_allowed(most: int) -> None:
    async def main() -> None:
        async with simulated(servers=20, rack_size=4, job_seconds=(8, 12)) as sim:
            rollout = Rollout(group_by="tag:rack", max_groups=most, max_unavailable=2)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            assert states(report.outcomes) == {S.SUCCEEDED: 20}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=2, max_groups=most)

    run_virtually(main)


def test_a_share_is_of_each_group() -> None:
    async def main() -> None:
        async with simulated(servers=90, job_seconds=(8, 12)) as sim:
            group_of = zones(sim.cloud)
            sizes = Counter(map(group_of, sim.ids))
            rollout = Rollout(group_by="availability_zone", max_unavailable=0.1)
            await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            judge(books_of(sim.cloud), group_of=group_of, allowed=lambda group: max(1, sizes[group] // 10))

    run_virtually(main)


def test_the_servers_of_the_check_are_those_that_the_cloud_has() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(5, 5)) as sim:
            cloud_servers = {server.id: server async for server in sim.bms.servers.list()}
            seen: dict[str, Server] = {}

            async def ready(server: Server) -> bool:
                seen[server.id] = server
                return True

            for source in (sim.ids, list(cloud_servers.values())):
                seen.clear()
                await ended(sim.bms.fleet.reboot(source, rollout=Rollout(ready=ready)))
                assert seen.keys() == cloud_servers.keys()
                for server_id, server in seen.items():
                    assert server.addresses == cloud_servers[server_id].addresses
                    assert server.metadata == cloud_servers[server_id].metadata
            # Those that were handed over come back as they were, with each of their fields.
            assert seen == cloud_servers

    run_virtually(main)


def well_known(server: Server) -> str:
    return server.name or ""


def test_a_rollout_can_be_pickled_and_compared_and_shows_what_it_says() -> None:
    rollout = Rollout(
        canary=5,
        group_by="tag:rack",
        max_unavailable=0.1,
        ready=tcp_open(22),
        window=Window("Sat 22:00-04:00", zone="Europe/Berlin"),
        order_by=well_known,
    )
    assert pickle.loads(pickle.dumps(rollout)) == rollout
    for text in ("canary=5", "'tag:rack'", "max_unavailable=0.1", "22", "Europe/Berlin", "well_known"):
        assert text in repr(rollout)


def test_a_refused_batch_gives_its_room_back() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=3, job_seconds=(10, 10), refuse_batches=True) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=BY_RACK))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.FAILED: 1, S.SUCCEEDED: 11}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


def test_a_server_that_failed_in_its_job_keeps_its_room() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=3, job_seconds=(10, 10)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=BY_RACK))
            assert states(report.outcomes) == {S.FAILED: 1, S.SUCCEEDED: 9, S.SKIPPED: 2}
            assert {type(each.error) for each in report.outcomes if each.state is S.SKIPPED} == {GroupBlockedError}

    run_virtually(main)
