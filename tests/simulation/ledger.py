"""What really happened, written down on the cloud's side and on the way there; the SDK has no hand in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from bms_async.simulator import Answer, Cloud, CloudSettings, DroppedMarker, GarbledJob, HalfBody, ShortPage
from bms_async.simulator.core.drift import Drifting, DriftStatus
from bms_async.simulator.core.jobs import BatchJob
from bms_async.simulator.core.servers import PowerAction, Server
from tests.simulation.scenario import Mishap, Scenario, Trouble


@dataclass(slots=True)
class Part:
    """One server's part of a batch that the cloud accepted.

    Attributes:
        obeyed: Whether the server took it, and did not object at once.
        code: What it fails with, None if it is done well.
        powered: Whether the server was on when it was asked.
        is_lost: Whether it leaves the server in ERROR, or deleted.
        gone: Whether it leaves the server deleted.
    """

    server_id: str
    action: PowerAction
    job_id: str
    asked_at: float
    ends: float
    obeyed: bool
    code: str | None
    powered: bool
    is_lost: bool = False
    gone: bool = False

    @property
    def changes(self) -> bool:
        """Whether it really does something."""
        return self.obeyed and self.code is None


@dataclass(slots=True, eq=False)
class Exchange:
    """One request, as the network saw it.

    Attributes:
        servers: The servers that its body names.
        job_id: The job that it asks after.
        token: What it carried.
        arrived: When the cloud counted it; None if it never did.
        ended: When the client had its answer, or knew that none would come.
        status: What the client was answered; None if it got no answer.
        sent: Whether it left.
        garbled: Whether the answer was not as the cloud meant it.
        accepted: The job that came of it.
        parts: What it made servers do.
    """

    operation: str
    began: float
    token: str | None
    servers: frozenset[str] = frozenset()
    job_id: str | None = None
    arrived: float | None = None
    ended: float | None = None
    status: int | None = None
    code: str | None = None
    sent: bool = True
    garbled: bool = False
    accepted: str | None = None
    issued: str | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def is_doubtful(self) -> bool:
        """Whether its client cannot know what came of it."""
        if not self.sent:
            return False
        if self.status is None:
            return True
        return self.status >= 500 or self.status == 408 or (self.status < 300 and self.garbled)

    @property
    def is_refusal(self) -> bool:
        """Whether the client was told that nothing was done."""
        return self.status is not None and self.status >= 300 and not self.is_doubtful


class Change(NamedTuple):
    """A server that changed without a call: from when to when that showed as a task, and what it was then."""

    began: float
    ended: float
    status: str


CURRENT: ContextVar[Exchange | None] = ContextVar("CURRENT", default=None)


@dataclass(slots=True)
class Ledger:
    """All of them, by when they began; and what each server was made to do.

    Attributes:
        stuck: The jobs of which a part says RUNNING for ever, and those parts.
        stillborn: The jobs that failed before any server heard of them.
        fired: How often which kind of trouble came about.
        drifts: What changed without a call.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Part]] = field(default_factory=dict)
    powered: dict[str, bool] = field(default_factory=dict)
    revoked: list[float] = field(default_factory=list)
    stuck: dict[str, frozenset[str]] = field(default_factory=dict)
    stillborn: set[str] = field(default_factory=set)
    fired: dict[str, int] = field(default_factory=dict)
    drifts: dict[str, list[Change]] = field(default_factory=dict)

    def note(self, trouble: Trouble) -> None:
        self.count(f"Answer {trouble.status}" if isinstance(trouble, Answer) else type(trouble).__name__)

    def count(self, name: str) -> None:
        """Count one more of what came about."""
        self.fired[name] = self.fired.get(name, 0) + 1

    def was_powered(self, server_id: str, at: float) -> bool:
        """Whether a server was on at a time; a reboot leaves it on, and off if it fails."""
        powered = self.powered[server_id]
        for part in sorted(self.parts.get(server_id, ()), key=lambda part: part.ends):
            if part.ends > at:
                break
            if part.changes:
                powered = part.action != "stop"
            elif part.obeyed and (part.action == "reboot" or part.is_lost):
                powered = False
        return powered

    def ever_powered(self, server_id: str, wanted: bool, since: float, until: float) -> bool:
        """Whether a server was on (or off) at some time between two."""
        if server_id not in self.powered:
            return False
        ends = (part.ends for part in self.parts.get(server_id, ()) if since <= part.ends <= until)
        return any(self.was_powered(server_id, moment) is wanted for moment in (since, until, *ends))


class Troubles:
    """Tells which call gets which trouble: the first that a scenario has for it.

    Args:
        of: Which kinds of trouble are asked for; another asks for the rest.
    """

    def __init__(self, scenario: Scenario, of: Callable[[Trouble], bool]) -> None:
        self._mishaps: list[Mishap] = [mishap for mishap in scenario.mishaps if of(mishap.trouble)]
        self._counts: dict[str, int] = {}

    def next(self, operation: str) -> Trouble | None:
        """Count one more call of an operation, and return what goes wrong with it."""
        if not self._mishaps:
            return None
        for name in (operation, "*"):
            self._counts[name] = self._counts.get(name, 0) + 1
        for mishap in self._mishaps:
            if mishap.operation in (operation, "*"):
                nth = self._counts[mishap.operation]
                if mishap.first <= nth < mishap.first + mishap.count:
                    return mishap.trouble
        return None


class RecordingCloud(Cloud):
    """A cloud that writes down what it is asked and what it does, and when.

    Attributes:
        born_with: The servers that it began with, those that were deleted meanwhile included.
    """

    def __init__(
        self, settings: CloudSettings, clock: Callable[[], float], troubles: Troubles, *, locked_share: float = 0.0
    ) -> None:
        super().__init__(settings, clock)
        locked = self.draw("locked")
        for server in self.servers.values() if locked_share else ():
            server.locked = locked.random() < locked_share
        self.ledger = Ledger(powered={server.id: server.powered for server in self.servers.values()})
        self.drifting = _RecordingDrifting(self)
        self._troubles = troubles
        self.born_with = dict(self.servers)
        self.faults.append(self._go_wrong)

    def arrive(self, operation: str) -> tuple[int, float]:
        if (exchange := CURRENT.get()) is not None:
            exchange.arrived = self.now()
        return super().arrive(operation)

    def act(self, action: PowerAction, server_ids: Sequence[str]) -> BatchJob:
        now = self.now()
        powered = {each: self.ledger.was_powered(each, now) for each in server_ids if each in self.ledger.powered}
        job = super().act(action, server_ids)
        inside: Any = job
        parts = {
            server.id: Part(
                server_id=server.id,
                action=action,
                job_id=job.id,
                asked_at=now,
                ends=inside._ends[place],
                obeyed=server.work is job,
                code=inside._codes[place],
                powered=powered[server.id],
            )
            for place, server in enumerate(inside._servers)
        }
        self.ledger.jobs[job.id] = parts
        if inside._shape.is_stillborn:
            self.ledger.stillborn.add(job.id)
        elif inside._shape.stuck:
            self.ledger.stuck[job.id] = frozenset(inside._servers[place].id for place in inside._shape.stuck)
        for server_id, part in parts.items():
            self.ledger.parts.setdefault(server_id, []).append(part)
        if (exchange := CURRENT.get()) is not None:
            exchange.accepted = job.id
            exchange.parts.extend(parts.values())
        return job

    def work(self, action: PowerAction | Literal["create"], server: Server) -> None:
        now, before = self.now(), server.work
        powered = self.ledger.was_powered(server.id, now) if action != "create" else False
        super().work(action, server)
        if action == "create":
            return
        work: Any = server.work
        part = Part(server.id, action, "", now, now, obeyed=False, code=None, powered=powered)
        if work is not None and work is not before:
            (course,) = work.courses
            mishaps = work._mishaps
            part.obeyed, part.ends, part.code = True, course.end, None if course.done else "it failed"
            part.gone, part.is_lost = mishaps.vanishes, mishaps.breaks or mishaps.vanishes
            self._note_mishaps(mishaps)
        else:
            self.ledger.count("native action ignored")
        self.ledger.parts.setdefault(server.id, []).append(part)
        if (exchange := CURRENT.get()) is not None:
            exchange.accepted = "native"
            exchange.parts.append(part)

    def _note_mishaps(self, mishaps: Any) -> None:
        for name in ("is_slow", "breaks", "vanishes"):
            if getattr(mishaps, name):
                self.ledger.count(f"native action that {name}")

    def issue_token(self, project_id: str | None) -> str:
        token = super().issue_token(project_id)
        if (exchange := CURRENT.get()) is not None:
            exchange.issued = token
        return token

    def revoke_tokens(self) -> int:
        self.ledger.revoked.append(self.now())
        return super().revoke_tokens()

    def _go_wrong(self, operation: str, nth: int, path: str) -> Any:
        trouble = self._troubles.next(operation)
        if trouble is not None:
            self.ledger.note(trouble)
            exchange = CURRENT.get()
            if exchange is not None and isinstance(trouble, HalfBody | GarbledJob | ShortPage | DroppedMarker):
                exchange.garbled = True
        return trouble


class _RecordingDrifting(Drifting):
    """Writes down what changes without a call."""

    def __init__(self, cloud: RecordingCloud) -> None:
        super().__init__(cloud.settings, cloud.now, cloud.draw, cloud._inventory, cloud.availability)
        self._ledger = cloud.ledger

    def _change(self, server: Server, status: DriftStatus | None, seconds: float, at: float) -> bool:
        assert status is not None
        has_begun = super()._change(server, status, seconds, at)
        if has_begun:
            self._ledger.drifts.setdefault(server.id, []).append(Change(at, at + seconds, status))
            self._ledger.count("drift")
        return has_begun
