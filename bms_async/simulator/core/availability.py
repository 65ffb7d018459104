"""Which servers were away when, and which can be reached now: judged by what happened, not by what a client saw.

The course of an action is drawn when it is accepted, so that nothing is recorded with a batch but the batch itself: its
servers, its ends and its failures are read when somebody asks. Entries for each server would slow down every batch of a
million servers for the few tests that read them. Only boot times, which are drawn if there are any, cost a number each.
"""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from bms_async.simulator.core.jobs import BatchJob
from bms_async.simulator.core.servers import Action
from bms_async.simulator.core.settings import CloudSettings

__all__ = ["Absence", "Availability", "MostAway", "most_away"]

_LEAVES_OFF: Final[frozenset[Action]] = frozenset({"stop", "delete"})


class Absence(NamedTuple):
    """One action on one server.

    A stop and a deletion are over when they end, whatever came of them: a server that is off because that was asked for
    is not away. Any other action is over when the server can be reached, and never if it failed, which leaves it off.

    Attributes:
        server_id: The server.
        action: What was asked for: ``start``, ``stop``, ``reboot``, ``reinstall`` or ``delete``.
        asked: When the cloud accepted it, in seconds of the cloud's clock.
        back: When it was over, likewise; infinity for never. A later action on the server supersedes it.
    """

    server_id: str
    action: str
    asked: float
    back: float


class MostAway(NamedTuple):
    """The maximum number of servers of a group that were away at once, and when that was first reached.

    The moment is in seconds of the cloud's clock.
    """

    servers: int
    at: float


class Availability:
    """The absences of all servers.

    Args:
        settings: How long a server boots.
        draw: Makes a named source of random values.
        never_back: The servers that are never reachable again once an action has left them on; may be changed later.
    """

    __slots__ = ("_backs", "_batches", "_boot_seconds", "_draw", "_drawn", "_singles", "never_back")

    def __init__(self, settings: CloudSettings, draw: Callable[[str], random.Random], never_back: set[str]) -> None:
        self.never_back = never_back
        self._boot_seconds = settings.boot_seconds
        self._draw = draw
        self._drawn = 0
        self._batches: list[tuple[BatchJob, array[float] | None]] = []
        self._singles: list[Absence] = []
        # Only with boot times: without, a server that is on can be reached as soon as its action has ended.
        self._backs: dict[str, float] = {}

    def note_batch(self, job: BatchJob) -> None:
        """Record a batch that has been accepted."""
        boots = self._draw_boots([server.id for server in job.servers])
        if job.action != "create":
            self._batches.append((job, boots))
        if boots is not None or self._backs:
            for nth, server, end, done in job.courses:
                self._follow(server.id, None if boots is None else _back(job.action, end, boots[nth], done=done))

    def note_single(self, server_id: str, action: Action, asked: float, end: float, *, done: bool) -> None:
        """Record an action on one server that has been accepted, and that ends then."""
        boots = self._draw_boots([server_id])
        back = _back(action, end, 0.0 if boots is None else boots[0], done=done)
        if action != "create":
            self._singles.append(Absence(server_id, action, asked, back))
        self._follow(server_id, None if boots is None else back)

    def note_back(self, server_id: str, now: float) -> None:
        """Record that a server was brought back by hand."""
        self._singles.append(Absence(server_id, "start", now, now))
        self._follow(server_id, None)

    def has_booted(self, server_id: str, now: float) -> bool:
        """Return whether a server that is on, and that nothing is being done to, can be reached."""
        return self._backs.get(server_id, -math.inf) <= now

    def absences(self) -> list[Absence]:
        """Return the absences so far, in the order of their acceptance."""
        found = list(self._singles)
        for job, boots in self._batches:
            found.extend(
                Absence(
                    server.id, job.action, job.accepted, _back(job.action, end, boots[nth] if boots else 0.0, done=done)
                )
                for nth, server, end, done in job.courses
            )
        found.sort(key=lambda absence: absence.asked)
        return found

    def most_away(self, group_of: Callable[[str], str], settle: float = 0.0) -> dict[str, MostAway]:
        """Return by group how many of its servers were away at once at most.

        Args:
            group_of: The group of a server, by its id.
            settle: Seconds after its return for which a server still counts as away.
        """
        return most_away(self.absences(), group_of, settle)

    def _follow(self, server_id: str, back: float | None) -> None:
        if back is None:
            self._backs.pop(server_id, None)
        else:
            self._backs[server_id] = back

    def _draw_boots(self, server_ids: Sequence[str]) -> array[float] | None:
        shortest, longest = self._boot_seconds
        if not longest and not self.never_back:
            return None
        # A source of its own, so that boot times change no other random values.
        rng = self._draw(f"boot/{self._drawn}")
        self._drawn += 1
        drawn = ((rng.uniform(shortest, longest), each in self.never_back) for each in server_ids)
        return array("d", (math.inf if never else seconds for seconds, never in drawn))


def most_away(absences: Iterable[Absence], group_of: Callable[[str], str], settle: float = 0.0) -> dict[str, MostAway]:
    """Return by group how many of its servers were away at once at most; see `Availability.most_away`.

    Args:
        absences: The absences, in the order of their acceptance.
        group_of: The group of a server, by its id.
        settle: Seconds after its return for which a server still counts as away.
    """
    moments = sorted(_moments(absences, settle), key=lambda moment: moment[:2])
    away: Counter[str] = Counter()
    found: dict[str, MostAway] = {}
    for at, change, server_id in moments:
        group = group_of(server_id)
        away[group] += change
        if group not in found or away[group] > found[group].servers:
            found[group] = MostAway(away[group], at)
    return found


def _moments(absences: Iterable[Absence], settle: float) -> Iterator[tuple[float, int, str]]:
    """Yield when a server went away (1) and when it was back (-1).

    At the same moment, those that come back sort before those that go.
    """
    back_at: dict[str, float] = {}
    for server_id, _, asked, back in absences:
        before = back_at.get(server_id)
        if before is None or before <= asked:
            if back + settle <= asked:
                continue
            if before is not None:
                yield before, -1, server_id
            yield asked, 1, server_id
        # A later action decides, also if it was accepted while the server was away.
        back_at[server_id] = back + settle
    for server_id, back in back_at.items():
        if back < math.inf:
            yield back, -1, server_id


def _back(action: Action, end: float, boot: float, *, done: bool) -> float:
    if action in _LEAVES_OFF:
        return end
    return end + boot if done else math.inf
