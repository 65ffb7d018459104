"""A call whose token was rejected: its hook events until the next attempt, and what may end it there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bms_async import AuthenticationError, CallTimeoutError, FleetReport, Limits, OutcomeState, TransportError
from bms_async.simulator import Answer
from tests.simulator.logged_in import logged_in
from tests.support.virtual_clock import advance, run_virtually


def breaks_tokens(times: int | None = None) -> Callable[..., Answer | None]:
    """A fault: the identity service is out of order so many times, or for good."""
    left = [times]

    def fault(operation: str, *_: object) -> Answer | None:
        if operation != "identity.create_token" or left[0] == 0:
            return None
        left[0] = None if left[0] is None else left[0] - 1
        return Answer(status=503)

    return fault


@pytest.mark.parametrize("detach", [False, True])
def test_a_cancelled_run_does_not_send_a_batch_again_that_was_refused_for_its_token(detach: bool) -> None:
    async def main() -> FleetReport:
        async with logged_in(servers=2, limits=Limits({"servers.stop": 1})) as sim:
            await sim.bms.servers.get(sim.ids[0])
            sim.cloud.revoke_tokens()
            run = sim.bms.fleet.stop(sim.ids)
            # It was answered 401, the token is there, and the batch waits for its next slot.
            await advance(10)
            run.cancel(detach=detach)
            report = await run
            await advance(100)
            assert sim.arrived("servers.stop") == 1
            assert {server.stops for server in sim.cloud.servers.values()} == {0}
            return report

    assert run_virtually(main).by_state[OutcomeState.SKIPPED] == 2


def test_a_deadline_that_comes_while_the_token_is_renewed_knows_that_the_call_was_refused() -> None:
    async def main() -> CallTimeoutError:
        async with logged_in(servers=2) as sim:
            await sim.bms.servers.get(sim.ids[0])
            sim.cloud.revoke_tokens()
            sim.cloud.faults.append(breaks_tokens())
            with pytest.raises(CallTimeoutError) as caught:
                await sim.bms.with_options(total_timeout=0.5).servers.stop(sim.ids)
            return caught.value

    error = run_virtually(main)
    assert not error.maybe_delivered
    assert not error.maybe_done


def test_a_call_whose_renewal_failed_is_tried_again_like_one_that_had_no_token() -> None:
    async def main() -> None:
        async with logged_in(servers=2) as sim:
            server_id = sim.ids[0]
            await sim.bms.servers.get(server_id)
            sim.cloud.revoke_tokens()
            # A renewal asks four times.
            sim.cloud.faults.append(breaks_tokens(times=5))
            assert (await sim.bms.servers.get(server_id)).id == server_id

    run_virtually(main)


def test_an_error_of_a_renewal_has_the_refusal_before_it() -> None:
    async def main() -> TransportError:
        async with logged_in(servers=2) as sim:
            await sim.bms.servers.get(sim.ids[0])
            sim.cloud.revoke_tokens()
            sim.cloud.faults.append(breaks_tokens())
            with pytest.raises(TransportError) as caught:
                await sim.bms.servers.get(sim.ids[0])
            return caught.value

    error = run_virtually(main)
    assert isinstance(error.previous[0], AuthenticationError)
    assert not error.maybe_done
