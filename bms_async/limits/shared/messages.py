"""What a holder and the ledger say to each other, and what the ledger keeps: the same bytes in every store.

All of it is MessagePack arrays, because the script that runs inside Redis reads and writes them too. A Lua table cannot
hold a nil in the middle, so nothing here is optional: an empty array stands for what is not known.
"""

from __future__ import annotations

import math

import msgspec

from bms_async.limits.adaptive_limit import AdaptiveLimit

VERSION = 1
"""The version of the state; a store that holds a later one is not used."""

CLOCK_DRIFT = 0.05
"""Seconds added to the window, which bear a clock that is 500 parts in a million too fast; and added to the time before
it, a lease and a timeout, where that counts too."""


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """The times that all holders of an account agree on, in seconds.

    Attributes:
        window: The window that the limit is for.
        lease: How long a holder may send after it asked.
        timeout: How long a request may be under way after it was sent by a holder that is gone.
    """

    window: float = 60.0
    lease: float = 15.0
    timeout: float = 60.0

    @property
    def closed(self) -> float:
        """How long an account is closed whose past is not known: until no earlier call can count any more."""
        return self.lease + self.timeout + CLOCK_DRIFT + self.window + CLOCK_DRIFT


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A 429.

    Attributes:
        retry_after: The seconds that it named; empty for none.
        quota: The limit that it named, calls and seconds; empty for none.
    """

    retry_after: tuple[float, ...] = ()
    quota: tuple[float, ...] = ()


class Question(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a holder says of one limit, and what it wants.

    Attributes:
        holder: The holder's id.
        seq: The question's number, from 1. A question that was not answered is repeated as it was.
        terms: The times that the holder keeps to.
        limit: Calls a window, as documented or set.
        reserve: How many slots its bulk calls leave free.
        interactive: How many calls wait in the interactive lane.
        bulk: How many calls wait in the bulk lane.
        ahead: How many slots it will soon want besides.
        unused: How many of its slots it gives back, for which nothing was sent.
        spare: How many of its slots it keeps that it has sent nothing for, and may give back soon.
        adopted: How many slots it used that the ledger did not grant.
        ended: How long ago its calls ended whose slots it held: seconds, and how many calls.
        refusals: The 429s that it got.
        jumped: Whether it saw the store's clock jump ahead.
        leaving: Whether it is done, and needs no place in the queue.
    """

    holder: str
    seq: int
    terms: Terms
    limit: int
    reserve: int = 0
    interactive: int = 0
    bulk: int = 0
    ahead: int = 0
    unused: int = 0
    spare: int = 0
    adopted: int = 0
    ended: tuple[tuple[float, int], ...] = ()
    refusals: tuple[Refusal, ...] = ()
    jumped: bool = False
    leaving: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the ledger says to a question.

    Attributes:
        seq: The question's number.
        known: Whether the holder still had its lease. If not, nothing that it said was used, and it begins anew.
        granted: How many slots it is given.
        again: Seconds until asking again pays; 0 where nothing is wanted.
        scarce: Whether others wait.
        capacity: Calls a window now.
        used: How many slots are held or have not come back, of all holders.
        waiting: How many calls of other holders wait.
        holders: How many holders there are.
        closed_for: Seconds until the account opens.
        blocked_for: Seconds for which a 429 stops all calls.
        quota: The lower limit that a 429 named: calls, seconds, and the seconds until it is forgotten; or empty.
        now: The store's time.
    """

    seq: int
    known: bool
    granted: int = 0
    again: float = 0.0
    scarce: bool = False
    capacity: int = 0
    used: int = 0
    waiting: int = 0
    holders: int = 0
    closed_for: float = 0.0
    blocked_for: float = 0.0
    quota: tuple[float, ...] = ()
    now: float = 0.0


class Holder(msgspec.Struct, array_like=True):
    """A process, or a part of one, that has or wants slots of a limit. All times are the store's.

    Attributes:
        id: Its id.
        ends: When its lease ends, or, if it holds nothing, its place in the queue.
        limit: The limit that it keeps to.
        held: The slots that it has: for calls that it has not sent, or that have not ended, or whose end it has not
            reported.
        interactive: How many of its interactive calls wait.
        bulk: How many of its bulk calls wait.
        interactive_since: Since when it waits for an interactive slot; where none is wanted it means nothing.
        bulk_since: The same for the bulk lane.
        spare: How many of the slots that it has may come back soon, because it had sent nothing for them.
        due: When its turn comes; it was asked to come then, if not before.
        seq: The number of its last question.
        granted: How many slots the answer to that granted.
    """

    id: str
    ends: float
    limit: int
    held: int = 0
    interactive: int = 0
    bulk: int = 0
    interactive_since: float = 0.0
    bulk_since: float = 0.0
    spare: int = 0
    due: float = math.inf
    seq: int = 0
    granted: int = 0


class Ledger(msgspec.Struct, array_like=True):
    """The state of one limit. All times are the store's.

    Attributes:
        since: When the account began that this belongs to; another one means that this is of an earlier life.
        seen: The time of the last question.
        adaptive: How many calls a window may hold now.
        ended: When calls ended whose slots have not come back, ascending.
        counts: How many slots came free for each of these times: a list of its own, for a list of pairs takes the
            script in Redis three times as long to read and write.
        holders: Who holds or wants slots.
    """

    since: float
    seen: float
    adaptive: AdaptiveLimit
    ended: list[float] = []
    counts: list[int] = []
    holders: list[Holder] = []

    @property
    def cooldowns(self) -> list[tuple[float, int]]:
        """When calls ended whose slots have not come back, and how many did then, ascending."""
        return list(zip(self.ended, self.counts, strict=True))


class Account(msgspec.Struct, frozen=True, array_like=True):
    """What all limits of an account have in common.

    Attributes:
        version: The version of all this.
        life: The life of the store: with another one, it may have lost what was reported.
        since: When this life of the account began, by the store's clock.
        closed_until: Before it nothing is granted, by the store's clock.
        limits: The names of the limits that were asked for: of one that is here but not in the store the past was lost.
    """

    version: int
    life: str
    since: float
    closed_until: float
    limits: tuple[str, ...] = ()
