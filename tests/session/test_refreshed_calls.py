"""Calls that are dropped and made anew at once, as a page that is refreshed does."""

from __future__ import annotations

import asyncio

import anyio

from bms_async import Limits
from bms_async.simulator import CloudSettings, Delay
from tests.simulator.logged_in import logged_in
from tests.support.virtual_clock import advance, run_virtually


def test_calls_that_are_refreshed_while_they_wait_for_the_first_token_are_answered() -> None:
    def slow_tokens(operation: str, *_: object) -> Delay | None:
        return Delay(seconds=5.0) if operation == "identity.create_token" else None

    async def main() -> None:
        project = {"project_name": None, "project_id": CloudSettings().project_id}
        async with logged_in(servers=2, limits=Limits({"servers.get": 1}), auth=project) as sim:
            sim.cloud.faults.append(slow_tokens)
            calls = [asyncio.ensure_future(sim.bms.servers.get(server_id)) for server_id in sim.ids]
            await advance(1)
            for place, server_id in enumerate(sim.ids):
                calls[place].cancel()
                calls[place] = asyncio.ensure_future(sim.bms.servers.get(server_id))
            with anyio.fail_after(300):
                got = await asyncio.gather(*calls)
            assert [server.id for server in got] == sim.ids

    run_virtually(main)
