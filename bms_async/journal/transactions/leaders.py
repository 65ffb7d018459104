"""Transactions by which one of several processes leads, by a row with a lease and a fence as batches have them."""

from __future__ import annotations

import msgspec

from bms_async.journal.records import LedBy
from bms_async.journal.statements import Transaction, ask

from .claims import EXPIRED, LEASE

_IS_FREE = f"(b.owner IS NULL OR ({EXPIRED}))"
_GOES_ON = f"b.name = $1 AND b.fence = $2 AND NOT {_IS_FREE}"
"""The row of a term, by its name and its fence, as long as it goes on."""


def lead(name: str, owner: str) -> Transaction[int | None]:
    """Begin a term if nobody leads.

    Args:
        name: What is led.
        owner: Who asks, by a name that is of this term alone.

    Returns:
        The fence of the term, greater than any before it; None if somebody leads.
    """
    yield from ask(
        "INSERT INTO bms_async_leaders (name, owner, fence, lease) VALUES ($1, NULL, 0, -1) "
        "ON CONFLICT (name) DO NOTHING",
        name,
    )
    # Whoever has the row already asked once more, since the commit was not confirmed.
    rows = yield from ask(
        "UPDATE bms_async_leaders AS b SET owner = $2, lease = bms_now() + $3, "
        "fence = fence + CASE WHEN b.owner = $2 THEN 0 ELSE 1 END "
        f"WHERE b.name = $1 AND (b.owner = $2 OR {_IS_FREE}) RETURNING fence",
        name,
        owner,
        LEASE,
    )
    return msgspec.convert(rows[0][0], int) if rows else None


def is_free(name: str) -> Transaction[bool]:
    """Return whether nobody leads, for those that wait: this locks nothing.

    Args:
        name: What is led.
    """
    rows = yield from ask(f"SELECT 1 FROM bms_async_leaders AS b WHERE b.name = $1 AND NOT {_IS_FREE}", name)
    return not rows


def leads(term: LedBy) -> Transaction[bool]:
    """Return whether a term goes on; this locks nothing.

    Args:
        term: The term.
    """
    rows = yield from ask(f"SELECT 1 FROM bms_async_leaders AS b WHERE {_GOES_ON}", term.name, term.fence)
    return bool(rows)


def hold_lead(term: LedBy) -> Transaction[bool]:
    """Return whether a term goes on, and let no other one begin before the transaction has ended.

    Args:
        term: The term.
    """
    rows = yield from ask(
        f"UPDATE bms_async_leaders AS b SET fence = b.fence WHERE {_GOES_ON} RETURNING fence",
        term.name,
        term.fence,
    )
    return bool(rows)


def renew_lead(name: str, owner: str, fence: int) -> Transaction[bool]:
    """Renew the lease of a term, and return whether it goes on.

    Args:
        name: What is led.
        owner: Who leads.
        fence: The fence of the term.
    """
    rows = yield from ask(
        "UPDATE bms_async_leaders SET lease = bms_now() + $4 WHERE name = $1 AND owner = $2 AND fence = $3 "
        "RETURNING fence",
        name,
        owner,
        fence,
        LEASE,
    )
    return bool(rows)


def resign(name: str, owner: str) -> Transaction[None]:
    """End a term, so that the next one need not wait for the end of its lease.

    Args:
        name: What is led.
        owner: Who leads, by the name that is of this term alone.
    """
    yield from ask(
        "UPDATE bms_async_leaders SET owner = NULL, lease = -1 WHERE name = $1 AND owner = $2",
        name,
        owner,
    )
