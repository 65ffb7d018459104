"""Variants of the SDK whose native fleets are broken on purpose."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import anyio

from bms_async import TransportError
from bms_async.fleet.native.ends import NativeEnds
from bms_async.fleet.native.verdict import vanished
from bms_async.fleet.native.watch import NativeWatch
from bms_async.session import Session
from tests.simulation.mutants import Mutant, patched
from tests.simulation.scenario import LostBack, RunFleet, Scenario, Torn

_FEW = 150
_READINGS = ("nova.servers.list_details", "nova.servers.get")


def _one_that_a_page_does_not_show_taken_for_vanished() -> AbstractContextManager[None]:
    honest_note, honest_read = NativeWatch._note, NativeWatch._read_changes

    def note(self: NativeWatch, state: Any, began: float) -> None:
        vars(self).setdefault("shown", set()).add(state.id)
        honest_note(self, state, began)

    async def read_changes(self: NativeWatch, since: float | None, began: float) -> None:
        shown: set[str] = set()
        vars(self)["shown"] = shown
        await honest_read(self, since, began)
        for shard in self._servers.shards:
            for server_id, server in list(shard.items()):
                if server_id not in shown and server.accepted_at < began:
                    self._end(server_id, *vanished(server.action, server_id))

    return patched(NativeWatch, _note=note, _read_changes=read_changes)


def _a_reboot_called_again_after_a_lost_answer() -> AbstractContextManager[None]:
    honest = NativeEnds.act

    async def act(self: NativeEnds, server_id: str) -> None:
        try:
            await honest(self, server_id)
        except TransportError:
            await anyio.sleep(10)
            await honest(self, server_id)

    return patched(NativeEnds, act=act)


def _readings_that_keep_no_distance() -> AbstractContextManager[None]:
    honest = Session.call

    def call(self: Session, operation: Any, **arguments: Any) -> Any:
        if operation.name in _READINGS:
            arguments.pop("before_send", None)
            arguments.pop("on_send", None)
        return honest(self, operation, **arguments)

    return patched(Session, call=call)


def _natives(scenario: Scenario) -> bool:
    return scenario.servers <= _FEW and any(isinstance(deed, RunFleet) and deed.native for deed in scenario.deeds)


def _reboots_in_doubt(scenario: Scenario) -> bool:
    return any(
        isinstance(mishap.trouble, LostBack | Torn) and mishap.operation == "nova.servers.reboot"
        for mishap in scenario.mishaps
    )


NATIVE_MUTANTS = (
    Mutant(
        "readings of states that keep no distance",
        "R1",
        _readings_that_keep_no_distance,
        _natives,
    ),
    Mutant(
        "a server that a page does not show taken for vanished",
        "R2",
        _one_that_a_page_does_not_show_taken_for_vanished,
        lambda scenario: _natives(scenario) and scenario.job_seconds[1] > 15,
    ),
    Mutant(
        "a native reboot called again after a lost answer",
        "R3",
        _a_reboot_called_again_after_a_lost_answer,
        _reboots_in_doubt,
    ),
)
