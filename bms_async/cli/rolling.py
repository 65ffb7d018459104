"""The options of a rollout as they are typed, and the rules by which click refuses a wrong one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn, TypedDict

import click

from .terminal.numbers import read_seconds, read_share

if TYPE_CHECKING:
    from bms_async import HttpOk, TcpOpen

    # Only a later click has it with an argument.
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType

# fmt: off
__all__ = [
    "GROUPS_KNOWN", "Allowed", "GroupName", "Hours", "HoursType", "Probe", "RolloutArguments", "Seconds",
    "rollout_arguments",
]
# fmt: on

_COUNT: Final = re.compile(r"0*[1-9][0-9]{0,8}")
_ZONE: Final = re.compile(r"(.*\d)\s+([A-Za-z]\S*)", re.DOTALL)
_PROBE: Final = re.compile(r"(tcp|https?):(\d{1,5})?(/.*)?", re.DOTALL)
_SHORT: Final = {"az": "availability_zone"}

GROUPS_KNOWN: Final = ("az", "flavor", "host_id", "hypervisor_hostname", "image", "metadata:", "tag:")
"""What servers are mostly grouped by, for completion."""


class Hours(NamedTuple):
    """When a rollout may begin something, as it was typed.

    Attributes:
        text: Days and hours.
        zone: The time zone; None where none was typed.
    """

    text: str
    zone: str | None


class RolloutArguments(TypedDict):
    """The options of a rollout, as click has read them."""

    canary: int | None
    group_by: str | None
    max_unavailable: float | None
    max_groups: int | None
    ready: Sequence[TcpOpen | HttpOk]
    ready_address: str | None
    ready_timeout: float | None
    settle: float | None
    window: Sequence[Hours]
    window_zone: str | None
    order_by: str | None


def rollout_arguments(typed: RolloutArguments) -> RolloutArguments:
    """Return the options of a rollout alone, of a command that has others beside them.

    Args:
        typed: All of its options.
    """
    return {name: typed[name] for name in RolloutArguments.__required_keys__}  # type: ignore[return-value, literal-required]  # its own keys


class _Type(ParamType):
    """A type of values that a rule describes.

    Attributes:
        rule: What is expected.
    """

    rule: ClassVar[str]

    def refuse(self, value: object, why: str = "") -> NoReturn:
        """Refuse a value with the rule."""
        self.fail(f"{value!r}: {why or self.rule}.")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002 - as click calls it
        """Return the value that was typed."""
        return self.read(value.strip()) if isinstance(value, str) else value

    def read(self, text: str) -> Any:
        """Return the value of a text."""
        raise NotImplementedError


class Seconds(_Type):
    """A time such as ``900``, ``15m`` or ``1h``.

    Args:
        least: The least number of seconds.
    """

    name = "seconds"
    rule = "expected seconds, or a time such as 30s, 15m or 2h"

    def __init__(self, *, least: float = 0.0) -> None:
        self._least = least

    def read(self, text: str) -> float:
        """Return the seconds."""
        seconds = read_seconds(text)
        if seconds is None:
            self.refuse(text)
        if seconds < self._least:
            self.refuse(text, f"expected at least {self._least:g} seconds")
        return seconds


class Allowed(_Type):
    """How many servers of a group may be unavailable: ``3``, or ``10%``."""

    name = "number"
    rule = "expected 1 or more servers, or a share of each group above 0% and below 100%, such as 10% or 0.1"

    def read(self, text: str) -> float:
        """Return an int, or a share as a float."""
        if _COUNT.fullmatch(text):
            return int(text)
        share = read_share(text)
        if share is None or not 0 < share < 1:
            self.refuse(text)
        return share


class GroupName(_Type):
    """What servers are grouped by."""

    name = "group"
    rule = "expected az, flavor, tag:rack, metadata:cluster or another field of the server"

    def read(self, text: str) -> str:
        """Return what it is called in the SDK."""
        from bms_async import InvalidRequestError, Rollout

        name = _SHORT.get(text, text)
        try:
            Rollout(group_by=name)
        except InvalidRequestError as error:
            self.refuse(
                text, error.rule.replace("availability_zone", "az or availability_zone").partition(", or a f")[0]
            )
        return name


class Probe(_Type):
    """What a server is asked to find out whether it is well."""

    name = "check"
    rule = "expected tcp:22, http:80/path or https:443/path"

    def read(self, text: str) -> TcpOpen | HttpOk:
        """Return the check."""
        from bms_async import InvalidRequestError, http_ok, tcp_open

        found = _PROBE.fullmatch(text)
        if found is None or (found[1] == "tcp" and (found[3] or not found[2])) or text.partition(":")[2][:2] == "//":
            self.refuse(text)
        kind, port, path = found[1], found[2], found[3]
        try:
            if kind == "tcp":
                return tcp_open(int(port))
            tls = kind == "https"
            return http_ok(int(port) if port else 443 if tls else 80, path or "/", tls=tls)
        except InvalidRequestError as error:
            self.refuse(text, error.rule)


class HoursType(_Type):
    """When a rollout may begin something, with or without a time zone."""

    name = "hours"
    rule = 'expected days and hours such as "Sat,Sun 22:00-04:00", and a time zone after them if need be'

    def read(self, text: str) -> Hours:
        """Return the hours and the zone."""
        from bms_async import InvalidRequestError, Window

        found = _ZONE.fullmatch(text)
        hours = Hours(text, None) if found is None else Hours(found[1], found[2])
        try:
            Window(hours.text, zone=hours.zone or "UTC")
        except InvalidRequestError as error:
            self.refuse(text, error.rule)
        return hours
