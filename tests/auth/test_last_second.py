"""A token's life is `expires_at` less `Date`, and `Date` has whole seconds: up to a second too long."""

import pytest

from tests.simulator.logged_in import logged_in, unauthorized
from tests.support.virtual_clock import advance, run_virtually


@pytest.mark.parametrize("margin", [0.0, 600.0])
def test_no_call_of_an_idle_client_goes_with_a_token_that_ended_within_the_last_second(margin: float) -> None:
    async def main() -> None:
        async with logged_in(servers=1, token_lifetime=3600.0, auth={"margin": margin}) as sim:
            await advance(0.9)
            (server_id,) = sim.ids
            await sim.bms.servers.get(server_id)
            await advance(3600.5)
            await sim.bms.servers.get(server_id)
            assert unauthorized(sim.cloud) == {}

    run_virtually(main)
