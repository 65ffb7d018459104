"""Wishes on the virtual clock: what goes with which call, what is left out, and what is answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from bms_async import ClientClosedError, InvalidRequestError, Limits, Outcome, OutcomeState, ServerStatus, StaticToken
from bms_async.fleet import tracker as tracker_module
from bms_async.fleet.batch import Batch
from bms_async.reconcile.wish_queue import WishFeed
from bms_async.simulator import Answer, CutAfter, Fault
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.wire import HttpRequest
from tests.fleet._helpers import refusal, states
from tests.fleet.each._rename import tasks_of_runs
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
Wish = Callable[[str], Awaitable[Outcome]]


def in_sim(main: Callable[[Simulated], Awaitable[None]], **settings: object) -> None:
    async def run() -> None:
        async with simulated(**settings) as sim:  # type: ignore[arg-type]  # the settings of a cloud
            await main(sim)

    run_virtually(run)


def wishes(action: Wish, ids: Sequence[str]) -> list[asyncio.Future[Outcome]]:
    return [asyncio.ensure_future(action(server_id)) for server_id in ids]


async def hold_slots(sim: Simulated, count: int) -> None:
    """Use slots of ``servers.stop`` up."""
    for server_id in sim.ids[-count:]:
        await sim.bms.servers.stop([server_id])


def test_what_many_tasks_wish_for_at_once_takes_one_call_a_thousand() -> None:
    async def main(sim: Simulated) -> None:
        outcomes = await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids))
        assert states(outcomes) == {S.SUCCEEDED: 2500}
        assert [outcome.server_id for outcome in outcomes] == sim.ids
        assert sim.arrived("servers.stop") == 3
        assert len({outcome.job_id for outcome in outcomes}) == 3

    in_sim(main, servers=2500)


def test_r9_wishes_that_wait_are_answered_a_few_at_a_time_when_the_client_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answered_at_once() -> int:
        """Close a client, and return how many wishes were answered between two turns of the event loop at most."""
        async with simulated(servers=1, limits=Limits({"servers.stop": 1})) as sim:
            await hold_slots(sim, 1)
            waiting = wishes(sim.bms.power.stop, [f"server-{each:06}" for each in range(4000)])
            await advance(1.0)
            most = before = 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sim.bms.aclose)
                while before < len(waiting):
                    await asyncio.sleep(0)
                    now = sum(each.done() for each in waiting)
                    most, before = max(most, now - before), now
        assert states([each.result() for each in waiting]) == {S.SKIPPED: 4000}
        return most

    async def main() -> None:
        assert await answered_at_once() <= 1000
        monkeypatch.setattr(tracker_module, "YIELD_EVERY", 100_000)
        assert await answered_at_once() >= 3000

    run_virtually(main)


@pytest.mark.parametrize(("apart", "calls"), [(0.04, 1), (0.06, 2)])
def test_wishes_gather_for_fifty_milliseconds(apart: float, calls: int) -> None:
    async def main(sim: Simulated) -> None:
        first = wishes(sim.bms.power.start, sim.ids[:1])
        await advance(apart)
        await asyncio.gather(*first, *wishes(sim.bms.power.start, sim.ids[1:]))
        assert sim.arrived("servers.start") == calls

    in_sim(main, servers=2, latency=(0.001, 0.001))


def test_the_window_is_the_clients_to_set() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=2))
        async with cloud.client(wish_window=5.0) as bms:
            first = wishes(bms.power.stop, cloud.ids[:1])
            await advance(4.9)
            await asyncio.gather(*first, *wishes(bms.power.stop, cloud.ids[1:]))
            assert bms.power.statistics().calls == 1

    run_virtually(main)


def test_what_is_wished_for_while_a_slot_is_waited_for_goes_with_it() -> None:
    async def main(sim: Simulated) -> None:
        await hold_slots(sim, 50)
        before = sim.arrived("servers.stop")
        waiting = []
        for server_id in sim.ids[:40]:
            waiting += wishes(sim.bms.power.stop, [server_id])
            await advance(1)
        assert sim.arrived("servers.stop") == before
        assert sim.bms.power.statistics().under_way + sim.bms.power.statistics().waiting == 40
        assert states(await asyncio.gather(*waiting)) == {S.SUCCEEDED: 40}
        assert sim.arrived("servers.stop") == before + 1

    in_sim(main, servers=90)


def test_without_filling_what_came_while_a_slot_was_waited_for_takes_a_call_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leave_as_it_is(self: WishFeed, batch: Batch) -> tuple[str, ...]:
        return batch.ids

    monkeypatch.setattr(WishFeed, "fill", leave_as_it_is)

    async def main(sim: Simulated) -> None:
        await hold_slots(sim, 50)
        before = sim.arrived("servers.stop")
        first = wishes(sim.bms.power.stop, sim.ids[:1])
        await advance(1)
        await asyncio.gather(*first, *wishes(sim.bms.power.stop, sim.ids[1:40]))
        assert sim.arrived("servers.stop") == before + 2

    in_sim(main, servers=90)


def test_a_wish_for_what_is_under_way_joins_it() -> None:
    async def main(sim: Simulated) -> None:
        first = wishes(sim.bms.power.reboot, sim.ids)
        await advance(10)
        outcomes = await asyncio.gather(*first, *wishes(sim.bms.power.reboot, sim.ids))
        assert outcomes[0] is outcomes[1]
        assert sim.arrived("servers.reboot") == 1
        assert sim.bms.power.statistics().joined == 1

    in_sim(main, servers=1, job_seconds=(30, 30))


def test_a_contrary_wish_waits_for_the_end_of_the_first() -> None:
    async def main(sim: Simulated) -> None:
        stop = wishes(sim.bms.power.stop, sim.ids)
        await advance(10)
        start = wishes(sim.bms.power.start, sim.ids)
        await advance(10)
        assert sim.arrived("servers.start") == 0
        [stopped], [started] = await asyncio.gather(*stop), await asyncio.gather(*start)
        assert (stopped.state, started.state) == (S.SUCCEEDED, S.SUCCEEDED)
        assert started.started is not None
        assert stopped.ended is not None
        assert started.started >= stopped.ended
        assert (await sim.bms.servers.get(sim.ids[0])).status == ServerStatus.ACTIVE

    in_sim(main, servers=1, job_seconds=(30, 30))


def test_a_server_is_wished_for_again_and_again() -> None:
    async def main(sim: Simulated) -> None:
        for _ in range(3):
            assert states(await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids))) == {S.SUCCEEDED: 3}
            assert states(await asyncio.gather(*wishes(sim.bms.power.start, sim.ids))) == {S.SUCCEEDED: 3}
        assert sim.arrived("servers.stop") == sim.arrived("servers.start") == 3

    in_sim(main, servers=3)


def test_a_server_that_has_ended_is_sent_again_while_others_of_its_run_are_under_way() -> None:
    async def main(sim: Simulated) -> None:
        quick, slow = sim.ids
        both = wishes(sim.bms.power.stop, [quick, slow])
        await both[0]
        assert (await sim.bms.power.start(quick)).state is S.SUCCEEDED
        assert (await sim.bms.power.stop(quick)).state is S.SUCCEEDED
        await both[1]

    in_sim(main, servers=2, seed=3, job_seconds=(5, 200))


@pytest.mark.parametrize("when", ["gathering", "waiting for a slot", "beside others"])
def test_a_wish_that_is_cancelled_before_it_is_sent_is_never_sent(when: str) -> None:
    async def main(sim: Simulated) -> None:
        if when != "gathering":
            await hold_slots(sim, 50)
        before = sim.arrived("servers.stop")
        kept = wishes(sim.bms.power.stop, sim.ids[1:2] if when == "beside others" else [])
        [left] = wishes(sim.bms.power.stop, sim.ids[:1])
        await advance(0.01 if when == "gathering" else 5)
        left.cancel()
        await asyncio.gather(*kept)
        await advance(120)
        assert left.cancelled()
        assert sim.arrived("servers.stop") == before + len(kept)
        assert (await sim.bms.servers.get(sim.ids[0])).status == ServerStatus.ACTIVE
        assert sim.bms.power.statistics().under_way == 0

    in_sim(main, servers=60)


def test_a_wish_that_was_sent_is_only_left() -> None:
    async def main(sim: Simulated) -> None:
        [left] = wishes(sim.bms.power.stop, sim.ids)
        await advance(5)
        left.cancel()
        await advance(200)
        assert (await sim.bms.servers.get(sim.ids[0])).status == ServerStatus.SHUTOFF

    in_sim(main, servers=1)


def test_one_waiter_of_two_leaves_alone() -> None:
    async def main(sim: Simulated) -> None:
        [left, stays] = wishes(sim.bms.power.stop, sim.ids * 2)
        await advance(0.01)
        left.cancel()
        assert (await stays).state is S.SUCCEEDED

    in_sim(main, servers=1)


def test_an_abandoned_wish_is_revived_by_the_next_one() -> None:
    async def main(sim: Simulated) -> None:
        await hold_slots(sim, 50)
        [left] = wishes(sim.bms.power.stop, sim.ids[:1])
        await advance(5)
        left.cancel()
        await advance(5)
        assert (await sim.bms.power.stop(sim.ids[0])).state is S.SUCCEEDED

    in_sim(main, servers=60)


def test_a_wish_behind_an_abandoned_one_need_not_wait_for_its_slot() -> None:
    async def main(sim: Simulated) -> None:
        await hold_slots(sim, 50)
        [left] = wishes(sim.bms.power.stop, sim.ids[:1])
        start = wishes(sim.bms.power.start, sim.ids[:1])
        await advance(0.01)
        left.cancel()
        assert (await start[0]).state is S.UNCHANGED
        assert sim.arrived("servers.stop") == 50

    in_sim(main, servers=60)


def test_a_guilty_server_is_isolated_and_the_others_go_on() -> None:
    async def main(sim: Simulated) -> None:
        sim.cloud.servers.pop(sim.ids[3])
        ids = [*sim.ids[:3], "0" * 36, *sim.ids[3:]]
        outcomes = await asyncio.gather(*wishes(sim.bms.power.stop, ids))
        assert Counter(outcome.state for outcome in outcomes) == {S.SUCCEEDED: 19, S.FAILED: 1}
        assert outcomes[3].state is S.FAILED

    in_sim(main, servers=20)


def test_a_lost_answer_is_settled_by_the_states() -> None:
    async def main(sim: Simulated) -> None:
        lost: list[str] = []

        def cut(operation: str, nth: int, path: str) -> Fault | None:
            if operation == "servers.reboot" and not lost:
                lost.append(operation)
                return CutAfter()
            return None

        sim.cloud.faults.append(cut)
        outcomes = await asyncio.gather(*wishes(sim.bms.power.reboot, sim.ids))
        assert states(outcomes) == {S.SUCCEEDED: 20}
        assert sim.arrived("servers.reboot") == 1

    in_sim(main, servers=20)


def test_a_refusal_is_the_outcome_of_each() -> None:
    async def main(sim: Simulated) -> None:
        sim.cloud.faults.append(refusal("BMS.0003", "servers.stop"))
        outcomes = await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids))
        assert states(outcomes) == {S.FAILED: 3}
        assert {outcome.code for outcome in outcomes} == {"BMS.0003"}

    in_sim(main, servers=3)


def test_a_call_that_is_refused_for_the_limit_is_sent_again_as_it_was() -> None:
    async def main(sim: Simulated) -> None:
        first = True

        def refuse_once(operation: str, nth: int, path: str) -> Fault | None:
            nonlocal first
            if operation == "servers.stop" and first:
                first = False
                return Answer(status=429)
            return None

        sim.cloud.faults.append(refuse_once)
        stopped = wishes(sim.bms.power.stop, sim.ids[:1])
        await advance(5)
        outcomes = await asyncio.gather(*stopped, *wishes(sim.bms.power.stop, sim.ids[1:]))
        assert states(outcomes) == {S.SUCCEEDED: 2}
        assert [outcome.attempts for outcome in outcomes] == [2, 1]

    in_sim(main, servers=2)


@pytest.mark.parametrize("left", [1, 2])
def test_a_wish_that_is_abandoned_while_its_refused_call_waits_is_not_sent_again(left: int) -> None:
    async def main(sim: Simulated) -> None:
        sent = 0

        def refuse_once(operation: str, nth: int, path: str) -> Fault | None:
            nonlocal sent
            sent += operation == "servers.stop"
            return Answer(status=429) if operation == "servers.stop" and sent == 1 else None

        sim.cloud.faults.append(refuse_once)
        stopping = wishes(sim.bms.power.stop, sim.ids)
        await advance(5)
        for wish in stopping[:left]:
            wish.cancel()
        outcomes = await asyncio.gather(*stopping[left:])
        await advance(200)
        assert states(outcomes) == ({S.SUCCEEDED: 1} if left == 1 else {})
        assert sent == 3 - left
        assert (await sim.bms.servers.get(sim.ids[0])).status == ServerStatus.ACTIVE
        assert sim.bms.power.statistics().under_way == 0
        assert not tasks_of_runs()

    in_sim(main, servers=2)


def test_very_many_waiters_of_one_wish_are_answered_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bms_async.reconcile.wishes._ANSWERED_AT_ONCE", 2)

    async def main(sim: Simulated) -> None:
        outcomes = await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids * 7))
        assert len(outcomes) == 7
        assert len({id(outcome) for outcome in outcomes}) == 1

    in_sim(main, servers=1)


def test_closing_the_client_answers_every_wish() -> None:
    async def main(sim: Simulated) -> None:
        under_way = wishes(sim.bms.power.stop, sim.ids[:1])
        await advance(5)
        behind = wishes(sim.bms.power.start, sim.ids[:1])
        gathering = wishes(sim.bms.power.stop, sim.ids[1:])
        await advance(0.01)
        await sim.bms.aclose()
        outcomes = await asyncio.gather(*under_way, *behind, *gathering)
        assert [outcome.state for outcome in outcomes] == [S.UNKNOWN, S.SKIPPED, S.SKIPPED]
        assert sim.arrived("servers.start") == 0
        with pytest.raises(ClientClosedError):
            await sim.bms.power.stop(sim.ids[0])

    in_sim(main, servers=2, job_seconds=(60, 60))


def test_a_wrong_id_is_refused_before_anything_is_sent() -> None:
    async def main(sim: Simulated) -> None:
        for wrong in ("", "../x", 7, None):
            with pytest.raises(InvalidRequestError, match="server"):
                await sim.bms.power.stop(wrong)  # type: ignore[arg-type]
        assert sim.arrived("servers.stop") == 0

    in_sim(main, servers=1)


@pytest.mark.parametrize("kind", [list, tuple, set, dict.fromkeys])
def test_who_wishes_for_several_servers_at_once_reads_what_takes_them(kind: Callable[[list[str]], Any]) -> None:
    async def main(sim: Simulated) -> None:
        with pytest.raises(InvalidRequestError, match=r"expected one server; for several: bms\.fleet\.reboot\(ids\)"):
            await sim.bms.power.reboot(kind(sim.ids))
        assert sim.bms.power.statistics().wishes == 0

    in_sim(main, servers=2)


def test_a_server_can_be_given_as_a_list_returns_it_and_in_any_spelling() -> None:
    async def main(sim: Simulated) -> None:
        [server] = [server async for server in sim.bms.servers.list()]
        one, other = await asyncio.gather(sim.bms.power.stop(server), sim.bms.power.stop(server.id.upper()))
        assert one is other

    in_sim(main, servers=1)


def test_no_run_is_left_once_all_wishes_are_answered() -> None:
    async def main(sim: Simulated) -> None:
        await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids), *wishes(sim.bms.power.start, sim.ids))
        await advance(1)
        assert not tasks_of_runs()
        assert repr(sim.bms.power) == "<PowerWishes 0 waiting, 0 under way>"

    in_sim(main, servers=3)


class SlowCredentials(StaticToken):
    """Hand out no headers before they may."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.may_sign = asyncio.Event()

    async def headers(self, request: HttpRequest) -> dict[str, str]:
        await self.may_sign.wait()
        return dict(await super().headers(request))


@pytest.mark.parametrize("passes", range(4))
def test_a_batch_that_was_taken_back_when_the_client_is_closed_has_its_outcomes(passes: int) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=3))
        auth = SlowCredentials(CloudSettings().token)
        async with cloud.client(auth=auth) as bms:
            left, *others = wishes(bms.power.stop, cloud.ids)
            await advance(1)
            left.cancel()
            await asyncio.wait([left])
            auth.may_sign.set()
            for _ in range(passes):
                await asyncio.sleep(0)
            await bms.aclose()
            with anyio.fail_after(60):
                outcomes = await asyncio.gather(*others)
        assert set(states(outcomes)) <= {S.SKIPPED, S.UNKNOWN}
        assert bms.power.statistics().under_way == 0

    run_virtually(main)


def test_a_run_takes_ten_thousand_servers_and_the_next_one_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bms_async.reconcile.wish_queue._MAX_OF_A_RUN", 10)

    async def main(sim: Simulated) -> None:
        outcomes = await asyncio.gather(*wishes(sim.bms.power.stop, sim.ids))
        assert states(outcomes) == {S.SUCCEEDED: 25}
        assert sim.arrived("servers.stop") == 3

    in_sim(main, servers=25)


def test_a_run_that_fails_at_once_ends_its_wishes_and_is_not_begun_again_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("bms_async.fleet.power_work.PowerWork.carry_out", fail)

    async def main(sim: Simulated) -> None:
        with anyio.fail_after(60):
            outcome = await sim.bms.power.stop(sim.ids[0])
        assert outcome.state is S.SKIPPED
        assert "its run failed" in str(outcome.error)

    in_sim(main, servers=1)
    assert "broken" in caplog.text


def test_wishes_wait_behind_the_limit_and_never_pass_it() -> None:
    async def main(sim: Simulated) -> None:
        waiting = []
        for server_id in sim.ids:
            waiting += wishes(sim.bms.power.start, [server_id])
            await advance(0.5)
        assert states(await asyncio.gather(*waiting)) == {S.UNCHANGED: 120}
        assert sim.arrived("servers.start") == 3 + 1
        assert sim.cloud.call_counts().operations["servers.start"].refused == 0

    in_sim(main, servers=120, limits=Limits({"servers.start": 3}))


@pytest.mark.parametrize("paced", [True, False])
def test_wishes_that_come_one_by_one_never_use_a_limit_up_but_without_the_pace(
    paced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not paced:
        monkeypatch.setattr("bms_async.reconcile.wish_queue._FREE_SHARE", 0.0)

    async def main(sim: Simulated) -> None:
        waiting = []
        for server_id in sim.ids:
            waiting += wishes(sim.bms.power.stop, [server_id])
            await advance(0.5)
        outcomes = await asyncio.gather(*waiting)
        started = [outcome.started.timestamp() for outcome in outcomes if outcome.started is not None]
        wished = [started[0] + 0.5 * number for number in range(120)]
        longest = max(after - before for before, after in zip(wished, started, strict=True))
        assert longest < 6 if paced else longest > 25

    in_sim(main, servers=120)
