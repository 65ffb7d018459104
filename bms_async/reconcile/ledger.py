"""The state of each server of a reconciler, and the queues it is in: what `Books` decides with, pure like it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bms_async.errors import BmsError, InvalidRequestError
from bms_async.models import ServerStatus

from .backoff import Backoff
from .entries import PROGRESSING, Entry, EntryIds, EntryTable, Kind, Timers, Trouble
from .ports import ReconcileAction

ACTIONS: Mapping[ServerStatus, ReconcileAction] = {
    ServerStatus.ACTIVE: "servers.start",
    ServerStatus.SHUTOFF: "servers.stop",
}
RECHECK = 10.0
"""Seconds after which a state is read again that contradicts a fresh success, or a refusal because of a task."""

AT_ONCE = 500
"""How many servers are gone through at once where there may be very many."""

_MAX_REFUSALS = 5
"""How often in a row the cloud may refuse because a server is busy before that counts as a failed attempt."""

UNREAD = "its state was not read yet"
WAITS = "it waits for its turn"
LOOKS = "its state is read again"


class Ledger:
    """The servers of a reconciler.

    Args:
        backoff: How long a server is left alone after a failed attempt.
        resync: Seconds between two readings of all states.
        on_change: Called with a server whose condition has changed; must not raise.

    Attributes:
        entries: What is known of each server of which a status is desired.
        troubles: Why servers are degraded, by server; none where no attempt has failed and it is not left alone.
        ids: The servers of which a status is desired.
        under_way: What is being done to which server by this reconciler, forgotten ones included.
        ready: The servers that may be acted on, by action.
        to_look: Servers whose state is to be read at once.
        refused: Entries that are no ids, with what was desired of them, the error, and since when.
    """

    def __init__(self, backoff: Backoff, *, resync: float, on_change: Callable[[str], None]) -> None:
        self._backoff = backoff
        self._resync = resync
        self._on_change = on_change
        self.entries = EntryTable()
        self.troubles: dict[str, Trouble] = {}
        self.doubts: dict[str, float] = {}
        self.looks = Timers()
        self.counts = [0] * len(Kind)
        self.ids = EntryIds(self.entries)
        self.under_way: dict[str, ReconcileAction] = {}
        self.ready: dict[ReconcileAction, dict[str, None]] = {"servers.stop": {}, "servers.start": {}}
        self.to_look: dict[str, None] = {}
        self.refused: dict[str, tuple[ServerStatus, InvalidRequestError, float]] = {}

    def add(self, server_id: str, entry: Entry) -> None:
        """Add a server that is not here."""
        self.entries.add(server_id, entry)
        self.counts[entry.kind] += 1

    def remove(self, server_id: str) -> None:
        """Remove a server, if it is here."""
        entry = self.entries.pop(server_id)
        if entry is not None:
            self.counts[entry.kind] -= 1
            self.unready(server_id)
            self.troubles.pop(server_id, None)
            self.doubts.pop(server_id, None)
            self.to_look.pop(server_id, None)

    def names(self) -> Iterator[str]:
        """Iterate over all servers and refused entries; these may change meanwhile."""
        yield from self.ids
        yield from tuple(self.refused)

    @property
    def total(self) -> int:
        """How many servers there are, refused entries included, as in all counts."""
        return len(self.entries) + len(self.refused)

    @property
    def synced(self) -> int:
        """How many servers are as desired."""
        return self.counts[Kind.SYNCED]

    @property
    def unsynced(self) -> int:
        """How many servers are not."""
        return self.total - self.synced

    @property
    def degraded(self) -> int:
        """How many servers were tried in vain, or are left alone."""
        return self.counts[Kind.DEGRADED] + len(self.refused)

    @property
    def progressing(self) -> int:
        """How many servers are neither synced nor degraded."""
        return self.unsynced - self.degraded

    def is_synced(self, server_id: str) -> bool:
        """Return whether a server is as desired."""
        entry = self.entries.get(server_id)
        return entry is not None and entry.kind is Kind.SYNCED

    def next_try(self, server_id: str) -> float | None:
        """Return when a degraded server is tried again at the earliest, None if nothing says so."""
        trouble = self.troubles.get(server_id)
        if trouble is None or trouble.left_alone is not None or server_id in self.under_way:
            return None
        return trouble.retry_at

    def refuse(self, name: str, status: ServerStatus, error: InvalidRequestError, now: float) -> None:
        """Note a wish for something that is no id."""
        if name not in self.refused or self.refused[name][0] is not status:
            self.refused[name] = (status, error, now)
            self._on_change(name)

    def look(self, server_id: str) -> None:
        """Have a server looked at."""
        if self.entries.get(server_id) is not None and server_id not in self.under_way:
            self.to_look[server_id] = None

    @property
    def next_look(self) -> float | None:
        """When a server is to be looked at by itself; None if none is."""
        return self.looks.next_due

    def pop_looks(self, now: float) -> bool:
        """Have some of the servers looked at whose time has come; return whether there may be more."""
        due = self.looks.pop(now, AT_ONCE)
        for server_id in due:
            self.look(server_id)
        return bool(due)

    def wait(self, server_id: str, entry: Entry, now: float) -> None:
        """Have a server wait for its turn to be acted on."""
        self.ready[ACTIONS[entry.desired]][server_id] = None
        self.show_progress(server_id, entry, Kind.DIFFERS, WAITS, now)

    def look_again(self, server_id: str, entry: Entry, now: float) -> None:
        """Have a server looked at, of which nothing is known now."""
        self.to_look[server_id] = None
        self.show_progress(server_id, entry, Kind.DIFFERS, LOOKS, now)

    def show_busy(self, server_id: str, entry: Entry, task: object, now: float) -> None:
        """Show that something else is at work on a server."""
        self.doubts.pop(server_id, None)
        self.show_progress(server_id, entry, Kind.BUSY, f"something else is at work on it: {task}", now)

    def show_progress(self, server_id: str, entry: Entry, kind: Kind, why: str, now: float) -> None:
        """Show that something is on its way; a server that was tried in vain stays degraded until it is synced."""
        trouble = self.troubles.get(server_id)
        if trouble is not None:
            trouble.left_alone = None
            if trouble.attempts:
                kind = Kind.DEGRADED
            elif trouble.is_over:
                del self.troubles[server_id]
        self.show(server_id, entry, kind, why, now)

    def leave_alone(self, server_id: str, entry: Entry, sentence: str, now: float) -> None:
        """Show that a server is not tried as long as it is as it is."""
        self.doubts.pop(server_id, None)
        trouble = self.troubles.setdefault(server_id, Trouble(reason=sentence))
        trouble.left_alone = sentence
        self.show(server_id, entry, Kind.DEGRADED, sentence, now)

    def fail(self, server_id: str, entry: Entry, reason: BmsError | str, now: float, random: float) -> None:
        """Count a failed attempt."""
        trouble = self.troubles.setdefault(server_id, Trouble(reason=reason))
        trouble.reason, trouble.left_alone = reason, None
        trouble.attempts += 1
        delay = self._backoff.delay(trouble.attempts, random)
        trouble.retry_at = now + delay
        if delay < self._resync:
            # Otherwise the next reading of all is early enough.
            self.looks.add(server_id, trouble.retry_at)
        self.show(server_id, entry, Kind.DEGRADED, str(reason), now, changed=True)

    def refuse_busy(self, server_id: str, entry: Entry, reason: BmsError, now: float) -> bool:
        """Note that the cloud has refused because a server is busy; return whether it did so too often for that.

        Args:
            server_id: The server.
            entry: Its entry.
            reason: The error.
            now: The current time.
        """
        trouble = self.troubles.setdefault(server_id, Trouble(reason=reason))
        trouble.refusals += 1
        if trouble.refusals > _MAX_REFUSALS:
            return True
        trouble.retry_at = now + RECHECK
        self.looks.add(server_id, trouble.retry_at)
        self.show_busy(server_id, entry, reason, now)
        return False

    def unready(self, server_id: str) -> None:
        """Have a server not acted on."""
        for waiting in self.ready.values():
            waiting.pop(server_id, None)

    def show(self, server_id: str, entry: Entry, kind: Kind, why: str, now: float, *, changed: bool = False) -> None:
        """Show what a server is.

        Args:
            server_id: The server.
            entry: Its entry.
            kind: What it is.
            why: What is waited for, or what is wrong.
            now: The current time.
            changed: Whether something else of its condition has changed.
        """
        if kind is entry.kind and why == entry.why and not changed:
            return
        if kind is not entry.kind:
            self.counts[entry.kind] -= 1
            self.counts[kind] += 1
            if kind not in PROGRESSING or entry.kind not in PROGRESSING:
                entry.since = now
            entry.kind = kind
        entry.why = why
        self._on_change(server_id)
