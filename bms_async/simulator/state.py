"""The servers: small objects, changed by jobs, written out only when somebody asks."""

import random
from collections.abc import Sequence
from itertools import compress, islice
from typing import Final, Literal, NamedTuple, Protocol

from bms_async.simulator.settings import CloudSettings

__all__ = [
    "BUSY",
    "FLAVORS",
    "RACK_SIZE",
    "Action",
    "Filters",
    "Flavor",
    "Park",
    "Server",
]

Action = Literal["start", "stop", "reboot"]

RACK_SIZE: Final = 40

# One byte a server, side by side, so that a million can be counted and filtered at C speed.
_ACTIVE, _SHUTOFF, _REBOOTING, _REBOOTING_FROM_OFF = 1, 2, 3, 4
_STATUS: Final = {
    _ACTIVE: "ACTIVE",
    _SHUTOFF: "SHUTOFF",
    _REBOOTING: "HARD_REBOOT",
    _REBOOTING_FROM_OFF: "HARD_REBOOT",
}
_TASKS: Final[dict[Action, str]] = {
    "start": "powering-on",
    "stop": "powering-off",
    "reboot": "reboot_started_hard",
}
BUSY: Final[dict[Action, str]] = {"start": "BMS.0035", "stop": "BMS.0036", "reboot": "BMS.0037"}
"""The code for a server that is already at something (API reference 6.2)."""


class Flavor(NamedTuple):
    """A kind of machine; the reference prints its numbers as strings."""

    name: str
    vcpus: str
    ram: str
    disk: str


FLAVORS: Final = (
    Flavor("physical.o2.medium", "32", "193047", "9309"),
    Flavor("physical.s1.medium", "32", "131072", "1200"),
    Flavor("physical.h2.large", "64", "262144", "600"),
)


class _Work(Protocol):
    def advance(self, now: float) -> None: ...


class Server:
    """One machine's power, as far as jobs have got; `Cloud.servers` brings it up to date first.

    Attributes:
        id: Its id.
        index: Its place in every list.
        faulty: Whether every power operation on it fails.
        starts: Starts that really happened.
        stops: Stops that really happened.
        reboots: Reboots that really happened.
        task: What is being done to it right now.
        updated: When it last changed, in seconds of the cloud's clock; None if it never did.
        action: What it has been asked to do and has not ended.
        work: The job that does it.
    """

    __slots__ = (
        "_statuses", "action", "faulty", "id", "index", "reboots", "starts", "stops", "task",
        "updated", "work",
    )  # fmt: skip

    def __init__(self, server_id: str, index: int, statuses: bytearray) -> None:
        self.id = server_id
        self.index = index
        self.faulty = False
        self.starts = self.stops = self.reboots = 0
        self.task: Action | None = None
        self.updated: float | None = None
        self.action: Action | None = None
        self.work: _Work | None = None
        self._statuses = statuses

    @property
    def status(self) -> str:
        """`ACTIVE`, `SHUTOFF` or, while it reboots, `HARD_REBOOT` (API reference, table 4-7)."""
        return _STATUS[self._statuses[self.index]]

    @property
    def powered(self) -> bool:
        """Whether it is on."""
        return self._statuses[self.index] in {_ACTIVE, _REBOOTING}

    @property
    def task_state(self) -> str | None:
        """`OS-EXT-STS:task_state`."""
        return None if self.task is None else _TASKS[self.task]

    def __repr__(self) -> str:
        return f"<Server {self.id} {self.status} task={self.task_state}>"

    def look(self, now: float) -> None:
        """Let the job that works on it catch up with the clock."""
        if self.work is not None:
            self.work.advance(now)

    def objection(self, action: Action) -> str | None:
        """The code that stands against an action right now, if any (API reference 6.2)."""
        if self.action is not None:
            return BUSY[self.action]
        if action == "start" and self.powered:
            return "BMS.0038"
        if action == "stop" and not self.powered:
            return "BMS.0039"
        return None

    def accept(self, action: Action, work: _Work) -> None:
        """Be asked: nothing shows yet, but nothing else may be asked now."""
        self.action, self.work = action, work

    def begin(self, action: Action, at: float) -> None:
        """Get to work."""
        if action == "reboot":
            on = self.powered
            self._statuses[self.index] = _REBOOTING if on else _REBOOTING_FROM_OFF
        self.task, self.updated = action, at

    def end(self, action: Action, at: float, *, done: bool) -> None:
        """Stop working: changed if it is done, else as before."""
        if done:
            self._statuses[self.index] = _SHUTOFF if action == "stop" else _ACTIVE
            if action == "start":
                self.starts += 1
            elif action == "stop":
                self.stops += 1
            else:
                self.reboots += 1
        elif action == "reboot":
            self._statuses[self.index] = _ACTIVE if self.powered else _SHUTOFF
        self.action = self.task = self.work = None
        self.updated = at


class Filters(NamedTuple):
    """What a list is narrowed to (API reference 4.3.2); None narrows nothing."""

    flavor: str | None = None
    name: str | None = None
    status: str | None = None
    tags: str | None = None
    reservation_id: str | None = None
    enterprise_project_id: str | None = None


class Park:
    """All servers of the project.

    A server's rack, flavor, name and reservation follow from its place in line, so that a filter is
    a range and not a search.
    """

    __slots__ = ("_order", "_statuses", "by_id")

    def __init__(self, settings: CloudSettings) -> None:
        total, seed = settings.servers, settings.seed
        self._statuses = bytearray([_ACTIVE]) * total
        draw = random.Random(f"{seed}/ids").getrandbits  # noqa: S311 - drawn again from a seed
        self._order = [Server(_uuid(draw(128)), i, self._statuses) for i in range(total)]
        self.by_id = {server.id: server for server in self._order}
        for i in _share(f"{seed}/stopped", total, settings.stopped_share):
            self._statuses[i] = _SHUTOFF
        for i in _share(f"{seed}/faulty", total, settings.fail_share):
            self._order[i].faulty = True

    def count(self) -> dict[str, int]:
        """How many servers have which status."""
        counts = dict.fromkeys(_STATUS.values(), 0)
        for code, name in _STATUS.items():
            counts[name] += self._statuses.count(code)
        return counts

    def find(self, filters: Filters, first: int, most: int) -> tuple[int, list[Server]]:
        """How many servers match, and `most` of them from the `first` one on."""
        candidates = self._candidates(filters)
        if filters.status is None:
            return len(candidates), [self._order[i] for i in candidates[first : first + most]]
        wanted = bytes(_STATUS.get(code) == filters.status for code in range(256))
        mask = self._codes(candidates).translate(wanted)
        page = islice(compress(candidates, mask), first, first + most)
        return mask.count(1), [self._order[i] for i in page]

    def _codes(self, candidates: Sequence[int]) -> bytes | bytearray:
        if isinstance(candidates, range):
            return self._statuses[candidates.start : candidates.stop : candidates.step]
        return bytes(self._statuses[i] for i in candidates)

    def _candidates(self, filters: Filters) -> Sequence[int]:
        ranges = list(self._ranges(filters))
        smallest = min(ranges, key=len)
        others = [each for each in ranges if len(each) < len(self._order) and each is not smallest]
        if not others:
            return smallest
        return [i for i in smallest if all(i in each for each in others)]

    def _ranges(self, filters: Filters) -> list[range]:
        total = len(self._order)
        ranges = [range(total)]
        if filters.flavor is not None:
            names = [flavor.name for flavor in FLAVORS]
            kind = names.index(filters.flavor) if filters.flavor in names else total
            ranges.append(range(kind, total, len(FLAVORS)))
        if filters.name is not None:
            place = _number(filters.name, "bms-")
            ranges.append(_within(place, 1, total))
        tags = set((filters.tags or "").split(",")) - {"", "__type_baremetal", "_type_baremetal"}
        ranges.extend(_within(_number(tag, "rack-"), RACK_SIZE, total) for tag in tags)
        if filters.reservation_id is not None:
            ranges.append(_within(_number(filters.reservation_id, "r-rack"), RACK_SIZE, total))
        if filters.enterprise_project_id not in {None, "0", "all_granted_eps"}:
            ranges.append(range(0))
        return ranges


def _uuid(bits: int) -> str:
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _share(seed: str, total: int, share: float) -> list[int]:
    return random.Random(seed).sample(range(total), round(total * share))  # noqa: S311


def _number(text: str, prefix: str) -> int | None:
    digits = text.removeprefix(prefix)
    if not text.startswith(prefix) or not digits.isdecimal() or not digits.isascii():
        return None
    return int(digits)


def _within(place: int | None, size: int, total: int) -> range:
    if place is None:
        return range(0)
    return range(min(place * size, total), min((place + 1) * size, total))
