"""Following the servers of a plain OpenStack cloud by one shared listing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsError,
    ClientClosedError,
    InvalidRequestError,
    Lane,
    OutcomeState,
    ServerFaultError,
    StaticToken,
)
from bms_async.errors import RateLimitedError
from bms_async.fleet.native import NativeWatch
from bms_async.fleet.native.listing import Listing
from bms_async.fleet.native.verdict import NativeState
from bms_async.simulator import Answer, CutAfter, Delay, Fault, Throttled
from bms_async.wire import HttpRequest
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

S = OutcomeState
START, STOP, REBOOT = "nova.servers.start", "nova.servers.stop", "nova.servers.reboot"


class Followed:
    """A watch, what it has ended, and a driver that asks for one action after the other."""

    def __init__(self, sim: Simulated, **options: Any) -> None:
        self.sim = sim
        session = sim.bms._session.unbounded().for_polling()
        self.watch = NativeWatch(session, **options)
        self.ended: dict[str, tuple[OutcomeState, BmsError | None]] = {}
        self._all_ended = anyio.Event()
        self._left = 0

    def follow(self, server_id: str, action: str) -> None:
        def note(state: OutcomeState, error: BmsError | None) -> None:
            assert server_id not in self.ended
            self.ended[server_id] = state, error
            self._left -= 1
            if not self._left:
                self._all_ended.set()

        self._left += 1
        self._all_ended = anyio.Event()
        self.watch.follow(server_id, action, note)

    async def ask(self, action: str, *server_ids: str) -> None:
        """Send an action for each server, by a few workers, and follow those that accept it."""
        left = iter(server_ids)
        call = getattr(self.sim.bms.nova.servers, action.rpartition(".")[2])

        async def work() -> None:
            for server_id in left:
                await call(server_id)
                self.follow(server_id, action)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(work)

    async def all_ended(self) -> None:
        await self._all_ended.wait()

    @property
    def states(self) -> dict[OutcomeState, int]:
        return dict(Counter(state for state, _ in self.ended.values()))


@asynccontextmanager
async def following(options: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Followed]:
    async with simulated(**{"servers": 20, "job_seconds": (20.0, 60.0), **settings}) as sim:
        here = Followed(sim, **(options or {}))
        async with anyio.create_task_group() as group:
            group.start_soon(here.watch.run)
            yield here
            group.cancel_scope.cancel()


def readings(sim: Simulated) -> list[tuple[float, str | None]]:
    """When each page of the list, or a single server, is requested from now on; and which server."""
    found: list[tuple[float, str | None]] = []

    def note(operation: str, _nth: int, path: str) -> None:
        if operation in ("nova.servers.list_details", "nova.servers.get"):
            found.append((sim.cloud.now(), path.rpartition("/")[2] if operation == "nova.servers.get" else None))

    sim.cloud.faults.append(note)
    return found


def test_thousands_of_servers_are_followed_by_one_page_a_second_and_no_get() -> None:
    async def main() -> None:
        # One per cent of faults; what is accepted and ignored can only be found out by time.
        shares: dict[str, Any] = {"native_error_share": 0.004, "native_vanish_share": 0.004, "native_slow_share": 0.002}
        async with following(servers=2500, job_seconds=(20.0, 90.0), **shares) as here:
            sim, ids = here.sim, here.sim.ids
            read = readings(sim)
            for number, server_id in enumerate(ids):
                # The calls themselves are cut short: each would cost a millisecond of the test's time.
                sim.cloud.work("reboot", sim.cloud.machine(server_id))
                here.follow(server_id, REBOOT)
                if number % 500 == 0:
                    await anyio.sleep(0.5)
            began = anyio.current_time()
            await here.all_ended()
            assert anyio.current_time() - began < 10 * 90 + 30
            assert all(later - earlier >= 0.999 for (earlier, _), (later, _) in itertools.pairwise(read))
            now = sim.cloud.servers
            slow = {each for each in ids if each not in now or (now[each].updated or 0.0) - began > 300}
            assert {server_id for _, server_id in read if server_id is not None} <= slow
            assert len(slow) < 25
            assert sim.arrived("nova.servers.get") < 25
            rebooted = {server_id for server_id in now if now[server_id].reboots == 1}
            succeeded = {server_id for server_id, (state, _) in here.ended.items() if state is S.SUCCEEDED}
            assert succeeded == rebooted
            assert len(here.ended) == 2500
            assert here.states.keys() == {S.SUCCEEDED, S.FAILED}
            assert 5 < here.states[S.FAILED] < 45
            vanished = [server_id for server_id in ids if server_id not in now]
            assert vanished
            assert all("deleted" in str(here.ended[server_id][1]) for server_id in vanished)
            broken = {server_id for server_id in now if now[server_id].status == "ERROR"}
            faults = {each for each, (_, error) in here.ended.items() if isinstance(error, ServerFaultError)}
            assert faults == broken

    run_virtually(main)


@pytest.mark.parametrize(("action", "stopped"), [(START, 1.0), (STOP, 0.0), (REBOOT, 0.0)])
def test_each_action_that_was_done_succeeded(action: str, stopped: float) -> None:
    async def main() -> None:
        async with following(stopped_share=stopped, virtual_machines=3) as here:
            await here.ask(action, *here.sim.ids)
            await here.all_ended()
            assert here.states == {S.SUCCEEDED: 20}
            assert here.sim.arrived("nova.servers.get") == 0

    run_virtually(main)


def test_a_reboot_that_was_over_between_two_readings_was_a_reboot() -> None:
    async def main() -> None:
        async with following(job_seconds=(2.5, 2.5)) as here:
            # The round before has just begun.
            await here.ask(REBOOT, here.sim.ids[0])
            await here.all_ended()
            await here.ask(REBOOT, *here.sim.ids[1:])
            await here.all_ended()
            assert here.states == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_what_was_accepted_and_ignored_is_unknown() -> None:
    async def main() -> None:
        async with following(servers=60, native_ignored_share=1.0) as here:
            few, many = here.sim.ids[:30:2], here.sim.ids[1:31:2]
            await here.ask(REBOOT, *few)
            began = anyio.current_time()
            await here.all_ended()
            assert here.states == {S.UNKNOWN: 15}
            # Looked for once no reading had shown it for five minutes, and found idle.
            assert 300 <= anyio.current_time() - began < 360
            assert here.sim.arrived("nova.servers.get") == 15
            assert "nothing has shown how it ended: it is ACTIVE" in str(here.ended[few[0]][1])
            before = here.sim.arrived("nova.servers.get")
            await here.ask(STOP, *many, *here.sim.ids[30:])
            await here.all_ended()
            assert here.states == {S.UNKNOWN: 60}
            # For many, all servers were listed instead.
            assert here.sim.arrived("nova.servers.get") == before

    run_virtually(main)


def test_a_rename_is_not_taken_for_a_reboot_that_another_task_hid() -> None:
    async def main() -> None:
        async with following(native_ignored_share=1.0) as here:
            first = here.sim.ids[0]
            await here.ask(REBOOT, first)
            server = here.sim.cloud.servers[first]
            server.task, server.updated = "reinstall", here.sim.cloud.now()
            await anyio.sleep(20)
            server.task, server.updated = None, here.sim.cloud.now()
            await here.all_ended()
            assert here.ended[first][0] is S.UNKNOWN
            assert "another task" in str(here.ended[first][1])

    run_virtually(main)


def test_a_state_from_before_the_action_proves_nothing() -> None:
    async def main() -> None:
        async with following(job_seconds=(5.0, 5.0)) as here:
            first = here.sim.ids[0]
            await here.ask(REBOOT, first)
            await here.all_ended()
            assert here.ended.pop(first)[0] is S.SUCCEEDED
            # The last change is a moment old, so that the listing shows it; the next action is ignored.
            here.sim.cloud.work = lambda *_: None  # type: ignore[method-assign]
            await here.ask(REBOOT, first)
            await here.all_ended()
            assert here.ended[first][0] is S.UNKNOWN

    run_virtually(main)


def test_a_server_that_failed_is_told_with_the_clouds_words() -> None:
    async def main() -> None:
        async with following(fail_share=1.0) as here:
            await here.ask(STOP, *here.sim.ids)
            await here.all_ended()
            assert here.states == {S.FAILED: 20}
            assert all("The stop operation failed." in str(error) for _, error in here.ended.values())

    run_virtually(main)


def test_nothing_is_read_while_no_server_is_followed() -> None:
    async def main() -> None:
        async with following() as here:
            await anyio.sleep(3600)
            assert here.watch.statistics().pages == 0
            await here.ask(STOP, here.sim.ids[0])
            await here.all_ended()
            pages = here.watch.statistics().pages
            await anyio.sleep(3600)
            assert here.watch.statistics().pages <= pages + 1
            assert repr(here.watch) == f"<NativeWatch of 0 servers, {here.watch.statistics().pages} pages>"

    run_virtually(main)


def test_a_server_that_is_forgotten_is_not_ended() -> None:
    async def main() -> None:
        async with following() as here:
            await here.ask(STOP, *here.sim.ids[:2])
            with pytest.raises(InvalidRequestError, match=r"^server_id=.*: expected a server that is not followed"):
                here.follow(here.sim.ids[0], STOP)
            with pytest.raises(InvalidRequestError, match=r"^action='stop': expected one of nova\.servers\.start"):
                here.follow(here.sim.ids[5], "stop")
            here.watch.forget(here.sim.ids[0])
            here.watch.forget("nobody")
            await anyio.sleep(300)
            assert list(here.ended) == [here.sim.ids[1]]

    run_virtually(main)


def by_turns(*faults: Fault | None) -> Callable[[str, int, str], Fault | None]:
    def choose(operation: str, nth: int, _path: str) -> Fault | None:
        return faults[nth % len(faults)] if operation == "nova.servers.list_details" else None

    return choose


@pytest.mark.parametrize(
    "faults",
    [
        (Answer(status=500), None),
        (None, CutAfter(), None),
        (Answer(status=200, body=b"{"), None, None),
        (Answer(status=403), Answer(status=429), None),
    ],
    ids=str,
)
def test_rounds_that_fail_fail_no_server(faults: tuple[Fault | None, ...]) -> None:
    async def main() -> None:
        async with following() as here:
            here.sim.cloud.faults.append(by_turns(*faults))
            await here.ask(REBOOT, *here.sim.ids)
            await here.all_ended()
            assert here.states == {S.SUCCEEDED: 20}
            assert here.watch.statistics().failed_rounds > 0

    run_virtually(main)


def test_a_list_that_never_comes_makes_servers_unknown_for_that_reason() -> None:
    async def main() -> None:
        async with following({"no_news": 600.0}) as here:
            here.sim.cloud.faults.append(by_turns(Answer(status=403)))
            await here.ask(STOP, *here.sim.ids)
            await here.all_ended()
            assert here.states == {S.UNKNOWN: 20}
            error = here.ended[here.sim.ids[0]][1]
            assert error is not None
            assert "403" in str(error.__cause__)

    run_virtually(main)


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_a_cloud_whose_clock_is_hours_off_is_followed_all_the_same(skew: float) -> None:
    """The dates of responses are off, and the times of servers are not: what the listing misses is read singly."""

    async def main() -> None:
        async with following(clock_skew=skew, servers=5) as here:
            await here.ask(STOP, *here.sim.ids)
            await here.all_ended()
            assert here.states.keys() <= {S.SUCCEEDED, S.UNCHANGED}

    run_virtually(main)


def test_a_cloud_without_dates_is_followed_by_the_times_of_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("bms_async.fleet.native.listing._read_date", lambda _: None)
        async with following(native_vanish_share=0.2) as here:
            await here.ask(STOP, *here.sim.ids)
            await here.all_ended()
            assert here.states.keys() == {S.SUCCEEDED, S.FAILED}
            assert here.states[S.FAILED] == 20 - len(here.sim.ids)

    run_virtually(main)


def test_a_reading_that_began_before_an_action_says_nothing_of_it() -> None:
    async def main() -> None:
        async with following(job_seconds=(10.0, 10.0)) as here:
            cloud, (first, second, *_) = here.sim.cloud, here.sim.ids
            late = True

            def be_late(operation: str, nth: int, _path: str) -> Fault | None:
                return Delay(seconds=20) if late and operation == "nova.servers.list_details" and nth > 1 else None

            cloud.faults.append(be_late)
            # Somebody else reboots the second server, and the page shows that when it is over.
            cloud.work("reboot", cloud.machine(second))
            await here.ask(STOP, first)
            await anyio.sleep(15)
            cloud.work = lambda *_: None  # type: ignore[method-assign]
            await here.ask(REBOOT, second)
            await anyio.sleep(10)
            late = False
            await here.all_ended()
            assert here.ended[first][0] is S.SUCCEEDED
            assert here.ended[second][0] is S.UNKNOWN

    run_virtually(main)


def vanish_without_a_trace(sim: Simulated, server_id: str) -> None:
    server = sim.cloud.servers[server_id]
    server._statuses[server.index] = 0
    sim.cloud._inventory.remove(server)


@pytest.mark.parametrize("order", [1, -1])
def test_a_server_that_cannot_be_read_keeps_no_other_from_being_looked_for(order: int) -> None:
    async def main() -> None:
        async with following(native_ignored_share=1.0) as here:
            unreadable, gone = here.sim.ids[:2][::order]
            await here.ask(STOP, unreadable, gone)
            vanish_without_a_trace(here.sim, gone)
            here.sim.cloud.faults.append(
                lambda operation, _nth, path: (
                    Answer(status=500) if operation == "nova.servers.get" and path.endswith(unreadable) else None
                )
            )
            await here.all_ended()
            assert here.ended[unreadable][0] is S.UNKNOWN
            assert here.ended[gone][0] is S.FAILED
            assert "the cloud does not know it any more" in str(here.ended[gone][1])

    run_virtually(main)


def test_what_changed_while_no_server_was_followed_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    changes = Listing.changes

    def spy(listing: Listing, since: float | None) -> AsyncIterator[NativeState]:
        asked.append(since)
        return changes(listing, since)

    async def main() -> None:
        monkeypatch.setattr(Listing, "changes", spy)
        async with following() as here:
            await here.ask(STOP, here.sim.ids[0])
            await here.all_ended()
            await anyio.sleep(3600)
            before, now = len(asked), anyio.current_time()
            await here.ask(STOP, here.sim.ids[1])
            await here.all_ended()
            assert min(since or 0.0 for since in asked[before:]) >= now

    run_virtually(main)


def test_a_closed_client_ends_the_watch_and_no_server() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            here = Followed(sim)
            await here.ask(STOP, *sim.ids)
            await sim.bms.aclose()
            with pytest.raises(ClientClosedError):
                await here.watch.run()
            assert here.ended == {}
            assert here.watch.statistics().followed == 3

    run_virtually(main)


@asynccontextmanager
async def reading_one_by_one(*, first: Fault | None = None) -> AsyncIterator[tuple[Simulated, Listing, list[float]]]:
    """A listing that others may use at the same time, and when the cloud was asked for a server."""
    async with simulated(servers=4) as sim:
        arrivals: list[float] = []

        def note(operation: str, nth: int, _path: str) -> Fault | None:
            arrivals.append(sim.cloud.now())
            return first if nth == 1 and operation == "nova.servers.get" else None

        sim.cloud.faults.append(note)
        yield sim, Listing(sim.bms._session, lane=Lane.BULK, headers={}), arrivals


def are_apart(arrivals: list[float]) -> bool:
    return all(later - earlier > 1.0 for earlier, later in itertools.pairwise(arrivals))


def test_readings_that_a_refusal_has_held_up_are_a_second_apart_when_it_is_over() -> None:
    async def main() -> None:
        async with reading_one_by_one(first=Throttled(retry_after=7)) as (sim, listing, arrivals):
            with pytest.raises(RateLimitedError):
                await listing.read(sim.ids[0])
            async with anyio.create_task_group() as tasks:
                for server_id in sim.ids:
                    tasks.start_soon(listing.read, server_id)
            assert len(arrivals) == 5
            assert arrivals[1] - arrivals[0] >= 7
            assert are_apart(arrivals)

    run_virtually(main)


def test_readings_that_have_waited_for_a_token_are_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with reading_one_by_one() as (sim, listing, arrivals):
            token, headers_at_once = anyio.Event(), StaticToken.headers

            async def headers(auth: StaticToken, request: HttpRequest) -> Mapping[str, str]:
                await token.wait()
                return await headers_at_once(auth, request)

            monkeypatch.setattr(StaticToken, "headers", headers)
            async with anyio.create_task_group() as tasks:
                for server_id in sim.ids:
                    tasks.start_soon(listing.read, server_id)
                await anyio.sleep(30)
                token.set()
            assert len(arrivals) == 4
            assert are_apart(arrivals)

    run_virtually(main)


def test_a_reading_that_is_repeated_keeps_its_distance_from_others() -> None:
    async def main() -> None:
        async with reading_one_by_one(first=Answer(status=503)) as (sim, listing, arrivals):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listing.read_server, sim.ids[0], {})
                for server_id in sim.ids[1:]:
                    tasks.start_soon(listing.read, server_id)
            assert len(arrivals) == 5
            assert are_apart(arrivals)

    run_virtually(main)


def test_a_reading_that_is_given_up_in_its_turn_keeps_no_other_waiting() -> None:
    async def main() -> None:
        async with reading_one_by_one() as (sim, listing, arrivals):
            await listing.read(sim.ids[0])
            with anyio.move_on_after(0.5) as scope:
                await listing.read(sim.ids[1])
            assert scope.cancelled_caught
            await listing.read(sim.ids[2])
            assert len(arrivals) == 2
            assert are_apart(arrivals)
            assert arrivals[1] - arrivals[0] < 2

    run_virtually(main)
