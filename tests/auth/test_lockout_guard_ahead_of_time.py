"""A password that was changed while its token is still valid: the guard counts for renewals ahead of time too."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from bms_async.simulator import Answer
from tests.simulator.logged_in import logged_in
from tests.support.virtual_clock import advance, run_virtually


def test_a_refused_password_is_sent_ever_more_rarely_also_while_the_old_token_is_good() -> None:
    async def main() -> None:
        async with logged_in(servers=1, token_lifetime=3600.0) as sim:
            loop = asyncio.get_running_loop()
            refused_at: list[float] = []

            def refuse(operation: str, *_: object) -> Answer | None:
                if operation != "identity.create_token":
                    return None
                refused_at.append(loop.time())
                return Answer(status=401)

            await sim.bms.servers.get(sim.ids[0])
            sim.cloud.faults.append(refuse)
            # Ten minutes before its end it is time to renew it.
            await advance(3001)
            for _ in range(590):
                await advance(1)
                await sim.bms.servers.get(sim.ids[0])
            gaps = [later - earlier for earlier, later in pairwise(refused_at)]
            assert len(gaps) == 2
            assert gaps[0] >= 30.0
            assert gaps[1] >= 180.0

    run_virtually(main)
