"""The rollout that the options of a power command describe, and the servers that it walks through."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from bms_async import HttpOk, InvalidRequestError, Rollout, Server, TcpOpen, Window, all_of
from bms_async.cli.terminal.exit import UsageError, print_error

from .zones import machine_zone

if TYPE_CHECKING:
    from bms_async import AllOf
    from bms_async.cli.rolling import Hours, RolloutArguments

__all__ = ["ListedServers", "check_rollout", "given_options", "make_rollout"]

_BESIDE = {
    "group_by": ("max_unavailable", "max_groups"),
    "max_groups": ("group_by",),
    "ready_address": ("ready",),
    "ready_timeout": ("ready",),
    "settle": ("canary", "max_unavailable"),
    "window_zone": ("window",),
}
"""Options that mean nothing without one of others."""


class ListedServers:
    """Servers that a list returned, in a tenth of the memory.

    Attributes:
        ids: Their ids.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._servers: list[bytes] = []

    def __len__(self) -> int:
        return len(self._servers)

    def __iter__(self) -> Iterator[Server]:
        for encoded in self._servers:
            yield msgspec.json.decode(zlib.decompress(encoded), type=Server)

    def append(self, server: Server) -> None:
        """Add a server."""
        self.ids.append(server.id)
        self._servers.append(zlib.compress(msgspec.json.encode(server), 1))

    def kept(self, ids: Sequence[str]) -> ListedServers:
        """Return those of some ids, which are in the order of these servers."""
        kept, wanted = ListedServers(), iter(ids)
        each = next(wanted, None)
        for server_id, encoded in zip(self.ids, self._servers, strict=True):
            if server_id == each:
                kept.ids.append(server_id)
                kept._servers.append(encoded)
                each = next(wanted, None)
        return kept


_WITH_THE_OTHER = frozenset({"ready_address", "window_zone"})
"""Options that are a part of another one, and say nothing of that of an earlier run."""


def make_rollout(arguments: RolloutArguments, before: Rollout | None = None) -> Rollout | None:
    """Return the rollout that was asked for; None without any option of one.

    Args:
        arguments: The options.
        before: The rollout of an earlier run, which has what was not typed; None for none.

    Raises:
        UsageError: They contradict each other, or the time zone of the window is not known.
    """
    given = given_options(arguments)
    if not given:
        return before
    had = {name for name in Rollout.__struct_fields__ if before is not None and getattr(before, name)}
    for name, others in _BESIDE.items():
        if name in given and not (given if name in _WITH_THE_OTHER else given | had).intersection(others):
            raise UsageError(f"{_spelled(name)}: expected {' or '.join(map(_spelled, others))} beside it")
    typed: dict[str, object] = {
        **arguments,
        "ready": _make_check(arguments["ready"], arguments["ready_address"]),
        "window": _make_window(arguments["window"], arguments["window_zone"]),
        "order_by": _name_of if arguments["order_by"] == "name" else None,
    }
    fields = {name: typed[name] for name in given - _WITH_THE_OTHER}
    return msgspec.structs.replace(before or Rollout(), **fields)


def given_options(arguments: RolloutArguments) -> set[str]:
    """Return which options of a rollout were typed, by their names as arguments."""
    return {name for name, value in arguments.items() if value not in (None, ())}


def check_rollout(action: str, rollout: Rollout | None) -> None:
    """Refuse a rollout that an action cannot have.

    Args:
        action: ``start``, ``stop`` or ``reboot``.
        rollout: The rollout; None without one.

    Raises:
        UsageError: No server would ever be ready.
    """
    if rollout is not None and rollout.ready is not None and action == "stop":
        raise UsageError("--ready: a server that was stopped answers nothing; leave it out")


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _name_of(server: Server) -> str:
    return server.name or ""


def _make_check(checks: Sequence[TcpOpen | HttpOk], address: str | None) -> TcpOpen | HttpOk | AllOf | None:
    if address is not None:
        checks = [msgspec.structs.replace(check, address=address) for check in checks]
    if len(checks) <= 1:
        return checks[0] if checks else None
    return all_of(*checks)


def _make_window(windows: Sequence[Hours], zone: str | None) -> Window | None:
    if not windows:
        return None
    zones = list(dict.fromkeys(name for name in (zone, *(hours.zone for hours in windows)) if name is not None))
    if len(zones) > 1:
        raise UsageError(f"--window: expected one time zone, got {' and '.join(zones)}; leave out all but one")
    named = zones[0] if zones else machine_zone()
    how = 'name one with --window-zone, such as "--window-zone Europe/Berlin"'
    if named is None:
        raise UsageError(f"--window: the time zone of this machine cannot be found out; {how}")
    try:
        window = Window("; ".join(hours.text for hours in windows), zone=named)
    except InvalidRequestError as error:
        if zones or error.argument != "zone":
            option = "--window-zone" if error.argument == "zone" else "--window"
            raise UsageError(f"{option} {error.value}: {error.rule}") from error
        raise UsageError(
            f"--window: the time zone of this machine is '{named}', which is not the name of any; {how}"
        ) from error
    if not zones:
        print_error(f"the window is by the clock of this machine's time zone, {named}; --window-zone names another one")
    return window
