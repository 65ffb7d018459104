"""``bms nova start``, ``stop`` and ``reboot``: the native calls, for clouds that have no others."""

from __future__ import annotations

from collections.abc import Sequence

from bms_async import BmsClient, FleetRun
from bms_async.cli.selection.rollouts import ListedServers, check_rollout
from bms_async.cli.terminal.exit import UsageError

from .common import CommonOptions
from .each import carry_out
from .power_options import Action
from .task import RunArguments, Task

__all__ = ["act_natively"]


class _Native(Task):
    polls = "nova.servers.list_details"
    native = True

    def __init__(self, action: Action) -> None:
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


def act_natively(action: Action, ids: Sequence[str], options: CommonOptions) -> int:
    """Run a power command by the native calls, and return the exit code.

    Args:
        action: What is done to the servers.
        ids: Servers, or a ``-``.
        options: Which servers, and how.

    Raises:
        UsageError: The options contradict each other, or a file cannot be used.
        BmsError: The run could not start. Else each server has its outcome.
    """
    if options.filters.enterprise_project is not None:
        raise UsageError("--enterprise-project: the native API does not know it; choose servers in another way")
    check_rollout(action, options.rollout)
    return carry_out(_Native(action), ids, options)
