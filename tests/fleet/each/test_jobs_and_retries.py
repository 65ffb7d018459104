"""What a function's call begins is followed to its end, and what was busy is called again, but nothing twice (R3)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from bms_async import JobHandle, JobLostError, Limits
from bms_async.simulator import Answer, Fault, NotFoundJob
from bms_async.testing._client import client_of
from tests.fleet._helpers import by_state_and_code, states
from tests.fleet.each._rename import S, outcome_of, outcomes_of, reboot, rename
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


def busy(*operations: str, times: int = 1, code: str = "BMS.1001") -> Callable[[str, int, str], Fault | None]:
    """A hook that refuses the first calls of operations for each path."""
    seen: Counter[str] = Counter()
    body = b'{"error": {"code": "%s", "message": "busy"}}' % code.encode()

    def refuse(operation: str, nth: int, path: str) -> Fault | None:
        if operation not in operations:
            return None
        seen[path] += 1
        return Answer(status=400, body=body) if seen[path] <= times else None

    return refuse


def test_systems_that_are_installed_again_are_watched_to_the_end_of_their_jobs() -> None:
    async def main() -> None:
        async with simulated(servers=30, stopped_share=1, fail_share=0.1, job_seconds=(60, 80)) as sim:
            await sim.bms.nova.keypairs.create("ops")
            jobs: list[JobHandle] = []
            report = await sim.bms.fleet.each(
                sim.ids,
                lambda server_id: sim.bms.servers.reinstall_os(server_id, key_name="ops", user_id="u" * 32),
                on_job=jobs.append,
                action="reinstall",
            )
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None): 27, ("FAILED", "BMS.3037"): 3}
            assert {outcome.job_id for outcome in report.outcomes} == {job.id for job in jobs}
            assert (len(jobs), report.batches, report.action) == (30, 30, "reinstall")
            assert all(server.status == "ACTIVE" for server in sim.cloud.servers.values() if not server.faulty)
            assert min(outcome.seconds or 0 for outcome in report.outcomes) >= 60

    run_virtually(main)


def test_a_job_that_is_lost_is_unknown() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            sim.cloud.faults.append(lambda operation, *_: NotFoundJob() if operation == "jobs.get" else None)
            outcome = await outcome_of(sim, reboot(sim.bms))
            assert (outcome.state, type(outcome.error)) == (S.UNKNOWN, JobLostError)
            assert outcome.job_id
            assert sim.arrived("servers.reboot") == 1

    run_virtually(main)


def test_a_job_of_another_server_says_nothing_of_this_one() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            outcome = await outcome_of(sim, lambda _: sim.bms.servers.stop([sim.ids[2]]))
            assert outcome.state is S.UNKNOWN
            assert "is not about server" in str(outcome.error)

    run_virtually(main)


def test_a_job_that_is_picked_up_by_its_id_is_followed_for_the_server_that_it_names() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(50, 60)) as sim:
            job = await client_job(sim.cloud)

            async def call(server_id: str) -> object:
                return sim.bms.jobs.watch(job)

            report = await sim.bms.fleet.each(sim.ids[:2], call)
            assert states(report.outcomes) == {S.SUCCEEDED: 1, S.UNKNOWN: 1}
            assert asyncio.get_running_loop().time() >= 50

    async def client_job(cloud: object) -> str:
        async with client_of(cloud) as other:  # type: ignore[arg-type]
            ids = list(cloud.servers)  # type: ignore[attr-defined]
            return (await other.servers.stop([ids[0]])).id

    run_virtually(main)


def test_a_job_of_a_client_that_is_closed_is_unknown_and_holds_the_run_up_no_longer() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(50, 60)) as sim:

            async def call(server_id: str) -> object:
                async with client_of(sim.cloud) as other:
                    return await other.servers.stop([server_id])

            report = await asyncio.wait_for(sim.bms.fleet.each(sim.ids, call), 100)
            assert states(report.outcomes) == {S.UNKNOWN: 3}

    run_virtually(main)


def test_a_server_that_is_busy_is_called_again_later() -> None:
    async def main() -> None:
        async with simulated(servers=50) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=2))
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 50}
            assert {outcome.attempts for outcome in report.outcomes} == {3}
            assert run.progress.submitted == 50
            assert min(outcome.seconds or 0 for outcome in report.outcomes) >= 30

    run_virtually(main)


def test_a_server_that_stays_busy_fails_with_the_refusal_and_at_once_if_nothing_is_to_be_repeated() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=99))
            kept = await sim.bms.fleet.each(sim.ids, rename(sim.bms))
            once = await sim.bms.fleet.each(sim.ids, rename(sim.bms), retry_transient=False)
            assert by_state_and_code(kept.outcomes) == by_state_and_code(once.outcomes) == {("FAILED", "BMS.1001"): 2}
            assert {outcome.attempts for outcome in kept.outcomes} == {7}
            assert {outcome.attempts for outcome in once.outcomes} == {1}

    run_virtually(main)


def test_servers_that_are_busy_when_the_run_is_cancelled_keep_their_refusal() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=99))
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            await advance(5)
            run.cancel()
            assert by_state_and_code((await run).outcomes) == {("FAILED", "BMS.1001"): 3}

    run_virtually(main)


def test_a_refused_repetition_that_waits_for_its_slot_keeps_its_first_refusal_if_the_run_is_cancelled() -> None:
    async def main() -> None:
        async with simulated(servers=1, limits=Limits({"servers.rename": 1})) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=99))
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            await advance(30)
            run.cancel()
            report = await run
            assert by_state_and_code(report.outcomes) == {("FAILED", "BMS.1001"): 1}
            assert report.outcomes[0].attempts == 1

    run_virtually(main)


def test_r3_a_function_that_has_rebooted_is_not_called_again_because_a_later_call_was_refused() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(1, 2)) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=99))

            async def call(server_id: str) -> None:
                await (await sim.bms.servers.reboot([server_id]))
                await sim.bms.servers.rename(server_id, "new")

            outcomes = await outcomes_of(sim, call)
            assert by_state_and_code(outcomes) == {("FAILED", "BMS.1001"): 20}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


def test_a_function_whose_reboot_was_refused_is_called_again_though_it_has_renamed() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(10, 20)) as sim:
            sim.cloud.faults.append(busy_once_each("servers.reboot"))

            async def call(server_id: str) -> object:
                await sim.bms.servers.rename(server_id, "new")
                return await sim.bms.servers.reboot([server_id])

            outcomes = await outcomes_of(sim, call)
            assert states(outcomes) == {S.SUCCEEDED: 6}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}
            assert (sim.arrived("servers.rename"), sim.arrived("servers.reboot")) == (12, 12)

    run_virtually(main)


def busy_once_each(operation: str, count: int = 6) -> Callable[[str, int, str], Fault | None]:
    body = b'{"error": {"code": "BMS.1001", "message": "busy"}}'
    return lambda name, nth, path: Answer(status=400, body=body) if name == operation and nth <= count else None


@pytest.mark.parametrize(("action", "expected"), [("stop", 2), ("reboot", 1)])
def test_r3_a_job_that_failed_because_its_server_is_being_restarted_is_not_repeated_if_it_is_a_restart(
    action: str, expected: int
) -> None:
    async def main() -> None:
        async with simulated(servers=1, job_seconds=(100, 100)) as sim:
            await sim.bms.servers.reboot(sim.ids)
            outcomes = await outcomes_of(sim, lambda server_id: getattr(sim.bms.servers, action)([server_id]))
            arrived = sim.arrived(f"servers.{action}") - (action == "reboot")
            assert (arrived > 1) is (expected > 1)
            assert outcomes[0].state is (S.SUCCEEDED if action == "stop" else S.FAILED)

    run_virtually(main)


def test_r3_a_run_that_a_function_has_begun_is_not_begun_twice() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(busy("servers.rename", times=99))

            async def call(server_id: str) -> None:
                await sim.bms.fleet.reboot([server_id])
                await sim.bms.servers.rename(server_id, "new")

            outcomes = await outcomes_of(sim, call)
            assert states(outcomes) == {S.FAILED: 5}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)
