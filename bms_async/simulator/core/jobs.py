"""Jobs: their whole course is drawn when they are accepted, and read off the clock afterwards."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bms_async.simulator.core.clock import WallClock
from bms_async.simulator.core.servers import Action, Server
from bms_async.simulator.core.settings import ReasonPlace

__all__ = ["REASONS", "STEM", "BatchJob", "Course", "Shape", "Standing", "write_job"]

_FAILURES: Final[dict[Action, str]] = {
    "start": "BMS.3037",
    "stop": "BMS.0006",
    "reboot": "BMS.3037",
    "create": "BMS.3004",
}
"""The codes of drawn failures (API reference 6.2)."""

REASONS: Final = {
    "BMS.0006": "The power operation could not be carried out.",
    "BMS.0035": "Another power-on of this server has not ended.",
    "BMS.0036": "A power-off of this server has not ended.",
    "BMS.0037": "A restart of this server has not ended.",
    "BMS.0038": "This server is on already.",
    "BMS.0039": "This server is off already.",
    "BMS.3004": "The server could not be made.",
    "BMS.3019": "The disk could not be attached.",
    "BMS.3037": "The server did not come up, or nothing was left to run it on.",
}

STEM: Final = 24
"""The length of the prefix that a job's id shares with its sub-jobs."""
_TAILS: Final = 16**8


_STILLBORN: Final = "BMS.0006"
_STILLBORN_REASON: Final = "The job could not be divided into sub-jobs."


class Shape(NamedTuple):
    """How a job reports itself, beyond what is drawn for its servers; see `CloudSettings`.

    Attributes:
        early_failure: Report FAIL as soon as one sub-job has failed.
        stuck: The sub-jobs that stay RUNNING for ever, by index.
        is_stillborn: Fail before there are sub-jobs.
        reason_place: Where the reason of a failed sub-job is reported.
        state_lag: Seconds after the end of a sub-job until its server shows it.
    """

    early_failure: bool = False
    stuck: frozenset[int] = frozenset()
    is_stillborn: bool = False
    reason_place: ReasonPlace = "sub_job"
    state_lag: float = 0.0


class Course(NamedTuple):
    """What an accepted action comes to on one server: when it ends, and whether it is done; `nth` is its sub-job."""

    nth: int
    server: Server
    end: float
    done: bool


class Standing(NamedTuple):
    """The progress of a job: its servers, and how many of them have begun, ended, and failed."""

    total: int
    begun: int
    ended: int
    failed: int


class BatchJob:
    """One accepted batch: a parent and one sub-job a server (API reference 4.11.1).

    Attributes:
        id: Its id.
        stem: The common prefix of its id and those of its sub-jobs.
    """

    __slots__ = (
        "_accepted", "_action", "_begin_order", "_begins", "_begun", "_codes", "_documents", "_end_order",
        "_ended", "_ends", "_failed", "_objected", "_servers", "_shape", "_shown", "_tail", "id", "stem",
    )  # fmt: skip

    def __init__(
        self,
        job_id: str,
        action: Action,
        servers: Sequence[Server],
        *,
        now: float,
        rng: random.Random,
        job_seconds: tuple[float, float],
        at_once: bool = False,
        shape: Shape = Shape(),  # noqa: B008 - it is a tuple
    ) -> None:
        self.id = job_id
        self._shape = shape
        # As in the reference's example, a job and its sub-jobs differ only in the tail of their ids: a sub-job is found
        # without a table of a million entries.
        self.stem, self._tail = job_id[:STEM], int(job_id[STEM:], 16)
        self._action: Action = action
        self._servers = tuple(servers)
        self._accepted = now
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._codes: list[str | None] = []
        objected: set[int] = set()
        for nth, server in enumerate(self._servers):
            length = rng.uniform(*job_seconds)
            begin = now + length * rng.uniform(0.02, 0.2) * (not at_once)
            if shape.is_stillborn:
                # All fail at once, and no server is touched.
                self._begins.append(self._begins[0] if self._begins else begin)
                self._ends.append(self._begins[0])
                self._codes.append(_STILLBORN)
                continue
            objection = server.objection(action)
            self._begins.append(begin)
            # A server in the wrong state fails as soon as its turn comes.
            self._ends.append(begin if objection else now + length)
            self._codes.append(objection or (_FAILURES[action] if server.faulty else None))
            if objection is None:
                server.accept(action, self)
            else:
                objected.add(nth)
        # A drawn failure may have the code of an objection, as that of a stop has.
        self._objected = frozenset(objected)
        indices = range(len(self._servers))
        self._begin_order = sorted(indices, key=self._begins.__getitem__)
        self._end_order = sorted(indices, key=self._ends.__getitem__)
        self._begun = self._ended = self._shown = self._failed = 0
        self._documents: list[str | None] | None = [None] * len(self._servers)

    @property
    def first_begin(self) -> float:
        """When the first sub-job begins, and the parent is INIT no more."""
        return self._begins[self._begin_order[0]]

    @property
    def last_end(self) -> float:
        """When the last sub-job ends, and the parent with it."""
        return self._ends[self._end_order[-1]]

    @property
    def is_stuck(self) -> bool:
        """Whether it stays RUNNING for ever, whatever its servers have done."""
        return bool(self._shape.stuck)

    @property
    def accepted(self) -> float:
        """When the batch was accepted."""
        return self._accepted

    @property
    def failed(self) -> int:
        """How many sub-jobs have failed, as far as the job has been advanced."""
        return self._failed

    @property
    def standing(self) -> Standing:
        """How far it has been advanced."""
        return Standing(len(self._servers), self._begun, self._ended, self._failed)

    @property
    def kind(self) -> str:
        """The kind of work, for people."""
        return self._action

    @property
    def action(self) -> Action:
        """The action."""
        return self._action

    @property
    def servers(self) -> Sequence[Server]:
        """The servers that were asked for, in the order of the request."""
        return self._servers

    @property
    def courses(self) -> Iterator[Course]:
        """The courses of the servers that start the action; others were in the wrong state, or are not asked.

        They are known from the acceptance on. Work that is accepted later can still override the action on a server.
        """
        if self._shape.is_stillborn:
            return iter(())
        rows = enumerate(zip(self._servers, self._ends, self._codes, strict=True))
        return (
            Course(nth, server, end, code is None) for nth, (server, end, code) in rows if nth not in self._objected
        )

    @property
    def obeyed(self) -> Iterator[Server]:
        """The servers that started the action, failed or not."""
        return (course.server for course in self.courses)

    @property
    def ended(self) -> bool:
        """Whether every sub-job has ended, as far as the job has been advanced."""
        return self._ended == len(self._servers)

    @property
    def next_event(self) -> float:
        """The time of the next event; infinity once the job has ended, and all servers show it."""
        if self._shown == len(self._servers):
            return float("inf")
        shown = self._ends[self._end_order[self._shown]] + self._shape.state_lag
        if self.ended:
            return shown
        end = min(shown, self._ends[self._end_order[self._ended]])
        if self._begun == len(self._servers):
            return end
        return min(end, self._begins[self._begin_order[self._begun]])

    def advance(self, now: float) -> None:
        """Apply all events that are due. A server is in one job only, so that the order of jobs does not matter."""
        if self.next_event > now:
            return
        while self._begun < len(self._servers):
            i = self._begin_order[self._begun]
            if self._begins[i] > now:
                break
            self._begun += 1
            self._invalidate(i)
            server = self._servers[i]
            if server.work is self:
                server.begin(self._action, self._begins[i])
        while self._ended < len(self._servers):
            i = self._end_order[self._ended]
            if self._ends[i] > now:
                break
            self._ended += 1
            self._invalidate(i)
            self._failed += self._codes[i] is not None
        lag = self._shape.state_lag
        while self._shown < self._ended:
            i = self._end_order[self._shown]
            at = self._ends[i] + lag
            if at > now:
                break
            self._shown += 1
            server = self._servers[i]
            if server.work is self:
                self._end(server, at, done=self._codes[i] is None)

    def _end(self, server: Server, at: float, *, done: bool) -> None:
        server.end(self._action, at, done=done)

    def status(self) -> str:
        """The parent's status, as far as the job has been advanced."""
        if not self._begun:
            return "INIT"
        is_running = not self.ended or self.is_stuck
        # A stuck sub-job never shows that it failed.
        failed = self._seen_failed()
        if is_running and not (failed and self._shape.early_failure):
            return "RUNNING"
        return "FAIL" if failed else "SUCCESS"

    def _seen_failed(self) -> int:
        if not self._shape.stuck:
            return self._failed
        hidden = sum(self._codes[i] is not None for i in self._end_order[: self._ended] if i in self._shape.stuck)
        return self._failed - hidden

    def document(self, now: float, wall: WallClock, *, anonymous: bool, order: random.Random | None) -> str:
        """Return the document of the parent.

        Args:
            now: When it is read; the job must have been advanced until then.
            wall: Turns the clock's seconds into timestamps.
            anonymous: Leave `server_id` out of failed sub-jobs.
            order: Shuffles the sub-jobs; None lists them as they were asked for.
        """
        status = self.status()
        entities = f'{{"sub_jobs_total":{len(self._servers)}'
        shown = self._listed(now)
        if self._shape.is_stillborn:
            entities += ',"sub_jobs":[]'
        elif shown:
            documents = self._current_documents(now, wall, anonymous=anonymous)[:shown]
            if order is not None:
                order.shuffle(documents)
            entities += f',"sub_jobs":[{",".join(documents)}]'
        code, reason = self._why(status)
        return write_job(
            status,
            entities + "}",
            job_id=self.id,
            job_type="baremetalBatchCreate" if self._action == "create" else "baremetalBatchOperate",
            begin=wall.millis(self._accepted),
            end=wall.millis(self.last_end) if self.ended and not self.is_stuck else None,
            code=code,
            reason=reason,
        )

    def _why(self, status: str) -> tuple[str | None, str | None]:
        if status != "FAIL":
            return None, None
        if self._shape.is_stillborn:
            return _STILLBORN, _STILLBORN_REASON
        ended = self._end_order[: self._ended]
        code = next(code for i in sorted(ended) if (code := self._codes[i]) is not None and i not in self._shape.stuck)
        if self._shape.reason_place == "nowhere":
            return None, None
        if self._shape.reason_place == "job":
            return code, REASONS[code]
        return code, f"{self._seen_failed()} of {len(self._servers)} sub-jobs failed."

    def sub_document(self, job_id: str, now: float, wall: WallClock, *, anonymous: bool) -> str | None:
        """Return the document of a sub-job by its own id; None if it is not ours."""
        i = (int(job_id[STEM:], 16) - self._tail - 1) % _TAILS
        if i >= len(self._servers) or self._shape.is_stillborn:
            return None
        return self._sub_job(i, now, wall, anonymous=anonymous)

    def _listed(self, now: float) -> int:
        """Return how many sub-jobs are visible: while the batch is being split, some or none."""
        if self._begun:
            return len(self._servers)
        halfway = (self._accepted + self.first_begin) / 2
        return len(self._servers) // 2 if now >= halfway else 0

    def _invalidate(self, i: int) -> None:
        if self._documents is not None:
            self._documents[i] = None

    def _current_documents(self, now: float, wall: WallClock, *, anonymous: bool) -> list[str]:
        kept = self._documents or [None] * len(self._servers)
        documents = [
            self._sub_job(i, now, wall, anonymous=anonymous) if document is None else document
            for i, document in enumerate(kept)
        ]
        # An ended job is rarely read again, and its text would cost 300 bytes a server.
        self._documents = None if self.ended else list[str | None](documents)
        return documents

    def _sub_job(self, i: int, now: float, wall: WallClock, *, anonymous: bool) -> str:
        begun, code = self._begins[i] <= now, self._codes[i]
        ended = self._ends[i] <= now and i not in self._shape.stuck
        failed = ended and code is not None
        # A server that is being created has no id before its turn.
        making = self._action == "create"
        reason_place = self._shape.reason_place
        about = []
        if not ((failed and anonymous) or (making and not begun)):
            about.append(f'"server_id":"{self._servers[i].id}"')
        if failed and code is not None and reason_place == "entities":
            about.append(f'"errorcode_message":"{REASONS[code]}"')
        status = "FAIL" if failed else "SUCCESS" if ended else "RUNNING" if begun else "INIT"
        return write_job(
            status,
            f"{{{','.join(about)}}}",
            job_id=f"{self.stem}{(self._tail + 1 + i) % _TAILS:08x}",
            job_type="baremetalSingleCreate" if making else "baremetalSingleOperate",
            begin=wall.millis(self._begins[i]) if begun else None,
            end=wall.millis(self._ends[i]) if ended else None,
            code=code if failed and reason_place in ("sub_job", "entities") else None,
            reason=REASONS[code] if failed and code is not None and reason_place == "sub_job" else None,
        )


def write_job(
    status: str,
    entities: str,
    *,
    job_id: str,
    job_type: str,
    begin: str | None,
    end: str | None,
    code: str | None,
    reason: str | None,
) -> str:
    """Return the document of a job or a sub-job."""
    # All values are our own and need no escaping; a response has a thousand of these.
    return (
        f'{{"status":"{status}","entities":{entities},"job_id":"{job_id}","job_type":"{job_type}",'
        f'"begin_time":{_text(begin)},"end_time":{_text(end)},'
        f'"error_code":{_text(code)},"fail_reason":{_text(reason)}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'
