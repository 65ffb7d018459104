"""What the commands about power do to each server."""

from __future__ import annotations

from collections.abc import Sequence

from bms_async import BmsClient, FleetRun
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.fleet import batch_size

from .power_options import Action
from .task import RunArguments, Task

__all__ = ["PowerTask"]


class PowerTask(Task):
    """Starts, stops or reboots servers, many with one call.

    Args:
        action: What is done to them.
        verify: Whether states are read back at the end.
    """

    def __init__(self, action: Action, *, verify: bool) -> None:
        self._action = action
        self.verb = action
        self.operation = f"servers.{action}"
        self.verify = verify

    def batch(self, wave: int | None) -> int:
        """Return how many servers one call takes at most."""
        return batch_size(wave)

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        """Begin the run."""
        begin = {"start": bms.fleet.start, "stop": bms.fleet.stop, "reboot": bms.fleet.reboot}[self._action]
        return begin(servers, verify=self.verify, **options)
