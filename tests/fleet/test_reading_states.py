"""What is kept of the states that a run reads."""

from __future__ import annotations

from typing import Any

import pytest

from bms_async.fleet import state_reader
from bms_async.fleet.evidence import ServerState
from bms_async.fleet.server_reader import free, index_ids
from bms_async.fleet.sharded import OrderedTable
from bms_async.fleet.state_reader import StateReader
from bms_async.limits import Lane
from bms_async.models import ServerStatus
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually


def reader_of(sim: Any) -> StateReader:
    return StateReader(sim.bms._session, Lane.INTERACTIVE)


@pytest.mark.parametrize("number", [5, 300])
def test_servers_in_the_same_state_share_it_and_are_kept_by_the_ids_of_the_run(number: int) -> None:
    async def main() -> None:
        async with simulated(servers=number) as sim:
            states = await reader_of(sim).read(await index_ids(sim.ids))
            assert states is not None
            assert set(states) == set(sim.ids)
            assert {id(key) for key in states} <= set(map(id, sim.ids))
            assert len(set(map(id, states.values()))) == 1
            assert next(iter(states.values())) == ServerState(id="", status=ServerStatus.ACTIVE, locked=False)

    run_virtually(main)


def test_servers_in_different_states_share_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # Also where there are more states than are shared.
    monkeypatch.setattr(state_reader, "_MAX_SHARED", 2)

    async def main() -> None:
        async with simulated(servers=60) as sim:
            servers = list(sim.cloud.servers.values())
            for index, server in enumerate(servers):
                server.task = (None, "start", "stop", "reboot")[index % 4]
                server.locked = index % 8 < 4
            states = await reader_of(sim).read(sim.ids)
            assert states is not None
            shown = [(states[server.id].is_busy, states[server.id].locked) for server in servers]
            assert shown == [(server.task is not None, server.locked) for server in servers]
            assert len({states[server.id].task_state for server in servers}) == 4

    run_virtually(main)


def test_tables_are_freed_and_other_mappings_left_alone() -> None:
    async def main() -> None:
        table: OrderedTable[str] = await index_ids(f"id-{number}" for number in range(5000))
        plain = {"a": 1}
        await free(table)
        await free(plain)
        assert len(table) == 0
        assert plain == {"a": 1}

    run_virtually(main)
