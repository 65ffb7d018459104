"""What a reconciler knows of its servers, and what follows from that: pure, with every time and number as an argument.

What is guaranteed: a server is handed out to be acted on only if a state or an outcome that is not old shows it idle
and in the other one of the two statuses, and it is not under way already. What an outcome has shown is not undone by a
reading that began before it. A server that could not be brought to its status is left alone for longer each time, until
a reading shows it there.

How: each server has an entry, judged anew at each reading, outcome and wish. What differs waits in a queue for its
action; it leaves the queue as soon as anything says otherwise. A success is a claim until a reading confirms it. A
reading against a fresh claim is doubted for `RECHECK` seconds, since a state may lag behind its job. Then somebody may
have undone it, and it is tried once more at once; what happens twice in a row counts as a failed attempt, for a cloud
that accepts requests and lists another state would get requests for ever.

Rejected: to try a server again by a timer of its own. Servers that failed together would be asked one by one; those
that are tried after a reading share its call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from bms_async.errors import BmsError, InvalidRequestError
from bms_async.fleet.evidence import ServerState
from bms_async.fleet.outcome import Outcome, OutcomeState
from bms_async.models import ServerStatus

from .backoff import Backoff
from .entries import PROGRESSING, Entry, EntryIds, EntryTable, Kind, Timers, Trouble
from .ports import ReconcileAction

ACTIONS: Mapping[ServerStatus, ReconcileAction] = {
    ServerStatus.ACTIVE: "servers.start",
    ServerStatus.SHUTOFF: "servers.stop",
}
TARGETS: Mapping[ReconcileAction, ServerStatus] = {action: status for status, action in ACTIONS.items()}

RECHECK = 10.0
"""Seconds after which a state that contradicts a fresh success is read again."""

FRESH = 60.0
"""Seconds for which a success is fresh."""

UNREAD = "its state was not read yet"
WAITS = "it waits for its turn"
LOOKS = "its state is read again"
LOCKED = "it is locked: unlock it"
UNDONE = "its job has succeeded, and something has undone it"
MISSING = "the cloud does not show it"


class Books:
    """All servers of a reconciler.

    Args:
        backoff: How long a server is left alone after a failed attempt.
        resync: Seconds between two readings of all states.
        on_change: Called with a server whose condition has changed; must not raise.

    Attributes:
        max_age: Seconds for which a state may be acted on.
        under_way: What is being done to which server by this reconciler, forgotten ones included.
        ready: The servers that may be acted on, by action, the oldest first.
        to_look: Servers whose state is to be read at once.
        refused: Entries that are no ids, with what was desired of them and the error.
    """

    def __init__(self, backoff: Backoff, *, resync: float, on_change: Callable[[str], None]) -> None:
        self._backoff = backoff
        self._resync = resync
        self._on_change = on_change
        self._entries = EntryTable()
        self._troubles: dict[str, Trouble] = {}
        self._doubts: dict[str, float] = {}
        self._held: dict[str, str] = {}
        self._looks = Timers()
        self._counts = [0] * len(Kind)
        self.ids = EntryIds(self._entries)
        self.max_age = 2 * resync
        self.under_way: dict[str, ReconcileAction] = {}
        self.ready: dict[ReconcileAction, dict[str, None]] = {"servers.stop": {}, "servers.start": {}}
        self.to_look: dict[str, None] = {}
        self.refused: dict[str, tuple[ServerStatus, InvalidRequestError, float]] = {}

    def count(self, *kinds: Kind) -> int:
        """Return how many servers are of some kinds, refused entries left out."""
        return sum(self._counts[kind] for kind in kinds)

    @property
    def unsynced(self) -> int:
        """How many servers are not synced, refused entries included."""
        return len(self._entries) - self._counts[Kind.SYNCED] + len(self.refused)

    def entry(self, server_id: str) -> Entry | None:
        """Return the entry of a server, None if nothing is desired of it."""
        return self._entries.get(server_id)

    def trouble(self, server_id: str) -> Trouble | None:
        """Return why a server is degraded, None if no attempt has failed and it is not left alone."""
        return self._troubles.get(server_id)

    def is_synced(self, server_id: str) -> bool:
        """Return whether a server is as desired."""
        entry = self._entries.get(server_id)
        return entry is not None and entry.kind is Kind.SYNCED

    def next_try(self, server_id: str) -> float | None:
        """Return when a degraded server is tried again at the earliest, None if nothing says so."""
        trouble = self._troubles.get(server_id)
        if trouble is None or trouble.left_alone is not None or server_id in self.under_way:
            return None
        return trouble.retry_at

    def want(self, server_id: str, status: ServerStatus, now: float) -> None:
        """Desire a status of a server; what was desired before counts no more."""
        entry = self._entries.get(server_id)
        if entry is None:
            self._entries.add(server_id, Entry(desired=status, wanted_at=now, since=now, why=UNREAD))
            self._counts[Kind.NEW] += 1
            if server_id not in self.under_way:
                self.to_look[server_id] = None
        elif entry.desired is not status:
            self._unready(server_id)
            self._troubles.pop(server_id, None)
            self._doubts.pop(server_id, None)
            entry.desired, entry.wanted_at = status, now
            self._judge(server_id, entry, now)

    def refuse(self, name: str, status: ServerStatus, error: InvalidRequestError, now: float) -> None:
        """Note a wish for something that is no id."""
        if name not in self.refused or self.refused[name][0] is not status:
            self.refused[name] = (status, error, now)
            self._on_change(name)

    def forget(self, server_id: str) -> None:
        """Desire nothing of a server; what is under way goes on."""
        self.refused.pop(server_id, None)
        entry = self._entries.pop(server_id)
        if entry is not None:
            self._counts[entry.kind] -= 1
            self._unready(server_id)
            self._troubles.pop(server_id, None)
            self._doubts.pop(server_id, None)
            self.to_look.pop(server_id, None)

    def remember(self, server_id: str, reason: str, attempts: int, retry_at: float, now: float) -> None:
        """Adopt what an earlier leader knew of failed attempts."""
        entry = self._entries.get(server_id)
        if entry is not None and server_id not in self.under_way and entry.kind is not Kind.SYNCED:
            self._unready(server_id)
            self._troubles[server_id] = Trouble(reason=reason, attempts=attempts, retry_at=retry_at)
            self._show(server_id, entry, Kind.DEGRADED, reason, now, changed=True)

    def observe(self, server_id: str, state: ServerState | None, *, began_at: float, now: float, random: float) -> None:
        """Note the state of a server.

        Args:
            server_id: The server.
            state: Its state; None if it is certain that the cloud does not show it.
            began_at: When the reading began.
            now: The current time.
            random: A number from 0 to 1 that was drawn for its back-off.
        """
        entry = self._entries.get(server_id)
        if entry is None or server_id in self.under_way or began_at <= entry.outcome_at:
            return
        if state is not None and state.status is entry.desired and entry.kind is Kind.SYNCED and entry.is_confirmed:
            # The way of nearly every server.
            entry.seen_at = began_at
            if not state.task_state:
                return
        if state is None and began_at < entry.wanted_at:
            # It was not looked for by that reading.
            return
        self.to_look.pop(server_id, None)
        entry.seen_at = began_at
        entry.seen = None
        self._unready(server_id)
        if state is None:
            self._leave_alone(server_id, entry, MISSING, now)
        elif server_id in self._held or state.task_state or state.is_rebooting:
            self._show_busy(server_id, entry, state.task_state or state.status, now)
        elif state.status not in ACTIONS:
            self._leave_alone(server_id, entry, f"its status is {state.status or 'not known'}", now)
        else:
            entry.seen, entry.is_locked = state.status, bool(state.locked)
            self._compare(server_id, entry, began_at, now, random)

    def begin(self, action: ReconcileAction, count: int, now: float) -> tuple[str, ...]:
        """Take servers to be acted on, and note that they are under way.

        Args:
            action: What is done to them.
            count: How many at most.
            now: The current time.
        """
        taken = []
        for server_id in tuple(islice(self.ready[action], count)):
            del self.ready[action][server_id]
            entry = self._entries.get(server_id)
            if entry is None:
                continue
            if now - entry.seen_at > self.max_age:
                self.to_look[server_id] = None
                self._show(server_id, entry, entry.kind, LOOKS, now)
                continue
            taken.append(server_id)
        self.adopt(action, taken, now)
        return tuple(taken)

    def adopt(self, action: ReconcileAction, ids: Iterable[str], now: float) -> None:
        """Note that servers are under way."""
        for server_id in ids:
            self.under_way[server_id] = action
            self._unready(server_id)
            self.to_look.pop(server_id, None)
            entry = self._entries.get(server_id)
            if entry is not None:
                kind = Kind.DEGRADED if entry.kind is Kind.DEGRADED else Kind.DIFFERS
                self._show(server_id, entry, kind, f"{action} is under way", now, changed=True)

    def on_outcome(self, outcome: Outcome, now: float, random: float) -> None:
        """Note the outcome of a server that was under way.

        Args:
            outcome: The outcome.
            now: The current time.
            random: A number from 0 to 1 that was drawn for its back-off.
        """
        server_id = outcome.server_id
        action = self.under_way.pop(server_id, None)
        entry = self._entries.get(server_id)
        if action is None or entry is None:
            return
        entry.outcome_at = now
        entry.seen, entry.is_confirmed = None, False
        self._doubts.pop(server_id, None)
        if outcome.state.is_success:
            entry.seen, entry.seen_at = TARGETS[action], now
            self._judge(server_id, entry, now)
        elif entry.desired is not TARGETS[action] or (outcome.state is OutcomeState.SKIPPED and outcome.error is None):
            self._look_again(server_id, entry, now)
        else:
            reason = outcome.error or f"{action} ended as {outcome.state}, without a reason"
            self._fail(server_id, entry, reason, now, random)
            if outcome.state is OutcomeState.UNKNOWN:
                self._looks.add(server_id, now + RECHECK)

    def abandon(self, ids: Iterable[str], now: float) -> None:
        """Note that servers are not under way any more, and that nothing is known of how it ended."""
        for server_id in ids:
            if self.under_way.pop(server_id, None) is not None and (entry := self._entries.get(server_id)) is not None:
                entry.outcome_at, entry.seen = now, None
                self._look_again(server_id, entry, now)

    def hold(self, job_id: str, ids: Iterable[str], now: float) -> bool:
        """Note that a job that is not this reconciler's is at work on servers.

        Returns:
            Whether any of them is one of these.
        """
        is_held = False
        for server_id in ids:
            entry = self._entries.get(server_id)
            if entry is not None and server_id not in self.under_way:
                is_held = True
                self._held[server_id] = job_id
                entry.seen = None
                self._unready(server_id)
                self._show_busy(server_id, entry, f"job {job_id}", now)
        return is_held

    def release(self, job_id: str, ids: Iterable[str], now: float) -> None:
        """Note that such a job is no longer at work on servers."""
        for server_id in ids:
            if self._held.get(server_id) == job_id:
                del self._held[server_id]
                entry = self._entries.get(server_id)
                if entry is not None and server_id not in self.under_way:
                    entry.outcome_at = now
                    self._look_again(server_id, entry, now)

    def release_all(self, now: float) -> None:
        """Note that nothing is known any more of such jobs."""
        for server_id, job_id in tuple(self._held.items()):
            self.release(job_id, (server_id,), now)

    @property
    def next_look(self) -> float | None:
        """When a server is to be looked at by itself; None if none is."""
        return self._looks.next_due

    def look(self, server_id: str) -> None:
        """Have a server looked at."""
        if self._entries.get(server_id) is not None and server_id not in self.under_way:
            self.to_look[server_id] = None

    def pop_looks(self, now: float) -> None:
        """Have the servers looked at whose time has come."""
        for server_id in self._looks.pop(now):
            self.look(server_id)

    def _judge(self, server_id: str, entry: Entry, now: float) -> None:
        """Decide by what is known what a server is, and whether it may be acted on."""
        if server_id in self.under_way:
            self._show(server_id, entry, Kind.DIFFERS, f"{self.under_way[server_id]} is under way", now)
        elif entry.seen is None or now - entry.seen_at > self.max_age or server_id in self._held:
            self._look_again(server_id, entry, now)
        elif entry.seen is entry.desired:
            # Failed attempts count until a reading confirms it.
            self._show(server_id, entry, Kind.SYNCED, "", now)
        elif entry.is_locked:
            self._leave_alone(server_id, entry, LOCKED, now)
        else:
            self._wait(server_id, entry, now)

    def _compare(self, server_id: str, entry: Entry, began_at: float, now: float, random: float) -> None:
        """Compare what a reading has shown of an idle server with what is desired."""
        trouble = self._troubles.get(server_id)
        if entry.seen is entry.desired:
            self._troubles.pop(server_id, None)
            self._doubts.pop(server_id, None)
            entry.is_confirmed = True
            self._show(server_id, entry, Kind.SYNCED, "", now)
        elif self._is_doubtful(server_id, entry, began_at):
            entry.seen = None
            if server_id not in self._doubts:
                self._doubts[server_id] = now
                self._looks.add(server_id, now + RECHECK)
        elif self._doubts.pop(server_id, None) is not None and self._is_repeated_claim(server_id):
            self._fail(server_id, entry, f"its job has succeeded, and the cloud shows it {entry.seen}", now, random)
        elif entry.is_locked:
            self._leave_alone(server_id, entry, LOCKED, now)
        elif trouble is not None and now < trouble.retry_at:
            trouble.left_alone = None
            self._show(server_id, entry, Kind.DEGRADED, str(trouble.reason), now)
        else:
            self._wait(server_id, entry, now)

    def _is_doubtful(self, server_id: str, entry: Entry, began_at: float) -> bool:
        """Return whether a reading that contradicts a success is to be repeated before it counts."""
        if entry.is_confirmed or entry.kind is not Kind.SYNCED:
            return False
        doubted_at = self._doubts.get(server_id)
        if doubted_at is None:
            return began_at - entry.outcome_at < FRESH
        return began_at - doubted_at < RECHECK

    def _is_repeated_claim(self, server_id: str) -> bool:
        """Count a success that was contradicted; return whether it is not the first, which somebody may have undone."""
        trouble = self._troubles.setdefault(server_id, Trouble(reason=UNDONE))
        trouble.claims += 1
        return trouble.claims > 1

    def _wait(self, server_id: str, entry: Entry, now: float) -> None:
        """Have a server wait for its turn to be acted on."""
        self.ready[ACTIONS[entry.desired]][server_id] = None
        self._show_progress(server_id, entry, Kind.DIFFERS, WAITS, now)

    def _look_again(self, server_id: str, entry: Entry, now: float) -> None:
        self.to_look[server_id] = None
        self._show_progress(server_id, entry, Kind.DIFFERS, LOOKS, now)

    def _show_busy(self, server_id: str, entry: Entry, task: object, now: float) -> None:
        self._doubts.pop(server_id, None)
        self._show_progress(server_id, entry, Kind.BUSY, f"something else is at work on it: {task}", now)

    def _show_progress(self, server_id: str, entry: Entry, kind: Kind, why: str, now: float) -> None:
        """Show that something is on its way; a server that was tried in vain stays degraded until it is synced."""
        trouble = self._troubles.get(server_id)
        if trouble is not None:
            trouble.left_alone = None
            if trouble.attempts:
                kind = Kind.DEGRADED
            elif not trouble.claims:
                del self._troubles[server_id]
        self._show(server_id, entry, kind, why, now)

    def _leave_alone(self, server_id: str, entry: Entry, sentence: str, now: float) -> None:
        self._doubts.pop(server_id, None)
        trouble = self._troubles.setdefault(server_id, Trouble(reason=sentence))
        trouble.left_alone = sentence
        self._show(server_id, entry, Kind.DEGRADED, sentence, now)

    def _fail(self, server_id: str, entry: Entry, reason: BmsError | str, now: float, random: float) -> None:
        """Count a failed attempt."""
        trouble = self._troubles.setdefault(server_id, Trouble(reason=reason))
        trouble.reason, trouble.left_alone = reason, None
        trouble.attempts += 1
        delay = self._backoff.delay(trouble.attempts, random)
        trouble.retry_at = now + delay
        if delay < self._resync:
            # Otherwise the next reading of all is early enough.
            self._looks.add(server_id, trouble.retry_at)
        self._show(server_id, entry, Kind.DEGRADED, str(reason), now, changed=True)

    def _unready(self, server_id: str) -> None:
        for waiting in self.ready.values():
            waiting.pop(server_id, None)

    def _show(self, server_id: str, entry: Entry, kind: Kind, why: str, now: float, *, changed: bool = False) -> None:
        if kind is entry.kind and why == entry.why and not changed:
            return
        if kind is not entry.kind:
            self._counts[entry.kind] -= 1
            self._counts[kind] += 1
            if kind not in PROGRESSING or entry.kind not in PROGRESSING:
                entry.since = now
            entry.kind = kind
        entry.why = why
        self._on_change(server_id)
