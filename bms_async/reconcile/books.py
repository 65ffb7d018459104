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

from bms_async.fleet.evidence import ServerState
from bms_async.fleet.outcome import Outcome, OutcomeState, is_transient
from bms_async.models import ServerStatus

from .backoff import Backoff
from .entries import Entry, Kind, Trouble
from .ledger import ACTIONS, AT_ONCE, RECHECK, UNREAD, Ledger
from .ports import ReconcileAction

TARGETS: Mapping[ReconcileAction, ServerStatus] = {action: status for status, action in ACTIONS.items()}

FRESH = 60.0
"""Seconds for which a success is fresh."""

LOCKED = "it is locked: unlock it"
UNDONE = "its job has succeeded, and something has undone it"
MISSING = "the cloud does not show it: check the id and the project"


class Books(Ledger):
    """All servers of a reconciler, and what is to be done about them.

    Args:
        backoff: How long a server is left alone after a failed attempt.
        resync: Seconds between two readings of all states.
        on_change: Called with a server whose condition has changed; must not raise.

    Attributes:
        max_age: Seconds for which a state may be acted on.
    """

    def __init__(self, backoff: Backoff, *, resync: float, on_change: Callable[[str], None]) -> None:
        super().__init__(backoff, resync=resync, on_change=on_change)
        self.max_age = 2 * resync
        self._held: dict[str, str] = {}
        self._contested: set[str] = set()

    def want(self, server_id: str, status: ServerStatus, now: float) -> None:
        """Desire a status of a server; what was desired before counts no more."""
        entry = self.entries.get(server_id)
        if entry is None:
            self.add(server_id, Entry(desired=status, since=now, outcome_at=now, why=UNREAD))
            if server_id not in self.under_way:
                self.to_look[server_id] = None
        elif entry.desired is not status:
            self.unready(server_id)
            self.troubles.pop(server_id, None)
            self.doubts.pop(server_id, None)
            entry.desired = status
            self._judge(server_id, entry, now)

    def forget(self, server_id: str) -> None:
        """Desire nothing of a server; what is under way goes on."""
        if self.refused.pop(server_id, None) is not None or self.entries.get(server_id) is not None:
            self.remove(server_id)
            self._on_change(server_id)

    def remember(self, server_id: str, reason: str, attempts: int, retry_at: float, now: float) -> None:
        """Adopt what an earlier leader knew of failed attempts."""
        entry = self.entries.get(server_id)
        if entry is not None and server_id not in self.under_way and entry.kind is not Kind.SYNCED:
            self.unready(server_id)
            # The clock of whoever wrote it may have been ahead.
            retry_at = min(retry_at, now + self._backoff.cap)
            self.troubles[server_id] = Trouble(reason=reason, attempts=attempts, retry_at=retry_at)
            self.show(server_id, entry, Kind.DEGRADED, reason, now, changed=True)

    def absolve(self, server_id: str, now: float) -> None:
        """Adopt that the attempts of an earlier leader came to their end."""
        entry, trouble = self.entries.get(server_id), self.troubles.get(server_id)
        if entry is None or trouble is None or trouble.left_alone is not None or server_id in self.under_way:
            return
        del self.troubles[server_id]
        self.look_again(server_id, entry, now)

    def observe(self, server_id: str, state: ServerState | None, *, began_at: float, now: float, random: float) -> None:
        """Note the state of a server.

        Args:
            server_id: The server.
            state: Its state; None if it is certain that the cloud does not show it.
            began_at: When the reading began.
            now: The current time.
            random: A number from 0 to 1 that was drawn for its back-off.
        """
        entry = self.entries.get(server_id)
        if entry is None or server_id in self.under_way or began_at <= entry.outcome_at:
            return
        if state is not None and state.status is entry.desired and entry.kind is Kind.SYNCED and entry.is_confirmed:
            # The way of nearly every server.
            entry.seen_at = began_at
            if not state.task_state:
                return
        self.to_look.pop(server_id, None)
        entry.seen_at = began_at
        entry.seen = None
        if state is None:
            self.leave_alone(server_id, entry, MISSING, now)
        elif server_id in self._held or state.task_state or state.is_rebooting:
            what = state.status if state.is_rebooting else f"job {self._held.get(server_id)}"
            self.show_busy(server_id, entry, state.task_state or what, now)
        elif state.status not in ACTIONS:
            self.leave_alone(server_id, entry, f"its status is {state.status or 'not known'}", now)
        else:
            entry.seen, entry.is_locked = state.status, bool(state.locked)
            if self._compare(server_id, entry, began_at, now, random):
                # It keeps its place: those that are tried again and again would else be before it for ever.
                return
        self.unready(server_id)

    def begin(self, action: ReconcileAction, count: int, now: float) -> tuple[str, ...]:
        """Take servers to be acted on, and note that they are under way.

        Args:
            action: What is done to them.
            count: How many at most.
            now: The current time.
        """
        taken: list[str] = []
        for server_id in tuple(islice(self.ready[action], max(count, AT_ONCE))):
            if len(taken) == count:
                break
            del self.ready[action][server_id]
            entry = self.entries.get(server_id)
            if entry is None:
                continue
            if now - entry.seen_at > self.max_age:
                self.look_again(server_id, entry, now)
                continue
            taken.append(server_id)
        self.adopt(action, taken, now)
        return tuple(taken)

    def adopt(self, action: ReconcileAction, ids: Iterable[str], now: float) -> None:
        """Note that servers are under way."""
        for server_id in ids:
            self.under_way[server_id] = action
            self.unready(server_id)
            self.to_look.pop(server_id, None)
            entry = self.entries.get(server_id)
            if entry is not None:
                kind = Kind.DEGRADED if entry.kind is Kind.DEGRADED else Kind.DIFFERS
                self.show(server_id, entry, kind, f"{action} is under way", now, changed=True)

    def on_outcome(self, outcome: Outcome, now: float, random: float) -> None:
        """Note the outcome of a server that was under way.

        Args:
            outcome: The outcome.
            now: The current time.
            random: A number from 0 to 1 that was drawn for its back-off.
        """
        server_id = outcome.server_id
        action = self.under_way.pop(server_id, None)
        entry = self.entries.get(server_id)
        if action is None or entry is None:
            return
        entry.outcome_at = now
        entry.seen, entry.is_confirmed = None, False
        self.doubts.pop(server_id, None)
        if outcome.state.is_success:
            entry.seen, entry.seen_at = TARGETS[action], now
            self._judge(server_id, entry, now)
        elif entry.desired is not TARGETS[action] or (outcome.state is OutcomeState.SKIPPED and outcome.error is None):
            self.look_again(server_id, entry, now)
        else:
            error = outcome.error
            if error is not None and is_transient(error) and not self.refuse_busy(server_id, entry, error, now):
                return
            self.fail(server_id, entry, error or f"{action} ended as {outcome.state}, without a reason", now, random)
            if outcome.state is OutcomeState.UNKNOWN:
                self.looks.add(server_id, now + RECHECK)

    def abandon(self, ids: Iterable[str], now: float) -> None:
        """Note that servers are not under way any more, and that nothing is known of how it ended."""
        for server_id in ids:
            if self.under_way.pop(server_id, None) is not None and (entry := self.entries.get(server_id)) is not None:
                entry.outcome_at, entry.seen = now, None
                self.look_again(server_id, entry, now)

    def abandon_some(self, now: float) -> bool:
        """Note of some servers that they are not under way any more; return whether there may be more."""
        some = tuple(islice(self.under_way, AT_ONCE))
        self.abandon(some, now)
        return bool(some)

    def hold(self, job_id: str, ids: Iterable[str], now: float) -> bool:
        """Note that a job that is not this reconciler's is at work on servers.

        Returns:
            Whether any of them is one of these.
        """
        is_held = False
        for server_id in ids:
            entry = self.entries.get(server_id)
            if entry is not None and server_id not in self.under_way:
                is_held = True
                was_just_brought = entry.kind is Kind.SYNCED and entry.since == entry.outcome_at
                if was_just_brought and now - entry.since < self._resync:
                    self._contested.add(server_id)
                self._held[server_id] = job_id
                entry.seen = None
                self.unready(server_id)
                self.show_busy(server_id, entry, f"job {job_id}", now)
        return is_held

    def release(self, job_id: str, ids: Iterable[str], now: float) -> None:
        """Note that such a job is no longer at work on servers.

        They are looked at at once, but for those that had only just been brought to their status: the next reading of
        all is early enough for a server that two sides want otherwise.
        """
        for server_id in ids:
            if self._held.get(server_id) == job_id:
                del self._held[server_id]
                is_contested = server_id in self._contested
                self._contested.discard(server_id)
                entry = self.entries.get(server_id)
                if entry is not None and server_id not in self.under_way:
                    entry.outcome_at = now
                    self.look_again(server_id, entry, now)
                    if is_contested:
                        # Two reconcilers of contrary desires hear of each other, and would use the limits up.
                        self.to_look.pop(server_id, None)

    def release_some(self, now: float) -> bool:
        """Note of some servers that nothing is known any more of such jobs; return whether there may be more."""
        some = tuple(islice(self._held.items(), AT_ONCE))
        for server_id, job_id in some:
            self.release(job_id, (server_id,), now)
        return bool(some)

    def _judge(self, server_id: str, entry: Entry, now: float) -> None:
        """Decide by what is known what a server is, and whether it may be acted on."""
        if server_id in self.under_way:
            self.show(server_id, entry, Kind.DIFFERS, f"{self.under_way[server_id]} is under way", now)
        elif entry.seen is None or now - entry.seen_at > self.max_age or server_id in self._held:
            self.look_again(server_id, entry, now)
        elif entry.seen is entry.desired:
            # Failed attempts count until a reading confirms it.
            self.show(server_id, entry, Kind.SYNCED, "", now)
        elif entry.is_locked:
            self.leave_alone(server_id, entry, LOCKED, now)
        else:
            self.wait(server_id, entry, now)

    def _compare(self, server_id: str, entry: Entry, began_at: float, now: float, random: float) -> bool:
        """Compare what a reading has shown of an idle server with what is desired; return whether to act on it."""
        trouble = self.troubles.get(server_id)
        if entry.seen is entry.desired:
            self.troubles.pop(server_id, None)
            self.doubts.pop(server_id, None)
            entry.is_confirmed = True
            self.show(server_id, entry, Kind.SYNCED, "", now)
        elif self._is_doubtful(server_id, entry, began_at):
            entry.seen = None
            if server_id not in self.doubts:
                self.doubts[server_id] = now
                self.looks.add(server_id, now + RECHECK)
        elif self.doubts.pop(server_id, None) is not None and self._is_repeated_claim(server_id):
            self.fail(server_id, entry, f"its job has succeeded, and the cloud shows it {entry.seen}", now, random)
        elif entry.is_locked:
            self.leave_alone(server_id, entry, LOCKED, now)
        elif trouble is not None and now < trouble.retry_at:
            # It stays what it is: degraded, or busy as the cloud has said.
            self.show_progress(server_id, entry, Kind.BUSY, str(trouble.reason), now)
        else:
            self.wait(server_id, entry, now)
            return True
        return False

    def _is_doubtful(self, server_id: str, entry: Entry, began_at: float) -> bool:
        """Return whether a reading that contradicts a success is to be repeated before it counts."""
        if entry.is_confirmed or entry.kind is not Kind.SYNCED:
            return False
        doubted_at = self.doubts.get(server_id)
        if doubted_at is None:
            return began_at - entry.outcome_at < FRESH
        return began_at - doubted_at < RECHECK

    def _is_repeated_claim(self, server_id: str) -> bool:
        """Count a success that was contradicted; return whether it is not the first, which somebody may have undone."""
        trouble = self.troubles.setdefault(server_id, Trouble(reason=UNDONE))
        trouble.claims += 1
        return trouble.claims > 1
