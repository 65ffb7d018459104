"""The rule book of a limit that many processes share: a question in, slots and the time to ask again out.

Guarantee (R1): over all holders that ask one ledger, no window at the server holds more calls than the limit, whichever
of them dies, whichever answer is lost, and however late a question comes.

How: a slot that is granted is *held*, from before the answer leaves until its holder says that the call ended, or that
nothing was sent. It says how long ago the call ended, by its own clock, so no clock is shared, and a late question only
keeps the slot longer. From then on the slot is in its cooldown for a window, as in `WindowLimiter`. A holder has a
lease, which it counts from before it asked, and after which it sends nothing. When that is over the slots that it held
go into their cooldown as if their calls had ended a timeout later. It comes back as a new holder, so nothing that it
says of its former life can be mistaken. Each question has a number and is dealt with once; when it is repeated, the
answer is too. An account whose past is not known (it is new, or its store lives another life, or its clock jumped) is
closed until no earlier call can count any more. That goes for a single limit too: the account has the names of its
limits, so one that is missing was lost (somebody deleted its row), and is not taken for a new one.

Slots go to the holders in turn: first the interactive calls of all, then the bulk calls of all, and in each lane the
holder first that waits longest, a few slots a turn. An answer says when the holder's turn will come, which is known a
window ahead. What is due to holders that are about to come is kept for them for a moment.

The script `ledger.lua` does the same inside Redis, line by line, and a test holds them equal. Nothing here knows a
clock or a store; the arguments are changed and returned.

Rejected: a round trip a call, which costs five times what the call costs; messages that wake a holder, which can be
missed; an expiry of keys, with which a store forgets what still counts; and a checksum of what is kept, since what
counts is two minutes old at most, and an older copy, which is what a broken store rather has, would pass it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from bms_async.limits.adaptive_limit import AdaptiveLimit

from .messages import CLOCK_DRIFT, VERSION, Account, Answer, Holder, Ledger, Question, Terms

_KEPT = 0.3
"""Seconds for which slots are kept for a holder that was asked to come now."""

_PAUSE_INTERACTIVE = 0.25
_PAUSE_BULK = 1.0
"""Seconds after which a holder asks again where it is not known when slots come back, because their calls go on."""

_TURN = 0.25
"""Seconds of the limit that a holder gets in one turn: 8 slots at 2000 a minute, one at 50."""

_SPREAD = 0.03
"""Seconds by which each holder that waits makes all of them ask less often: some 33 questions a second in all."""

_RENEWALS = 3
"""How often a lease is renewed within its length."""

_GRAINS = 100
"""Parts of a second that cooldowns are rounded up to, so that those that end together are counted together."""


class Dealt(NamedTuple):
    """What a question led to."""

    account: Account
    ledger: Ledger
    answer: Answer


class _Contender(NamedTuple):
    """A holder that is there for slots of one lane, or about to come."""

    since: float
    id: str
    wanted: int


def open_account(account: Account | None, *, now: float, life: str) -> Account:
    """Return an account that is open at once, because an operator vouches that no earlier call counts any more."""
    if account is None or account.life != life:
        return Account(VERSION, life, now, now)
    return replace(account, closed_until=now, limits=())


def deal(
    account: Account | None, ledger: Ledger | None, question: Question, *, name: str, now: float, life: str
) -> Dealt:
    """Deal with a question.

    Args:
        account: The state of the account; None if the store has none.
        ledger: The state of the limit; None if the store has none.
        question: The question.
        name: The name of the limit.
        now: The store's time in seconds.
        life: The life of the store.

    Returns:
        The new state of both, and the answer.
    """
    terms = question.terms
    account = _live_on(account, terms, now, life)
    if ledger is None or ledger.since != account.since:
        if name in account.limits:
            # With no names, so that others that are missing too do not close it again, each when it is asked for.
            account = replace(_close(account, terms, now), limits=())
        ledger = Ledger(account.since, now, AdaptiveLimit.of(question.limit, terms.window, drift=CLOCK_DRIFT))
    if name not in account.limits:
        account = replace(account, limits=(*account.limits, name))
    if question.jumped:
        account = _close(account, terms, now)
    catch_up(ledger, terms, now)
    holder = _find(ledger, question.holder)
    if holder is None:
        if question.seq > 1:
            return Dealt(account, ledger, Answer(seq=question.seq, known=False, now=now))
        holder = Holder(question.holder, now, question.limit)
        ledger.holders.append(holder)
    elif question.seq < holder.seq:
        return Dealt(account, ledger, Answer(seq=question.seq, known=False, now=now))
    if question.seq > holder.seq:
        holder.seq, holder.ends = question.seq, now + terms.lease
        _note(ledger, holder, question, now)
        _keep_to_lowest_limit(ledger)
        is_open = now >= account.closed_until and now >= ledger.adaptive.blocked_until
        holder.granted = _grant(ledger, holder, question, now) if is_open else 0
    answer = _answer(account, ledger, holder, question, now)
    if question.leaving and holder.held == 0:
        ledger.holders = [other for other in ledger.holders if other is not holder]
    return Dealt(account, ledger, answer)


def catch_up(ledger: Ledger, terms: Terms, now: float) -> None:
    """Bring a ledger to a time: leases that are over end, and slots that are due come back.

    Args:
        ledger: The state of the limit, which is changed.
        terms: The times that its holders agree on.
        now: The store's time in seconds.
    """
    if now < ledger.seen:
        _set_back(ledger, now - ledger.seen)
    ledger.seen = now
    _end_leases(ledger, terms, now)
    _expire(ledger, now)


def count_used(ledger: Ledger) -> int:
    """Return how many slots are held, or have not come back."""
    return sum(holder.held for holder in ledger.holders) + sum(ledger.counts)


def _live_on(account: Account | None, terms: Terms, now: float, life: str) -> Account:
    """Return the account as it is in this life of the store; closed at first if it is a new one."""
    if account is None or account.life != life:
        return Account(VERSION, life, now, now + terms.closed)
    if account.closed_until > now + terms.closed:
        # The store's clock was set back.
        return _close(account, terms, now)
    return account


def _close(account: Account, terms: Terms, now: float) -> Account:
    """Return the account as it is when something of its past was lost; what is known of the rest is kept."""
    return replace(account, closed_until=now + terms.closed)


def _set_back(ledger: Ledger, seconds: float) -> None:
    """Go on by a clock that was set back: what was left of each time is left of it still."""
    ledger.adaptive.shift(seconds)
    ledger.ended = [ended + seconds for ended in ledger.ended]
    for holder in ledger.holders:
        holder.ends += seconds
        holder.due += seconds
        holder.interactive_since += seconds
        holder.bulk_since += seconds


def _end_leases(ledger: Ledger, terms: Terms, now: float) -> None:
    """Take the slots of holders that did not come back: their calls may be under way for a timeout yet."""
    if all(holder.ends > now for holder in ledger.holders):
        return
    for holder in ledger.holders:
        if holder.ends <= now:
            _cool(ledger, holder.ends + terms.timeout + CLOCK_DRIFT, holder.held)
    ledger.holders = [holder for holder in ledger.holders if holder.ends > now]


def _expire(ledger: Ledger, now: float) -> None:
    ledger.adaptive.expire(now)
    over = bisect_right(ledger.ended, now - ledger.adaptive.window)
    del ledger.ended[:over], ledger.counts[:over]


def _find(ledger: Ledger, name: str) -> Holder | None:
    for holder in ledger.holders:
        if holder.id == name:
            return holder
    return None


def _cool(ledger: Ledger, ended: float, count: int) -> None:
    """Put slots into their cooldown, in the order in which the calls ended."""
    if count <= 0:
        return
    ended = math.ceil(ended * _GRAINS) / _GRAINS
    place = bisect_right(ledger.ended, ended)
    if place > 0 and ledger.ended[place - 1] == ended:
        ledger.counts[place - 1] += count
    else:
        ledger.ended.insert(place, ended)
        ledger.counts.insert(place, count)


def _note(ledger: Ledger, holder: Holder, question: Question, now: float) -> None:
    """Note what a holder says: what ended, what it gives back, what was refused, and what it wants."""
    holder.limit = question.limit
    # Its numbers are not trusted: one that is negative, or no number, would free what is used, or keep it for ever.
    holder.held += max(0, question.adopted)
    for age, count in question.ended:
        ended = max(0, min(count, holder.held))
        holder.held -= ended
        _cool(ledger, now - min(age if age > 0 else 0.0, ledger.adaptive.window), ended)
    holder.held -= max(0, min(question.unused, holder.held))
    for refusal in question.refusals:
        retry_after = refusal.retry_after[0] if refusal.retry_after else None
        quota = (int(refusal.quota[0]), refusal.quota[1]) if refusal.quota else None
        ledger.adaptive.on_rate_limited(now, retry_after, quota)
    # A quota may have made the window longer, and the ages may have been longer than that.
    _expire(ledger, now)
    if holder.interactive == 0:
        holder.interactive_since = now
    if holder.bulk == 0:
        holder.bulk_since = now
    holder.interactive, holder.bulk = max(0, question.interactive), max(0, question.bulk)
    holder.spare = max(0, question.spare)


def _keep_to_lowest_limit(ledger: Ledger) -> None:
    """Keep to the limit of the holder that allows least: holders may have been given different ones."""
    limit = min(holder.limit for holder in ledger.holders)
    if limit != ledger.adaptive.unreduced:
        ledger.adaptive.change_limit(limit)


def _reserve(ledger: Ledger, question: Question) -> int:
    """Return how many slots bulk calls leave free: never all of them, however far the capacity shrank."""
    return max(0, min(question.reserve, ledger.adaptive.capacity - 1))


def _turn(ledger: Ledger) -> int:
    """Return how many slots a holder gets in one turn."""
    return max(1, int(ledger.adaptive.capacity * _TURN / ledger.adaptive.base_window))


def _grant(ledger: Ledger, holder: Holder, question: Question, now: float) -> int:
    """Give a holder its part of the free slots; return how many these are."""
    free = ledger.adaptive.capacity - count_used(ledger)
    if free <= 0:
        return 0
    coming = [other for other in ledger.holders if other is holder or other.due <= now < other.due + _KEPT]
    turn = _turn(ledger)
    interactive, taken = _share(
        holder.id, (_Contender(one.interactive_since, one.id, one.interactive) for one in coming), free, turn
    )
    reserve = _reserve(ledger, question)
    left = free - taken - reserve
    bulk, taken = _share(holder.id, (_Contender(one.bulk_since, one.id, one.bulk) for one in coming), left, turn)
    if interactive:
        holder.interactive -= interactive
        holder.interactive_since = now
    if bulk:
        holder.bulk -= bulk
        holder.bulk_since = now
    # Ahead of need only what nobody waits for, and half of it, for others may come.
    wanted = sum(other.interactive + other.bulk for other in ledger.holders)
    ahead = max(0, min(question.ahead, (free - interactive - bulk - wanted - reserve) // 2))
    holder.held += interactive + bulk + ahead
    return interactive + bulk + ahead


def _share(asking: str, contenders: Iterable[_Contender], free: int, turn: int) -> tuple[int, int]:
    """Share slots out in turns; return how many the asking holder gets, and how many all get.

    Args:
        asking: The id of the holder that asks.
        contenders: Who is there for slots.
        free: How many slots there are; it may be negative.
        turn: How many slots a holder gets in one turn.
    """
    there = sorted(one for one in contenders if one.wanted > 0)
    total = min(max(0, free), sum(one.wanted for one in there))
    left, own, turns = total, 0, 0
    while left > 0:
        for one in there:
            part = min(turn, one.wanted - turns * turn, left)
            if part > 0:
                left -= part
                own += part if one.id == asking else 0
        turns += 1
    return own, total


def _plan(ledger: Ledger, holder: Holder, question: Question, now: float, opens: float) -> float:
    """Note when a holder's turn comes; return the seconds until it should ask again, 0 if it wants nothing.

    Args:
        ledger: The limit.
        holder: The holder.
        question: Its question.
        now: The time.
        opens: The time before which nothing is granted.
    """
    terms = question.terms
    holder.due = math.inf
    if holder.interactive == 0 and holder.bulk == 0:
        return 0.0
    turn, free = _turn(ledger), ledger.adaptive.capacity - count_used(ledger)
    waiting, spare, before_interactive, before_bulk = 1, 0, 0, holder.interactive + _reserve(ledger, question)
    for other in ledger.holders:
        if other is holder:
            continue
        spare += other.spare
        if other.interactive > 0 or other.bulk > 0:
            waiting += 1
        if other.interactive > 0:
            before_bulk += other.interactive
            if (other.interactive_since, other.id) < (holder.interactive_since, holder.id):
                before_interactive += min(other.interactive, turn)
        if other.bulk > 0 and (other.bulk_since, other.id) < (holder.bulk_since, holder.id):
            before_bulk += min(other.bulk, turn)
    # What is free now is kept for another holder, which may not come, or for the opening, at which all are to be there.
    due, kept = math.inf, opens if now < opens else now + _KEPT
    if holder.interactive > 0:
        due = _time_of(ledger, before_interactive + 1, free, kept)
    if holder.bulk > 0:
        due = min(due, _time_of(ledger, before_bulk + min(holder.bulk, turn), free, kept))
    spread = waiting * _SPREAD
    pause = max(_PAUSE_INTERACTIVE if holder.interactive > 0 else _PAUSE_BULK, spread)
    # Where slots are not known to come back for it, it need not come together with those for which they are.
    holder.due = max(now, opens) + pause if due == math.inf else max(due, opens)
    soonest = max(terms.lease / _RENEWALS, spread) if spare == 0 or now < opens else pause
    # Rounding may leave nothing until a slot comes back that still counts as used, and 0 would mean that all is given.
    again = max(1 / _GRAINS, min(holder.due - now, soonest))
    if holder.held == 0:
        # Without slots it needs no lease, and its place in the queue is kept until it comes.
        holder.ends = now + again + terms.lease
    return again


def _time_of(ledger: Ledger, position: int, free: int, kept: float) -> float:
    """Return when the slot comes back that a place in the queue gets; infinity if that is not known.

    Args:
        ledger: The limit.
        position: The place, from 1.
        free: How many slots are free; negative where more are used than there are.
        kept: Until when a slot is kept that is free already.
    """
    left = position - free
    if left <= 0:
        # Of the slots that come back next this holder has its part, too.
        return min(kept, ledger.ended[0] + ledger.adaptive.window) if ledger.ended else kept
    for place, count in enumerate(ledger.counts):
        left -= count
        if left <= 0:
            return ledger.ended[place] + ledger.adaptive.window
    return math.inf


def _answer(account: Account, ledger: Ledger, holder: Holder, question: Question, now: float) -> Answer:
    adaptive = ledger.adaptive
    again = _plan(ledger, holder, question, now, max(account.closed_until, adaptive.blocked_until))
    waiting = sum(other.interactive + other.bulk for other in ledger.holders if other is not holder)
    return Answer(
        seq=question.seq,
        known=True,
        granted=holder.granted,
        again=again,
        scarce=waiting > 0,
        capacity=adaptive.capacity,
        used=count_used(ledger),
        waiting=waiting,
        holders=len(ledger.holders),
        closed_for=max(0.0, account.closed_until - now),
        blocked_for=max(0.0, adaptive.blocked_until - now),
        quota=(*adaptive.named, adaptive.forget_at - now) if adaptive.named else (),
        now=now,
    )
