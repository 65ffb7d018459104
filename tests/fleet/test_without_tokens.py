"""A run whose tokens are revoked while the identity service is out of order: it asks rarely, and it ends (R2)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from bms_async import JobLostError, Limits, OutcomeState, Patience, TransportError
from bms_async.simulator import Answer, Cloud, Delay
from tests.simulator.logged_in import logged_in
from tests.support.virtual_clock import advance, run_virtually

BATCHES = 10


def break_tokens(cloud: Cloud, *, until: float = float("inf")) -> list[float]:
    """Have the identity service answer 503, and return when it was asked, which goes on being filled."""
    loop = asyncio.get_running_loop()
    asked_at: list[float] = []

    def out_of_order(operation: str, *_: object) -> Answer | None:
        if operation != "identity.create_token":
            return None
        asked_at.append(loop.time())
        return Answer(status=503) if loop.time() < until else None

    cloud.revoke_tokens()
    cloud.faults.append(out_of_order)
    return asked_at


def test_a_run_without_tokens_for_good_ends_and_tells_what_it_knows_of_each_server() -> None:
    async def main() -> None:
        limits = Limits({"servers.stop": BATCHES - 1})
        async with logged_in(servers=1000 * BATCHES, limits=limits, job_seconds=(20, 50), seed=7) as (bms, cloud):
            run = bms.fleet.stop(list(cloud.servers))
            await advance(10)
            asked_at = break_tokens(cloud)
            report = await run
            assert len({outcome.server_id for outcome in report.outcomes}) == len(report) == 1000 * BATCHES
            # One batch waited for its slot and was never sent; of the others nobody can know.
            assert report.by_state[OutcomeState.SKIPPED] == 1000
            assert report.by_state[OutcomeState.UNKNOWN] == 1000 * (BATCHES - 1)
            errors = {outcome.state: outcome.error for outcome in report.outcomes}
            assert isinstance(errors[OutcomeState.SKIPPED], TransportError)
            lost = errors[OutcomeState.UNKNOWN]
            assert isinstance(lost, JobLostError)
            assert isinstance(lost.__cause__, TransportError)
            # Once the jobs are lost, the servers' own states are asked for, in vain as well.
            assert asyncio.get_running_loop().time() < Patience().failing + 240
            # However many jobs and calls want one: four times in a burst, and then ever more rarely.
            later = asked_at[4:]
            assert all(two - one >= 1.0 for one, two in pairwise(later))
            assert all(two - one >= 10.0 for one, two in pairwise(later[4:]))
            assert len(asked_at) <= 20 + Patience().failing / 10

    run_virtually(main)


def test_a_run_goes_on_soon_after_the_identity_service_is_well_again() -> None:
    async def main() -> None:
        async with logged_in(servers=3000, job_seconds=(20, 50), seed=7) as (bms, cloud):
            run = bms.fleet.stop(list(cloud.servers))
            await advance(10)
            asked_at = break_tokens(cloud, until=200.0)
            report = await run
            assert report.by_state[OutcomeState.SUCCEEDED] == 3000
            assert asked_at[-2] < 200.0 <= asked_at[-1]
            assert asyncio.get_running_loop().time() < 200.0 + 45.0

    run_virtually(main)


def delay_tokens(cloud: Cloud) -> None:
    cloud.faults.append(lambda operation, *_: Delay(seconds=50) if operation == "identity.create_token" else None)


@pytest.mark.parametrize("detach", [False, True])
def test_a_native_call_that_waits_for_its_token_when_its_run_is_cancelled_was_never_made(detach: bool) -> None:
    async def main() -> None:
        async with logged_in(servers=2) as (bms, cloud):
            delay_tokens(cloud)
            run = bms.nova.fleet.stop(list(cloud.servers))
            await advance(5)
            assert run.progress.submitted == 0
            run.cancel(detach=detach)
            report = await run
            assert asyncio.get_running_loop().time() < 6
            never_made = (OutcomeState.SKIPPED, 0, None)
            assert [(each.state, each.attempts, each.started) for each in report.outcomes] == [never_made] * 2

    run_virtually(main)


def test_a_native_call_that_waits_for_its_token_when_time_is_over_was_never_made() -> None:
    async def main() -> None:
        async with logged_in(servers=2) as (bms, cloud):
            delay_tokens(cloud)
            report = await bms.nova.fleet.reboot(list(cloud.servers), total_timeout=5)
            assert report.by_state[OutcomeState.SKIPPED] == 2

    run_virtually(main)
