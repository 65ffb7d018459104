"""Fleets on a plain OpenStack cloud: many servers over HTTP, judged from the cloud's own books."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from bms_async import (
    Auth,
    BmsClient,
    FleetReport,
    FleetTimeoutError,
    HttpRequest,
    InvalidRequestError,
    Limits,
    Outcome,
    OutcomeState,
    RetryPolicy,
    Rollout,
    Server,
    ServerFaultError,
    ServerStateError,
    StaticToken,
)
from bms_async.simulator import Answer, CutAfter, CutBefore, Delay, Fault
from bms_async.simulator.core.servers import ERROR
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.rollout._judge import books_of, judge, zones
from tests.support.clouds import Simulated, client_of, simulated
from tests.support.virtual_clock import run_virtually

S = OutcomeState
START, STOP, REBOOT = "nova.servers.start", "nova.servers.stop", "nova.servers.reboot"
PAGES, ONE = "nova.servers.list_details", "nova.servers.get"


def asked_of(sim: Simulated, *operations: str) -> list[tuple[float, str]]:
    """When which server, or page, is asked for from now on."""
    found: list[tuple[float, str]] = []

    def note(operation: str, _nth: int, path: str) -> None:
        if operation in operations:
            found.append((sim.cloud.now(), path.removesuffix("/action").rpartition("/")[2]))

    sim.cloud.faults.append(note)
    return found


def answer(operation: str, fault: Fault | None, *, first: int = 1) -> Callable[[str, int, str], Fault | None]:
    """A hook that has something happen to the first calls of an operation."""
    left = itertools.count(first, -1)
    return lambda name, _nth, _path: fault if name == operation and next(left) > 0 else None


def of(report: FleetReport, server_id: str) -> Outcome:
    return next(outcome for outcome in report.outcomes if outcome.server_id == server_id)


@pytest.mark.parametrize("servers", [1050])
def test_many_servers_cost_one_call_each_and_at_most_one_page_a_second(servers: int) -> None:
    async def main() -> None:
        shares: dict[str, Any] = {"native_error_share": 0.004, "native_vanish_share": 0.004}
        async with simulated(servers=servers, latency=(0.02, 0.2), **shares) as sim:
            ids, cloud = sim.ids, sim.cloud
            locked, busy = ids[:: servers // 3], ids[7 :: servers // 3]
            for server_id in locked:
                cloud.servers[server_id].locked = True
            for server_id in busy:
                cloud.work("reboot", cloud.machine(server_id))
            calls, pages, single = asked_of(sim, REBOOT), asked_of(sim, PAGES), asked_of(sim, ONE)
            report = await sim.bms.nova.fleet.reboot(ids)

            assert_one_outcome_each(ids, report.outcomes)
            assert not single
            assert all(later - earlier > 1.0 for (earlier, _), (later, _) in itertools.pairwise(pages))
            assert report.extra_calls == len(pages)
            called = [server_id for _, server_id in calls]
            assert len(called) < servers + 7 * len(busy)
            assert {each for each in called if called.count(each) > 1} <= set(busy)

            now = cloud.servers
            succeeded = {outcome.server_id for outcome in report.outcomes if outcome.state is S.SUCCEEDED}
            again = {each for each in busy if each in now and now[each].reboots == 2}
            once = {each for each in now if now[each].reboots == 1} - set(busy)
            assert succeeded == once | again
            assert again
            assert states(report.outcomes).keys() == {S.SUCCEEDED, S.FAILED}
            errors = {outcome.server_id: outcome.error for outcome in report.outcomes if outcome.state is S.FAILED}
            assert {each for each, error in errors.items() if "is locked" in str(error)} == set(locked)
            assert {each for each, error in errors.items() if "deleted" in str(error)} == set(ids) - now.keys()
            broken = {each for each, error in errors.items() if isinstance(error, ServerFaultError)}
            assert broken == {each for each in now if now[each].status == "ERROR"}
            assert broken
            assert set(ids) - now.keys()

    run_virtually(main)


@pytest.mark.parametrize(
    ("action", "stopped", "changed"), [("start", 0.5, "starts"), ("stop", 0.5, "stops"), ("reboot", 0.0, "reboots")]
)
def test_servers_that_are_as_asked_are_unchanged(action: str, stopped: float, changed: str) -> None:
    async def main() -> None:
        async with simulated(servers=40, stopped_share=stopped) as sim:
            wanted = "SHUTOFF" if action == "stop" else "ACTIVE"
            as_asked = {each for each, server in sim.cloud.servers.items() if server.status == wanted}
            report = await getattr(sim.bms.nova.fleet, action)(sim.bms.nova.servers.list_details())
            unchanged = {outcome.server_id for outcome in report.outcomes if outcome.state is S.UNCHANGED}
            assert unchanged == (set() if action == "reboot" else as_asked)
            assert states(report.outcomes)[S.SUCCEEDED] == 40 - len(unchanged)
            for outcome in report.outcomes:
                done = getattr(sim.cloud.servers[outcome.server_id], changed)
                assert done == (outcome.state is S.SUCCEEDED)
            # Those that were refused shared their looks.
            assert sim.arrived(ONE) == 0

    run_virtually(main)


def test_a_server_in_another_task_is_called_again_until_it_is_free() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(35.0, 35.0)) as sim:
            first, *others = sim.ids
            sim.cloud.work("reboot", sim.cloud.machine(first))
            report = await sim.bms.nova.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 6}
            assert of(report, first).attempts > 1
            assert all(of(report, each).attempts == 1 for each in others)

    run_virtually(main)


def test_a_server_that_is_never_free_is_failed_with_the_clouds_words() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(5000.0, 5000.0)) as sim:
            sim.cloud.work("reboot", sim.cloud.machine(sim.ids[0]))
            report = await sim.bms.nova.fleet.stop(sim.ids[:1])
            outcome = report.outcomes[0]
            assert (outcome.state, outcome.attempts) == (S.FAILED, 7)
            assert "while it is in task_state reboot" in str(outcome.error)
            once = await sim.bms.nova.fleet.stop(sim.ids[:1], retry_transient=False)
            assert (once.outcomes[0].state, once.outcomes[0].attempts) == (S.FAILED, 1)

    run_virtually(main)


def test_each_refusal_is_its_own_servers_outcome_and_says_why() -> None:
    async def main() -> None:
        async with simulated(servers=12, fail_share=0.0, job_seconds=(5.0, 9.0)) as sim:
            locked, gone, forbidden, broken, odd, *others = sim.ids
            sim.cloud.servers[locked].locked = True
            server = sim.cloud.servers[broken]
            server._statuses[server.index] = ERROR
            assert server.status == "ERROR"
            sim.cloud.delete(sim.cloud.machine(gone))
            await anyio.sleep(600)
            assert gone not in sim.cloud.servers

            def refuse(operation: str, _nth: int, path: str) -> Fault | None:
                if operation != START:
                    return None
                if forbidden in path:
                    return Answer(status=403, body=b'{"forbidden": {"message": "policy does not allow", "code": 403}}')
                return Answer(status=400) if odd in path else None

            sim.cloud.faults.append(refuse)
            report = await sim.bms.nova.fleet.start([locked, gone, forbidden, broken, odd, *others])
            assert states(report.outcomes) == {S.FAILED: 4, S.UNCHANGED: 8}
            # It is ACTIVE, and that it is locked does not matter.
            assert of(report, locked).state is S.UNCHANGED
            assert "it vanished: the cloud does not know it" in str(of(report, gone).error)
            assert "policy does not allow" in str(of(report, forbidden).error)
            assert isinstance(of(report, broken).error, ServerFaultError)
            assert getattr(of(report, odd).error, "status", None) == 400
            stopped = await sim.bms.nova.fleet.stop([locked])
            error = stopped.outcomes[0].error
            assert isinstance(error, ServerStateError)
            assert "it is locked: it is ACTIVE" in str(error)
            assert stopped.outcomes[0].attempts == 1

    run_virtually(main)


def test_a_reboot_whose_answer_was_lost_counts_if_it_was_seen_and_is_never_called_again() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(30.0, 60.0)) as sim:
            done, never = sim.ids[:4], sim.ids[4:8]
            cut = {server_id: CutAfter() for server_id in done} | {server_id: CutBefore() for server_id in never}
            calls = asked_of(sim, REBOOT)
            sim.cloud.faults.append(
                lambda operation, _nth, path: cut.get(path.split("/")[-2]) if operation == REBOOT else None
            )
            report = await sim.bms.nova.fleet.reboot(sim.ids)
            assert sorted(server_id for _, server_id in calls) == sorted(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 16, S.UNKNOWN: 4}
            assert {each.server_id for each in report.outcomes if each.state is S.UNKNOWN} == set(never)
            assert all(sim.cloud.servers[each].reboots == 1 for each in set(sim.ids) - set(never))
            error = of(report, never[0]).error
            assert "its answer was lost, and for 120 s nothing has shown how it ended" in str(error)
            assert error is not None
            assert getattr(error.__cause__, "maybe_delivered", False)

    run_virtually(main)


def test_a_lost_reboot_that_nobody_saw_is_unknown_even_if_the_server_has_changed() -> None:
    """Control: the same reboot succeeds if its answer arrives; the change alone could be a renaming."""

    async def main() -> None:
        for fault, state in ((CutAfter(), S.UNKNOWN), (None, S.SUCCEEDED)):
            async with simulated(servers=3, job_seconds=(1.5, 1.5)) as sim:
                # The reboot is over before its answer is lost, and so before the first reading.
                sim.cloud.faults.append(answer(REBOOT, fault))
                sim.cloud.faults.append(answer(PAGES, Delay(seconds=10, acted=False), first=2))
                report = await sim.bms.nova.fleet.reboot(sim.ids[:1])
                assert report.outcomes[0].state is state
                assert sim.cloud.servers[sim.ids[0]].reboots == 1
                assert sim.arrived(REBOOT) == 1

    run_virtually(main)


def test_a_refused_reboot_that_was_lost_later_is_not_taken_for_somebody_elses() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(60.0, 60.0)) as sim:
            first = sim.ids[0]
            sim.cloud.work("reboot", sim.cloud.machine(first))
            calls = asked_of(sim, REBOOT)

            def lose_second(operation: str, _nth: int, _path: str) -> Fault | None:
                return CutBefore() if operation == REBOOT and len(calls) == 2 else None

            sim.cloud.faults.append(lose_second)
            report = await sim.bms.nova.fleet.reboot([first])
            assert report.outcomes[0].state is S.UNKNOWN
            assert len(calls) == 2

    run_virtually(main)


@pytest.mark.parametrize(
    "fault", [CutBefore(), CutAfter(), Answer(status=502), Answer(status=500, acted=True)], ids=str
)
@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_start_or_a_stop_whose_answer_was_lost_is_settled_by_the_server(action: str, fault: Fault) -> None:
    async def main() -> None:
        stopped = 1.0 if action == "start" else 0.0
        async with simulated(servers=12, stopped_share=stopped, job_seconds=(8.0, 30.0), retry=None) as sim:
            sim.cloud.faults.append(answer(f"nova.servers.{action}", fault, first=8))
            report = await getattr(sim.bms.nova.fleet, action)(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 12}
            wanted = "ACTIVE" if action == "start" else "SHUTOFF"
            assert {server.status for server in sim.cloud.servers.values()} == {wanted}
            counted = [getattr(server, f"{action}s") for server in sim.cloud.servers.values()]
            assert counted == [1] * 12

    run_virtually(main)


def test_a_stop_that_is_lost_each_time_is_unknown_and_called_three_times() -> None:
    async def main() -> None:
        async with simulated(servers=3, retry=None) as sim:
            sim.cloud.faults.append(lambda operation, *_: CutBefore() if operation == STOP else None)
            report = await sim.bms.nova.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 3}
            assert {outcome.attempts for outcome in report.outcomes} == {3}
            assert "its answer was lost: it is ACTIVE" in str(report.outcomes[0].error)

    run_virtually(main)


def test_states_that_cannot_be_read_leave_a_refusal_as_it_is() -> None:
    async def main() -> None:
        async with simulated(servers=10, stopped_share=1.0, retry=None) as sim:
            sim.cloud.faults.append(lambda operation, *_: Answer(status=500) if operation in (PAGES, ONE) else None)
            refused = await sim.bms.nova.fleet.stop(sim.ids)
            assert states(refused.outcomes) == {S.FAILED: 10}
            assert "while it is in vm_state stopped" in str(refused.outcomes[0].error)
            sim.cloud.faults.append(lambda operation, *_: CutAfter() if operation == START else None)
            lost = await sim.bms.nova.fleet.start(sim.ids)
            assert states(lost.outcomes) == {S.UNKNOWN: 10}

    run_virtually(main)


def test_no_more_calls_are_made_than_the_limit_allows_and_no_more_at_once_than_it_needs() -> None:
    async def main() -> None:
        limits = Limits({REBOOT: 100})
        async with simulated(servers=250, limits=limits, latency=(0.1, 0.1), job_seconds=(2.0, 5.0)) as sim:
            calls = asked_of(sim, REBOOT)
            report = await sim.bms.nova.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 250}
            times = [at for at, _ in calls]
            assert all(later - earlier >= 60 for earlier, later in zip(times, times[100:], strict=False))
            assert times[-1] - times[0] < 125

    run_virtually(main)


@pytest.mark.parametrize("max_workers", [1, 7])
def test_no_more_calls_are_under_way_than_workers(max_workers: int) -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(2.0, 5.0)) as sim:
            most = 0

            def slow(operation: str, _nth: int, _path: str) -> Fault | None:
                nonlocal most
                most = max(most, sim.bms._session._core.statistics().open_calls)
                return Delay(seconds=1) if operation == REBOOT else None

            sim.cloud.faults.append(slow)
            report = await sim.bms.nova.fleet.reboot(sim.ids, max_workers=max_workers)
            assert states(report.outcomes) == {S.SUCCEEDED: 30}
            # And one for the listing.
            assert max_workers <= most <= max_workers + 1

    run_virtually(main)


def test_a_run_whose_time_is_over_reads_once_more_and_says_what_that_proves() -> None:
    async def main() -> None:
        async with simulated(servers=60, limits=Limits({STOP: 40}), job_seconds=(3.0, 200.0)) as sim:
            report = await sim.bms.nova.fleet.stop(sim.ids, total_timeout=50)
            assert report.timed_out
            assert_one_outcome_each(sim.ids, report.outcomes)
            off = {each for each, server in sim.cloud.servers.items() if server.status == "SHUTOFF"}
            assert {outcome.server_id for outcome in report.outcomes if outcome.state is S.SUCCEEDED} == off
            assert states(report.outcomes)[S.SKIPPED] == 20
            unknown = next(outcome for outcome in report.outcomes if outcome.state is S.UNKNOWN)
            assert isinstance(unknown.error, FleetTimeoutError)

    run_virtually(main)


def test_a_call_that_was_under_way_when_time_was_over_is_judged_by_its_server() -> None:
    async def main() -> None:
        async with simulated(servers=4, job_seconds=(5.0, 5.0)) as sim:
            sim.cloud.faults.append(lambda operation, *_: Delay(seconds=50) if operation == STOP else None)
            report = await sim.bms.nova.fleet.stop(sim.ids, total_timeout=20)
            # They are off, and no reading has shown that it was this run's doing.
            assert states(report.outcomes) == {S.UNCHANGED: 4}
            assert sim.arrived(ONE) == 0

    run_virtually(main)


def test_a_run_that_is_cancelled_follows_what_was_accepted() -> None:
    async def main() -> None:
        async with simulated(servers=50, limits=Limits({REBOOT: 30}), job_seconds=(40.0, 90.0)) as sim:
            run = sim.bms.nova.fleet.reboot(sim.ids)
            await anyio.sleep(20)
            assert run.progress.in_flight >= 30
            run.cancel()
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 30, S.SKIPPED: 20}
            again = sim.bms.nova.fleet.reboot(sim.ids[:3])
            await anyio.sleep(20)
            again.cancel(detach=True)
            assert states((await again).outcomes) == {S.UNKNOWN: 3}

    run_virtually(main)


@pytest.mark.parametrize(
    ("fault", "state"),
    [(Answer(status=429), S.SKIPPED), (CutAfter(), S.UNKNOWN)],
)
def test_a_call_that_waits_to_be_repeated_when_its_run_is_let_go_is_in_doubt_only_if_it_was_not_refused(
    fault: Fault, state: OutcomeState
) -> None:
    async def main() -> None:
        late = RetryPolicy(initial_delay=1e6, max_delay=1e6)
        async with simulated(servers=1, limits=Limits.unlimited(), retry=late) as sim:
            sim.cloud.faults.append(answer(STOP, fault))
            run = sim.bms.nova.fleet.stop(sim.ids)
            await anyio.sleep(1)
            assert sim.arrived(STOP) == 1
            run.cancel(detach=True)
            assert states((await run).outcomes) == {state: 1}

    run_virtually(main)


class BreakingAuth:
    """Credentials that break at the second request of all."""

    def __init__(self, auth: Auth, fault: BaseException) -> None:
        self._auth = auth
        self._faults = iter([None, fault])

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        if (fault := next(self._faults, None)) is not None:
            raise fault
        return await self._auth.headers(request)

    def redact(self, text: str) -> str:
        return self._auth.redact(text)


@pytest.mark.parametrize("fault", [ValueError("the vault is shut"), asyncio.CancelledError()])
@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_call_whose_answer_was_lost_and_that_credentials_kept_from_being_repeated_is_unknown(
    action: str, fault: BaseException
) -> None:
    async def main() -> None:
        async with simulated(servers=1, stopped_share=float(action == "start")) as sim:
            sim.cloud.faults.append(answer(f"nova.servers.{action}", CutAfter()))
            auth = BreakingAuth(StaticToken(sim.cloud.settings.token), fault)
            async with client_of(sim.cloud, auth=auth) as bms:
                report = await getattr(bms.nova.fleet, action)(sim.ids)
                assert states(report.outcomes) == {S.UNKNOWN: 1}
                assert repr(fault) in repr(report.outcomes[0].error.__cause__)

    run_virtually(main)


def test_nothing_begins_while_a_run_is_paused() -> None:
    async def main() -> None:
        async with simulated(servers=120, limits=Limits({STOP: 60})) as sim:
            calls = asked_of(sim, STOP)
            run = sim.bms.nova.fleet.stop(sim.ids)
            await anyio.sleep(30)
            run.pause()
            before = len(calls)
            await anyio.sleep(600)
            assert 0 < len(calls) == before < 120
            assert run.progress.waits_for is not None
            run.resume()
            assert states((await run).outcomes) == {S.SUCCEEDED: 120}

    run_virtually(main)


@pytest.mark.parametrize("as_ids", [True, False], ids=["ids", "servers"])
def test_a_rollout_keeps_each_groups_servers_up(as_ids: bool) -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(20.0, 40.0), boot_seconds=(5.0, 30.0)) as sim:
            pages = asked_of(sim, PAGES)
            canaries = sim.ids[:2]

            async def is_up(server: Server) -> bool:
                return sim.cloud.is_reachable(server.id)

            rollout = Rollout(canary=2, group_by="availability_zone", max_unavailable=3, ready=is_up, settle=5.0)
            fleet = sim.bms.nova.fleet
            servers = None if as_ids else [each async for each in sim.bms.nova.servers.list_details()]
            pages.clear()
            report = await fleet.reboot(sim.ids if servers is None else servers, rollout=rollout)
            assert states(report.outcomes) == {S.SUCCEEDED: 30}
            if servers is not None:
                canaries = [each.id for each in servers[:2]]
            judge(books_of(sim.cloud), group_of=zones(sim.cloud), allowed=3, canaries=canaries, settle=5.0)
            assert all(later - earlier > 1.0 for (earlier, _), (later, _) in itertools.pairwise(pages))
            assert sim.arrived(ONE) == 0

    run_virtually(main)


def test_a_server_that_failed_after_it_was_accepted_stays_unavailable() -> None:
    async def main() -> None:
        async with simulated(servers=8, native_error_share=1.0, job_seconds=(5.0, 9.0)) as sim:
            report = await sim.bms.nova.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=2))
            assert states(report.outcomes) == {S.FAILED: 2, S.SKIPPED: 6}
            assert sim.arrived(REBOOT) == 2

    run_virtually(main)


def test_a_server_that_was_refused_takes_no_room() -> None:
    async def main() -> None:
        async with simulated(servers=8, job_seconds=(5.0, 9.0)) as sim:
            for server_id in sim.ids[:4]:
                sim.cloud.servers[server_id].locked = True
            report = await sim.bms.nova.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=1))
            assert states(report.outcomes) == {S.FAILED: 4, S.SUCCEEDED: 4}

    run_virtually(main)


def test_a_rollout_of_ids_that_the_cloud_does_not_know_skips_them() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            unknown = "00000000-0000-4000-8000-000000000000"
            rollout = Rollout(group_by="tag:rack")
            report = await sim.bms.nova.fleet.reboot([*sim.ids, unknown], rollout=rollout)
            assert of(report, unknown).state is S.SKIPPED
            assert sim.arrived(REBOOT) == 3

    run_virtually(main)


def test_a_share_of_failures_ends_the_run() -> None:
    async def main() -> None:
        async with simulated(servers=60, native_error_share=1.0, job_seconds=(5.0, 9.0)) as sim:
            report = await sim.bms.nova.fleet.reboot(sim.ids, wave_size=10, abort_above=0.1, abort_sample=10)
            assert report.aborted
            assert states(report.outcomes)[S.SKIPPED] >= 30

    run_virtually(main)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"verify": True}, "verify=True: expected none: each outcome rests on the server's state"),
        ({"jobs": ()}, "jobs=.*: expected none: the native calls start no jobs"),
        ({"on_job": print}, "on_job=.*: expected none: the native calls start no jobs"),
        ({"max_workers": 0}, "max_workers=0: expected 1 to"),
        ({"wave_size": 0}, "wave_size=0: expected 1 or more servers"),
    ],
)
def test_options_without_a_meaning_are_refused_before_anything_is_sent(options: dict[str, Any], rule: str) -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            with pytest.raises(InvalidRequestError, match=f"^{rule}"):
                sim.bms.nova.fleet.stop(sim.ids, **options)
            assert sim.arrived(STOP) == 0

    run_virtually(main)


def test_hooks_outcomes_and_progress_are_those_of_any_run() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            told: list[Outcome] = []
            run = sim.bms.with_options(total_timeout=1.0, max_wait=0.0).nova.fleet.stop(sim.ids, on_outcome=told.append)
            streamed = [outcome async for outcome in run]
            report = await run
            assert streamed == told == list(report.outcomes)
            assert report.action == STOP
            assert report.batches == 20
            assert run.progress.extra_calls == report.extra_calls == sim.arrived(PAGES)
            assert isinstance(sim.bms, BmsClient)
            assert sim.bms.nova.fleet is sim.bms.nova.fleet

    run_virtually(main)
