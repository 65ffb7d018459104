"""``bms nova start``, ``stop`` and ``reboot``: the native calls, for clouds that have no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from bms_async import BmsClient, FleetRun, InvalidRequestError, NotFoundError, PermissionDeniedError, Server
from bms_async.cli.selection.ids import Filters, check_found, show_count
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.progress import Screen

from .common import CommonOptions
from .each import RunArguments, Task, carry_out

__all__ = ["NativeAction", "act_natively"]

NativeAction: TypeAlias = Literal["start", "stop", "reboot"]

_PAGE = 1000


class _Native(Task):
    polls = "nova.servers.list_details"

    def __init__(self, action: NativeAction) -> None:
        self._action = action
        self.verb = action
        self.operation = f"nova.servers.{action}"

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        fleet = bms.nova.fleet
        begin = {"start": fleet.start, "stop": fleet.stop, "reboot": fleet.reboot}[self._action]
        wave, share, rollout = options.get("wave_size"), options.get("abort_above"), options.get("rollout")
        sample = options.get("abort_sample")
        if sample is None:
            return begin(servers, wave_size=wave, abort_above=share, rollout=rollout)
        return begin(servers, wave_size=wave, abort_above=share, abort_sample=sample, rollout=rollout)

    async def check_credentials(self, bms: BmsClient, server_id: str) -> None:
        try:
            await bms.nova.servers.get(server_id)
        except (InvalidRequestError, NotFoundError, PermissionDeniedError):
            return

    async def find(
        self, bms: BmsClient, filters: Sequence[Filters], screen: Screen, *, whole: bool
    ) -> list[str] | ListedServers:
        servers, ids = ListedServers(), dict[str, None]()
        for choice in filters:
            found = bms.nova.servers.list_details if whole else bms.nova.servers.list
            async for server in found(tags=choice.tag, name=choice.name, status=choice.status, flavor=choice.flavor):
                if server.id in ids:
                    continue
                ids[server.id] = None
                if isinstance(server, Server):
                    servers.append(server)
                if len(ids) % _PAGE == 0:
                    await show_count(len(ids), filters, screen)
        check_found(len(ids), filters)
        return servers if whole else list(ids)


def act_natively(action: NativeAction, ids: Sequence[str], options: CommonOptions) -> int:
    """Run a power command by the native calls, and return the exit code.

    Args:
        action: What is done to the servers.
        ids: Servers, or a ``-``.
        options: Which servers, and how.

    Raises:
        UsageError: The options contradict each other, or a file cannot be used.
        BmsError: The run could not start. Else each server has its outcome.
    """
    if any(choice.enterprise_project is not None for choice in options.filters):
        raise UsageError("--enterprise-project: the native API does not know it; choose servers in another way")
    if options.rollout is not None and options.rollout.ready is not None and action == "stop":
        raise UsageError("--ready: a server that was stopped answers nothing; leave it out")
    return carry_out(_Native(action), ids, options)
