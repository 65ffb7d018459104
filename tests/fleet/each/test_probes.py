"""What a function's own calls tell its run, and that nothing else does: not the client's own work, nor later tasks."""

from __future__ import annotations

import asyncio

import pytest

from bms_async import Lane, PasswordAuth
from bms_async._tasks import BackgroundTasks, outside_of_all
from bms_async.session.probe import current_probe
from bms_async.testing._client import client_of
from tests.fleet._helpers import states
from tests.fleet.each._rename import S, outcome_of, outcomes_of, rename
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


def test_no_probe_is_left_where_the_run_was_begun_and_none_is_in_tasks_of_the_client() -> None:
    async def main() -> None:
        seen: list[object] = []

        async def look() -> None:
            seen.append(current_probe.get())

        async with simulated(servers=2) as sim:

            async def call(server_id: str) -> None:
                assert current_probe.get() is not None
                tasks = BackgroundTasks("test")
                await tasks.open()
                await tasks.start(look)
                await tasks.aclose()
                await outside_of_all(look, "test")
                sim.bms._core.start(look)
                await asyncio.create_task(keep())

            async def keep() -> None:
                assert current_probe.get() is not None
                await asyncio.sleep(0.1)

            assert (await outcome_of(sim, call)).state is S.SUCCEEDED
            assert current_probe.get() is None
            assert seen == [None] * 3

    run_virtually(main)


def test_polls_of_a_job_that_a_function_was_the_first_to_start_go_on_while_the_run_is_paused() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(50, 60)) as sim:
            run = sim.bms.fleet.each(sim.ids, lambda server_id: sim.bms.servers.stop([server_id]))
            await advance(5)
            run.pause()
            await advance(100)
            assert states((await run).outcomes) == {S.SUCCEEDED: 3}

    run_virtually(main)


def test_a_page_that_is_fetched_ahead_and_a_token_that_is_renewed_tell_the_run_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=1200, token_lifetime=30, page_cap=100) as sim:
            settings = sim.cloud.settings
            auth = PasswordAuth(
                auth_url="http://localhost/v3",
                username=settings.username,
                password=settings.password,
                user_domain_name=settings.user_domain_name,
                project_id=settings.project_id,
            )
            async with client_of(sim.cloud, auth=auth) as bms:

                async def call(server_id: str) -> int:
                    await asyncio.sleep(40)
                    return len([server async for server in bms.servers.list()])

                report = await bms.fleet.each(sim.ids[:2], call)
                assert [outcome.result for outcome in report.outcomes] == [1200] * 2

    run_virtually(main)


def test_a_task_that_a_function_leaves_behind_tells_the_run_nothing_when_the_function_has_returned() -> None:
    async def main() -> None:
        async with simulated(servers=250) as sim:
            left: list[asyncio.Task[object]] = []

            async def call(server_id: str) -> None:
                if len(left) < 150:
                    # From the 101st on they wait for their slots for a minute, in which others go on.
                    left.append(asyncio.ensure_future(sim.bms.servers.rename(server_id, "new")))
                await asyncio.sleep(1)

            run = sim.bms.fleet.each(sim.ids, call)
            assert states((await run).outcomes) == {S.SUCCEEDED: 250}
            assert asyncio.get_running_loop().time() < 50
            assert run._work._crew.waiting == 0  # type: ignore[attr-defined]
            await asyncio.gather(*left)

    run_virtually(main)


def test_a_function_may_make_calls_at_once_of_which_each_waits_for_its_own_slot() -> None:
    async def main() -> None:
        async with simulated(servers=120) as sim:

            async def call(server_id: str) -> int:
                return len(await asyncio.gather(*(rename(sim.bms)(server_id) for _ in range(3))))

            run = sim.bms.fleet.each(sim.ids, call)
            assert {outcome.result for outcome in (await run).outcomes} == {3}
            assert sim.arrived("servers.rename") == 360
            assert run._work._crew.waiting == 0  # type: ignore[attr-defined]
            assert run._work._crew.workers <= 60  # type: ignore[attr-defined]

    run_virtually(main)


@pytest.mark.parametrize(("given", "expected"), [(None, Lane.BULK), (Lane.INTERACTIVE, Lane.INTERACTIVE)])
def test_calls_wait_in_the_lane_of_the_run_unless_their_own_options_name_one(
    given: Lane | None, expected: Lane
) -> None:
    async def main() -> None:
        async with simulated(servers=120) as sim:
            bms = sim.bms if given is None else sim.bms.with_options(lane=given)
            run = sim.bms.fleet.each(sim.ids, rename(bms))  # type: ignore[arg-type]
            await advance(10)
            # The last per cent of the slots is not for bulk calls.
            assert run.progress.done == (99 if expected is Lane.BULK else 100)
            run.cancel()
            await run
            await advance(70)
            outcomes = await outcomes_of(sim, rename(sim.bms), sim.ids[:5])
            assert states(outcomes) == {S.SUCCEEDED: 5}

    run_virtually(main)
