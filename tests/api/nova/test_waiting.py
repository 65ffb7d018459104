"""Waiting for servers on a virtual clock: one poll however many wait, and everybody gets the end that is his."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import (
    BmsError,
    ClientClosedError,
    ConfigurationError,
    InvalidRequestError,
    Limits,
    NotFoundError,
    PermissionDeniedError,
    Server,
    ServerError,
    ServerFaultError,
    ServerLostError,
    ServerStatus,
    ServerWaitError,
    ServerWaitTimeoutError,
    TransportError,
)
from bms_async.api.nova.server_poller import ServerPoller
from bms_async.limits import Pacer
from tests.api.nova._helpers import GONE, SERVER, a_server
from tests.support.mocked import SERVER_ID, client_of, mocked, sent, virtually
from tests.support.virtual_clock import advance, run_virtually


def seen(status: str, *, task: str | None = None, fault: dict[str, Any] | None = None) -> Server:
    return msgspec.convert(a_server(status, task=task, fault=fault), Server, strict=False)


ACTIVE, SHUTOFF, REBOOT = seen("ACTIVE"), seen("SHUTOFF"), seen("REBOOT", task="rebooting")
FAULTY = seen("ERROR", fault={"code": 500, "message": "No valid host was found"})


def missing(code: str | None = "404") -> NotFoundError:
    return NotFoundError(status=404, code=code, message="Instance could not be found.", operation="nova.servers.get")


class Script:
    """Answers polls one after another, the last answer again and again, and watches how they come."""

    def __init__(self, *answers: Server | Exception, takes: float = 0.0) -> None:
        self._answers: Iterator[Server | Exception] = iter(answers)
        self._last: Server | Exception = answers[-1]
        self.takes = takes
        self.polls: list[float] = []
        self.in_flight = self.most = 0

    async def __call__(self, server_id: str) -> Server:
        self.polls.append(anyio.current_time())
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            # What a poll shows is what was so when it was read.
            answer = next(self._answers, self._last)
            await anyio.sleep(self.takes)
        finally:
            self.in_flight -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def polled(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on the virtual clock with a function that makes pollers; no task may be left."""

    async def whole() -> None:
        async with anyio.create_task_group() as group:

            def start(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
                group.start_soon(run)

            def poller_of(script: Callable[[str], Awaitable[Server]]) -> ServerPoller:
                return ServerPoller(script, start, pace=Pacer(900))

            await test(poller_of)

    def run() -> None:
        run_virtually(whole)

    run.__name__ = test.__name__
    return run


@polled
async def test_a_server_that_is_already_so_takes_one_poll(poller_of: Any) -> None:
    script = Script(ACTIVE)
    poller = poller_of(script)
    assert await poller.wait("a", "ACTIVE", None) == ACTIVE
    assert len(script.polls) == 1
    await advance(1)
    assert poller.statistics().servers == 0


@polled
async def test_a_hundred_who_wait_cost_one_poll_at_a_time(poller_of: Any) -> None:
    script = Script(REBOOT, REBOOT, ACTIVE, takes=0.5)
    poller = poller_of(script)
    found = await asyncio.gather(*(poller.wait("a", "ACTIVE", None) for _ in range(100)))
    assert found == [ACTIVE] * 100
    assert (len(script.polls), script.most) == (3, 1)


@polled
async def test_polls_come_at_once_and_then_more_and_more_seldom(poller_of: Any) -> None:
    script = Script(REBOOT)
    poller = poller_of(script)
    with pytest.raises(ServerWaitTimeoutError):
        await poller.wait("a", "ACTIVE", 600)
    gaps = [after - before for before, after in zip(script.polls, script.polls[1:], strict=False)]
    assert script.polls[0] < 0.01
    assert gaps[0] == pytest.approx(1, abs=0.01)
    assert gaps == sorted(gaps, key=lambda gap: round(gap, 2))
    assert gaps[-1] == pytest.approx(15, abs=0.01)
    assert 40 < len(script.polls) < 80


@polled
async def test_active_and_shutoff_count_when_nothing_is_being_done_any_more(poller_of: Any) -> None:
    for status in ("ACTIVE", "SHUTOFF"):
        busy = seen(status, task="powering-off")
        script = Script(busy, busy, seen(status, task=""))
        found = await poller_of(script).wait("a", status, None)
        assert (found.status, found.task_state, len(script.polls)) == (status, "", 3)


@polled
async def test_another_status_counts_whatever_is_being_done(poller_of: Any) -> None:
    assert await poller_of(Script(REBOOT)).wait("a", "REBOOT", None) == REBOOT
    assert await poller_of(Script(FAULTY)).wait("a", "ERROR", None) == FAULTY


@polled
async def test_a_fault_ends_the_wait_at_once_with_the_clouds_words(poller_of: Any) -> None:
    script = Script(seen("BUILD", task="scheduling"), FAULTY)
    with pytest.raises(ServerFaultError) as caught:
        await poller_of(script).wait(SERVER_ID, "ACTIVE", None)
    error = caught.value
    assert (error.server_id, error.wanted, error.server) == (SERVER_ID, "ACTIVE", FAULTY)
    assert (error.code, error.message) == (500, "No valid host was found")
    assert str(error) == (f"expected ACTIVE of server {SERVER_ID}, got ERROR with fault 500: No valid host was found")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(script.polls) == 2


@polled
async def test_a_fault_without_words_is_one(poller_of: Any) -> None:
    with pytest.raises(ServerFaultError, match=r"^expected the deletion of server .*, got ERROR$") as caught:
        await poller_of(Script(seen("ERROR"))).wait("a", None, None)
    assert (caught.value.code, caught.value.message, caught.value.wanted) == (None, None, None)


@polled
async def test_a_faulty_server_that_is_being_stopped_is_waited_for(poller_of: Any) -> None:
    stopping = seen("ERROR", task="powering-off")
    assert await poller_of(Script(stopping, stopping, SHUTOFF)).wait("a", "SHUTOFF", None) == SHUTOFF


@polled
async def test_a_faulty_server_is_not_believed_to_be_at_work_for_ever(poller_of: Any) -> None:
    with pytest.raises(ServerFaultError):
        await poller_of(Script(seen("ERROR", task="powering-off"))).wait("a", "SHUTOFF", None)
    assert 300 <= anyio.current_time() < 320


@polled
async def test_a_server_that_was_well_and_fails_ends_the_wait_at_once_whatever_task_it_shows(poller_of: Any) -> None:
    failed = seen("ERROR", task="spawning")
    script = Script(seen("BUILD", task="spawning"), failed)
    with pytest.raises(ServerFaultError):
        await poller_of(script).wait("a", "ACTIVE", None)
    assert len(script.polls) == 2


@polled
async def test_a_server_that_vanished_ends_the_wait_at_once(poller_of: Any) -> None:
    error = missing()
    with pytest.raises(
        ServerLostError, match=r"^expected ACTIVE of server a, but it is not known to the cloud \(any more\)$"
    ) as caught:
        await poller_of(Script(REBOOT, error)).wait("a", "ACTIVE", None)
    assert caught.value.__cause__ is error
    assert caught.value.server == REBOOT
    with pytest.raises(ServerLostError, match=r"^expected ACTIVE of server .*, but it was deleted$"):
        await poller_of(Script(seen("DELETED"))).wait("a", "ACTIVE", None)


@polled
async def test_a_deletion_is_seen_by_404_or_by_status(poller_of: Any) -> None:
    assert await poller_of(Script(ACTIVE, seen("ACTIVE", task="deleting"), missing())).wait("a", None, None) is None
    for status in ("DELETED", "SOFT_DELETED"):
        assert (await poller_of(Script(seen(status))).wait("a", None, None)).status == status


@polled
async def test_a_404_of_a_gateway_proves_no_deletion(poller_of: Any) -> None:
    for code in (None, "APIG.0101", "APIGW.0101"):
        with pytest.raises(ServerLostError, match="expected the deletion of server"):
            await poller_of(Script(missing(code))).wait("a", None, None)


@polled
async def test_a_wait_that_is_over_tells_what_was_seen_last_and_ends_no_other(poller_of: Any) -> None:
    script = Script(*[REBOOT] * 8, ACTIVE)
    poller = poller_of(script)
    patient = asyncio.ensure_future(poller.wait("a", "ACTIVE", None))
    with pytest.raises(TimeoutError) as caught:
        await poller.wait("a", "ACTIVE", 2.5)
    error = caught.value
    assert isinstance(error, ServerWaitTimeoutError)
    assert isinstance(error, ServerWaitError)
    assert str(error) == "expected ACTIVE of server a within 2.5 s, got REBOOT (rebooting); the server goes on"
    assert (error.server, error.wanted) == (REBOOT, "ACTIVE")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert await patient == ACTIVE


@polled
async def test_a_wait_that_is_over_before_anything_was_seen_says_so(poller_of: Any) -> None:
    with pytest.raises(ServerWaitTimeoutError, match="got no response; the server goes on") as caught:
        await poller_of(Script(ACTIVE, takes=10)).wait("a", "ACTIVE", 5)
    assert caught.value.server is None
    with pytest.raises(ServerWaitTimeoutError):
        await poller_of(Script(ACTIVE)).wait("a", "ACTIVE", 0)


@polled
async def test_cancelling_one_touches_nobody_else(poller_of: Any) -> None:
    script = Script(*[REBOOT] * 5, ACTIVE)
    poller = poller_of(script)
    stays, goes = (asyncio.ensure_future(poller.wait("a", "ACTIVE", None)) for _ in range(2))
    await advance(2)
    goes.cancel()
    with pytest.raises(asyncio.CancelledError):
        await goes
    assert poller.statistics().waiters == 1
    assert await stays == ACTIVE


@polled
async def test_polling_ends_with_the_last_who_waits(poller_of: Any) -> None:
    script = Script(REBOOT)
    poller = poller_of(script)
    waits = [asyncio.ensure_future(poller.wait("a", "ACTIVE", None)) for _ in range(3)]
    await advance(60)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    polls = len(script.polls)
    await advance(1.1)
    assert poller.statistics().servers == 0
    await advance(600)
    assert len(script.polls) == polls
    assert poller.statistics().servers == 0
    assert repr(poller) == f"<ServerPoller of 0 servers, {polls} polls>"


@polled
async def test_whoever_comes_while_the_last_poll_of_others_is_under_way_causes_no_second_one(poller_of: Any) -> None:
    script = Script(REBOOT, ACTIVE, takes=5)
    poller = poller_of(script)
    first = asyncio.ensure_future(poller.wait("a", "ACTIVE", None))
    await advance(1)
    first.cancel()
    await asyncio.wait({first})
    assert await poller.wait("a", "ACTIVE", None) == ACTIVE
    assert (script.most, len(script.polls)) == (1, 2)


@polled
async def test_what_a_poll_shows_that_began_before_does_not_count(poller_of: Any) -> None:
    # It runs; a stop is requested; the poll in flight still shows it running.
    script = Script(ACTIVE, SHUTOFF, takes=5)
    poller = poller_of(script)
    other = asyncio.ensure_future(poller.wait("a", "SHUTOFF", None))
    await advance(1)
    mine = asyncio.ensure_future(poller.wait("a", "ACTIVE", 30))
    await advance(5)
    assert not mine.done()
    assert await other == SHUTOFF
    with pytest.raises(ServerWaitTimeoutError, match="got SHUTOFF"):
        await mine


@polled
async def test_whoever_comes_late_is_polled_for_at_once(poller_of: Any) -> None:
    script = Script(REBOOT)
    poller = poller_of(script)
    early = asyncio.ensure_future(poller.wait("a", "ACTIVE", None))
    await advance(306)
    before = len(script.polls)
    late = asyncio.ensure_future(poller.wait("a", "REBOOT", None))
    assert await late == REBOOT
    assert len(script.polls) == before + 1
    assert anyio.current_time() < 308
    # Whoever came has likely asked for something, which is soon done.
    await advance(5)
    assert len(script.polls) >= before + 4
    early.cancel()


@polled
async def test_many_who_come_one_after_another_are_not_polled_for_more_than_once_a_second(poller_of: Any) -> None:
    script = Script(REBOOT)
    poller = poller_of(script)
    early = asyncio.ensure_future(poller.wait("a", "ACTIVE", None))
    for _ in range(100):
        late = asyncio.ensure_future(poller.wait("a", "ACTIVE", 0.05))
        await advance(0.1)
        assert isinstance(late.exception(), ServerWaitTimeoutError)
    assert len(script.polls) <= 11
    early.cancel()


@polled
async def test_failed_polls_are_made_again(poller_of: Any) -> None:
    failures: list[Exception] = [
        TransportError("cut", maybe_delivered=True),
        ServerError(status=503),
        TransportError("cut", maybe_delivered=False),
    ]
    script = Script(REBOOT, *failures * 3, ACTIVE)
    poller = poller_of(script)
    assert await poller.wait("a", "ACTIVE", None) == ACTIVE
    assert poller.statistics().failed_polls == 9
    gaps = [after - before for before, after in zip(script.polls, script.polls[1:], strict=False)]
    assert max(gaps) <= 30.1


@polled
async def test_a_server_that_nobody_may_look_at_any_more_is_lost(poller_of: Any) -> None:
    refused = PermissionDeniedError(status=403)
    with pytest.raises(ServerLostError, match="could not be read for 300 s") as caught:
        await poller_of(Script(REBOOT, refused)).wait("a", "ACTIVE", None)
    assert caught.value.__cause__ is refused
    assert caught.value.server == REBOOT


@polled
async def test_an_hour_without_an_answer_is_the_end(poller_of: Any) -> None:
    with pytest.raises(ServerLostError, match="could not be read for 3600 s"):
        await poller_of(Script(ServerError(status=500))).wait("a", "ACTIVE", None)


@polled
async def test_a_server_that_shows_nothing_new_is_not_waited_for_without_end(poller_of: Any) -> None:
    begun = anyio.current_time()
    with pytest.raises(ServerLostError, match=r"is REBOOT \(rebooting\) and has not changed for 7200 s"):
        await poller_of(Script(REBOOT)).wait("a", "ACTIVE", None)
    assert 7200 < anyio.current_time() - begun < 7260


@polled
async def test_a_server_that_goes_back_and_forth_is_not_waited_for_without_end(poller_of: Any) -> None:
    async def flipping(server_id: str) -> Server:
        return REBOOT if int(anyio.current_time() / 60) % 2 else ACTIVE

    with pytest.raises(ServerLostError, match="has not changed"):
        await poller_of(flipping).wait("a", "SHUTOFF", None)
    assert anyio.current_time() < 2 * 7200


@polled
async def test_an_outage_is_no_time_in_which_a_server_has_shown_nothing_new(poller_of: Any) -> None:
    async def fetch(server_id: str) -> Server:
        now = anyio.current_time()
        if 5000 < now < 8000:
            raise ServerError(status=503)
        return ACTIVE if now > 9500 else REBOOT

    assert await poller_of(fetch).wait("a", "ACTIVE", None) == ACTIVE


@polled
async def test_one_refusal_after_a_long_outage_does_not_end_a_wait(poller_of: Any) -> None:
    trouble = [ServerError(status=503)] * 20
    assert await poller_of(Script(*trouble, PermissionDeniedError(status=403), ACTIVE)).wait("a", "ACTIVE", None)
    assert anyio.current_time() > 300


@polled
async def test_one_server_in_two_spellings_is_polled_once(poller_of: Any) -> None:
    script = Script(REBOOT, ACTIVE, takes=0.5)
    poller = poller_of(script)
    name = "0a1b2c3d-9e0c-4d30-9d4c-0a6b1f3e7c55"
    await asyncio.gather(poller.wait(name, "ACTIVE", None), poller.wait(name.upper(), "ACTIVE", None))
    assert (len(script.polls), script.most) == (2, 1)


@polled
async def test_polls_that_break_for_long_leave_nobody_waiting(poller_of: Any) -> None:
    broken = ZeroDivisionError("ours")
    with pytest.raises(ServerLostError, match="could not be read for 3600 s") as caught:
        await poller_of(Script(broken)).wait("a", "ACTIVE", None)
    assert caught.value.__cause__ is broken


@polled
async def test_what_no_later_poll_can_mend_ends_a_wait_at_once(poller_of: Any) -> None:
    script = Script(ConfigurationError("no such project"))
    with pytest.raises(ServerLostError, match="could not be polled"):
        await poller_of(script).wait("a", "ACTIVE", None)
    assert len(script.polls) == 1


@polled
async def test_each_who_waits_has_an_error_of_his_own(poller_of: Any) -> None:
    poller = poller_of(Script(FAULTY))
    waits = [asyncio.ensure_future(poller.wait("a", "ACTIVE", None)) for _ in range(3)]
    await asyncio.wait(waits)
    assert len({id(wait.exception()) for wait in waits}) == 3


@polled
async def test_waits_for_different_things_have_each_their_own_end(poller_of: Any) -> None:
    script = Script(ACTIVE, REBOOT, SHUTOFF, FAULTY, missing())
    poller = poller_of(script)
    wanted = ("ACTIVE", "REBOOT", "SHUTOFF", "ERROR")
    waits = [asyncio.ensure_future(poller.wait("a", status, None)) for status in wanted]
    never = asyncio.ensure_future(poller.wait("a", "BUILD", None))
    assert [server.status for server in await asyncio.gather(*waits)] == list(wanted)
    with pytest.raises(ServerFaultError):
        await never


@polled
async def test_many_servers_are_polled_evenly(poller_of: Any) -> None:
    script = Script(REBOOT)
    poller = poller_of(script)
    waits = [asyncio.ensure_future(poller.wait(f"s-{number}", "ACTIVE", 300)) for number in range(300)]
    await asyncio.wait(waits)
    in_a_minute = max(sum(at <= other < at + 60 for other in script.polls) for at in script.polls[::50])
    assert in_a_minute <= 900


async def test_closing_the_client_tells_everybody_who_waits() -> None:
    async with mocked() as (bms, cloud):
        never = asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            await never.wait()
            return httpx.Response(200)

        cloud.get(SERVER).mock(side_effect=hang)
        waits = [asyncio.ensure_future(bms.nova.servers.wait_for(SERVER_ID, "ACTIVE")) for _ in range(3)]
        gone = asyncio.ensure_future(bms.nova.servers.wait_until_deleted("other"))
        for _ in range(20):
            await asyncio.sleep(0)
        await bms.aclose()
        await asyncio.wait({*waits, gone})
        for wait in (*waits, gone):
            assert isinstance(wait.exception(), ClientClosedError)
        assert str(waits[0].exception()) == (f"expected ACTIVE of server {SERVER_ID}, but the client was closed")


async def test_closing_at_once_leaves_nobody_waiting() -> None:
    bms = client_of()
    async with bms:
        wait = asyncio.ensure_future(bms.nova.servers.wait_for("a", "ACTIVE"))
        await asyncio.sleep(0)
    with pytest.raises(ClientClosedError):
        await wait
    with pytest.raises(ClientClosedError):
        await bms.nova.servers.wait_for("a", "ACTIVE")


@virtually
async def test_a_client_waits_through_trouble_until_the_server_runs() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(
            side_effect=[
                httpx.Response(200, json={"server": a_server("BUILD", task="scheduling")}),
                httpx.ReadError("cut"),
                httpx.Response(502, html="<html>"),
                httpx.Response(429, json={"error_code": "APIGW.0308", "error_msg": "too many"}),
                httpx.Response(200, json={"server": a_server("ACTIVE", task="spawning")}),
                httpx.Response(200, json={"server": a_server("ACTIVE")}),
            ]
        )
        server = await bms.nova.servers.wait_for(SERVER_ID, ServerStatus.ACTIVE, timeout=600)
        assert (server.status, len(sent(cloud))) == ("ACTIVE", 6)


@virtually
async def test_a_client_waits_until_a_server_is_gone() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(
            side_effect=[
                httpx.Response(200, json={"server": a_server("ACTIVE", task="deleting")}),
                httpx.Response(404, json=GONE),
            ]
        )
        assert await bms.nova.servers.wait_until_deleted(SERVER_ID) is None  # type: ignore[func-returns-value]


@virtually
async def test_polls_keep_within_a_limit_that_is_set() -> None:
    async with mocked(limits=Limits({"nova.servers.get": 30})) as (bms, cloud):
        cloud.get(url__startswith=SERVER.rpartition("/")[0]).respond(json={"server": a_server("REBOOT")})
        waits = [bms.nova.servers.wait_for(f"s-{number}", "ACTIVE", timeout=59) for number in range(50)]
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(end, ServerWaitTimeoutError) for end in ends)
        assert 20 <= len(sent(cloud)) <= 30


STEPS = st.lists(
    st.one_of(
        st.builds(
            partial(a_server),
            st.sampled_from(["ACTIVE", "SHUTOFF", "REBOOT", "BUILD", "ERROR", "DELETED", "NEW_ONE", "ERROR"]),
            task=st.sampled_from([None, "", "rebooting"]),
        ),
        st.sampled_from(["cut", "503", "404"]),
    ),
    min_size=1,
    max_size=8,
)
WAITS = st.lists(
    st.tuples(
        st.floats(0, 20), st.sampled_from(["ACTIVE", "SHUTOFF", "ERROR", None]), st.one_of(st.none(), st.floats(0, 30))
    ),
    min_size=1,
    max_size=6,
)


@given(steps=STEPS, waits=WAITS, takes=st.sampled_from([0.0, 0.7, 4.0]))
def test_whatever_happens_everybody_gets_an_end_and_one_poll_is_under_way_at_most(
    steps: list[Any], waits: list[tuple[float, str | None, float | None]], takes: float
) -> None:
    failures: dict[str, Exception] = {
        "cut": TransportError("cut", maybe_delivered=True),
        "503": ServerError(status=503),
        "404": missing(),
    }
    answers = [failures[s] if isinstance(s, str) else msgspec.convert(s, Server, strict=False) for s in steps]

    async def main() -> None:
        script = Script(*answers, takes=takes)
        async with anyio.create_task_group() as group:

            def start(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
                group.start_soon(run)

            poller = ServerPoller(script, start, pace=Pacer(900))

            async def come(after: float, wanted: str | None, timeout: float | None) -> None:
                await anyio.sleep(after)
                try:
                    found = await poller.wait("a", wanted, timeout if timeout is not None else 5000)
                except BmsError as error:
                    assert isinstance(error, ServerWaitError)  # noqa: PT017 - which kind depends on the steps
                else:
                    assert (found.status if found else None) in {wanted, "DELETED"}

            async with anyio.create_task_group() as waiting:
                for wait in waits:
                    waiting.start_soon(come, *wait)
        assert script.most <= 1
        figures = poller.statistics()
        assert (figures.servers, figures.waiters, figures.in_flight) == (0, 0, 0)

    run_virtually(main)


async def test_a_status_nobody_documents_can_be_waited_for_without_checks() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.get(SERVER).respond(json={"server": a_server("PAUSED")})
        assert (await bms.nova.servers.wait_for(SERVER_ID, "PAUSED")).status == "PAUSED"
    async with mocked() as (bms, _):
        with pytest.raises(InvalidRequestError, match="one of ACTIVE, BUILD, ERROR"):
            await bms.nova.servers.wait_for(SERVER_ID, "PAUSED")
