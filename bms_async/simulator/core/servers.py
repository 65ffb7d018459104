"""The servers: small objects, changed by jobs and serialised on demand."""

from typing import ClassVar, Final, Literal, NamedTuple, Protocol

__all__ = [
    "ACTIVE",
    "BUILD",
    "BUSY",
    "ERROR",
    "GONE",
    "SHUTOFF",
    "STATUSES",
    "Action",
    "Filters",
    "PowerAction",
    "Server",
    "Statuses",
    "VirtualMachine",
    "Work",
]

PowerAction = Literal["start", "stop", "reboot"]
Action = Literal["start", "stop", "reboot", "create", "reinstall", "delete"]

# One byte a server, side by side, so that a million can be counted and filtered at C speed; see `Statuses`.
GONE, ACTIVE, SHUTOFF, _REBOOTING, _REBOOTING_FROM_OFF, BUILD, ERROR = range(7)
STATUSES: Final = {
    ACTIVE: "ACTIVE",
    SHUTOFF: "SHUTOFF",
    _REBOOTING: "HARD_REBOOT",
    _REBOOTING_FROM_OFF: "HARD_REBOOT",
    BUILD: "BUILD",
    ERROR: "ERROR",
}
"""What the bytes mean; a server that is gone has no status."""

_SHOWN: Final = (
    ("DELETED", "deleted", 0),
    ("ACTIVE", "active", 1),
    ("SHUTOFF", "stopped", 4),
    ("HARD_REBOOT", "active", 1),
    ("HARD_REBOOT", "stopped", 4),
    ("BUILD", "building", 0),
    ("ERROR", "error", 0),
)
"""By byte: `status`, `OS-EXT-STS:vm_state` and `OS-EXT-STS:power_state` (1 on, 4 off, 0 not known)."""

_TASKS: Final[dict[Action, str]] = {
    "start": "powering-on",
    "stop": "powering-off",
    "reboot": "reboot_started_hard",
    "create": "scheduling",
    "reinstall": "rebuilding",
    "delete": "deleting",
}
_AFTER: Final[dict[Action, int]] = {
    "start": ACTIVE,
    "stop": SHUTOFF,
    "reboot": ACTIVE,
    "create": ACTIVE,
    # A fresh system is started to set itself up.
    "reinstall": ACTIVE,
    "delete": GONE,
}
_DRIFTS: Final = {"ACTIVE": ACTIVE, "SHUTOFF": SHUTOFF, "ERROR": ERROR}
BUSY: Final[dict[Action, str]] = {
    "start": "BMS.0035",
    "stop": "BMS.0036",
    "reboot": "BMS.0037",
    "create": "BMS.0006",
    "reinstall": "BMS.0006",
    "delete": "BMS.0006",
}
"""The code for a server that is already at something (API reference 6.2)."""


class Statuses(bytearray):
    """The statuses of all servers of a kind, by index, and what else all of them share: a server keeps no copy.

    Attributes:
        rack_size: Servers a rack.
    """

    __slots__ = ("rack_size",)

    def __init__(self, codes: bytes, rack_size: int) -> None:
        super().__init__(codes)
        self.rack_size = rack_size


class Work(Protocol):
    """Something that takes time and changes servers."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        ...

    @property
    def next_event(self) -> float:
        """When something happens next."""
        ...

    def advance(self, now: float) -> None:
        """Let everything happen that was due until now."""
        ...


class Server:
    """One machine's power, as far as jobs have got; `Cloud.servers` brings it up to date first.

    Attributes:
        id: Its id.
        index: Its position in all lists.
        faulty: Whether every power operation on it fails.
        locked: Whether it is locked, so that power operations are refused.
        starts: Starts that really happened.
        stops: Stops that really happened.
        reboots: Reboots that really happened.
        task: What is being done to it right now.
        updated: When it last changed, in seconds of the cloud's clock; None if it never did.
        action: What it has been asked to do and has not ended.
        work: The job that does it.
        virtual: Whether it is a virtual machine, which only the native API shows.
    """

    virtual: ClassVar[bool] = False

    __slots__ = (
        "_statuses", "action", "faulty", "id", "index", "locked", "reboots", "starts", "stops",
        "task", "updated", "work",
    )  # fmt: skip

    def __init__(self, server_id: str, index: int, statuses: Statuses) -> None:
        self.id = server_id
        self.index = index
        self.faulty = self.locked = False
        self.starts = self.stops = self.reboots = 0
        self.task: Action | None = None
        self.updated: float | None = None
        self.action: Action | None = None
        self.work: Work | None = None
        self._statuses = statuses

    @property
    def status(self) -> str:
        """`ACTIVE`, `SHUTOFF`, `HARD_REBOOT`, `BUILD` or `ERROR` (API reference, table 4-7)."""
        return self.shown[0]

    @property
    def vm_state(self) -> str:
        """`OS-EXT-STS:vm_state`."""
        return self.shown[1]

    @property
    def power_state(self) -> int:
        """`OS-EXT-STS:power_state`."""
        return self.shown[2]

    @property
    def shown(self) -> tuple[str, str, int]:
        """All three at once: status, `vm_state` and `power_state`."""
        return _SHOWN[self._statuses[self.index]]

    @property
    def powered(self) -> bool:
        """Whether it is on."""
        return self._statuses[self.index] in {ACTIVE, _REBOOTING}

    @property
    def rack(self) -> int:
        """The number of its rack, from 0."""
        return self.index // self._statuses.rack_size

    @property
    def place(self) -> int:
        """Its place in its rack, from 0."""
        return self.index % self._statuses.rack_size

    @property
    def is_deleted(self) -> bool:
        """Whether it is gone."""
        return self._statuses[self.index] == GONE

    @property
    def task_state(self) -> str | None:
        """`OS-EXT-STS:task_state`."""
        return None if self.task is None else _TASKS[self.task]

    def __repr__(self) -> str:
        return f"<Server {self.id} {self.status} task={self.task_state}>"

    def advance(self, now: float) -> None:
        """Advance the work on it to the time of the clock."""
        if self.work is not None:
            self.work.advance(now)

    def objection(self, action: Action) -> str | None:
        """Return the code by which an action is refused right now, None if it is not (API reference 6.2)."""
        if self.action is not None:
            return BUSY[self.action]
        if self.locked:
            # The reference has no code for it.
            return "BMS.0006"
        code = self._statuses[self.index]
        if action == "start" and code != SHUTOFF:
            return "BMS.0006" if code == ERROR else "BMS.0038"
        # A faulty server can be switched off (API reference 5.3.4).
        if action == "stop" and code == SHUTOFF:
            return "BMS.0039"
        return None

    def accept(self, action: Action, work: Work) -> None:
        """Accept an action: nothing shows yet, but no other one is accepted."""
        self.action, self.work = action, work

    def begin(self, action: Action, at: float) -> None:
        """Begin the action."""
        if action == "reboot":
            on = self.powered
            self._statuses[self.index] = _REBOOTING if on else _REBOOTING_FROM_OFF
        self.task, self.updated = action, at

    def end(self, action: Action, at: float, *, done: bool) -> None:
        """End the action; the status changes if it is done."""
        if done:
            self._statuses[self.index] = _AFTER[action]
            if action == "start":
                self.starts += 1
            elif action == "stop":
                self.stops += 1
            elif action == "reboot":
                self.reboots += 1
        elif action == "reboot":
            # It did not come up (BMS.3037).
            self._statuses[self.index] = SHUTOFF
        elif action == "create":
            self._statuses[self.index] = ERROR
        self.action = self.task = self.work = None
        self.updated = at

    def break_down(self) -> None:
        """Show ERROR, after an action that has ended."""
        self._statuses[self.index] = ERROR

    def become(self, status: Literal["ACTIVE", "SHUTOFF", "ERROR"], at: float) -> None:
        """Show another status, which no call has asked for; nothing is counted."""
        self._statuses[self.index] = _DRIFTS[status]
        self.action = self.task = self.work = None
        self.updated = at


class VirtualMachine(Server):
    """A virtual machine, which shares the native lists with bare-metal servers."""

    virtual: ClassVar[bool] = True

    __slots__ = ()


class Filters(NamedTuple):
    """The filters of a list (API reference 4.3.2); None does not filter."""

    flavor: str | None = None
    name: str | None = None
    status: str | None = None
    tags: str | None = None
    reservation_id: str | None = None
    enterprise_project_id: str | None = None
