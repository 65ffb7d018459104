"""What a store of shared limits can do: run the rule book atomically, and keep what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from .messages import VERSION, Account, Answer, Ledger, Question


class _Version(msgspec.Struct, array_like=True):
    version: int


_encoder = msgspec.msgpack.Encoder()
_versions = msgspec.msgpack.Decoder(_Version)
_accounts = msgspec.msgpack.Decoder(Account)
_ledgers = msgspec.msgpack.Decoder(Ledger)
# Of a text that is not UTF-8 msgspec says the latter.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class StoreError(Exception):
    """The store cannot be used as it is, and trying again will not help: a later version, a missing permission."""


class AccountUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a store keeps of an account.

    Attributes:
        account: What its limits have in common; None where the store has nothing, or only of an earlier life.
        ledgers: The limits by name; those of an earlier life are left out.
        now: The store's time.
    """

    account: Account | None
    ledgers: Mapping[str, Ledger]
    now: float


def usage_of(
    account: Account | None, ledgers: Iterable[tuple[str, bytes | None]], *, now: float, life: str
) -> AccountUsage:
    """Return what a store keeps of an account in this life.

    Args:
        account: The account; None where the store has none.
        ledgers: The name and the bytes of each of its limits.
        now: The store's time.
        life: The life of the store.

    Raises:
        StoreError: The bytes are no ledger.
    """
    if account is None or account.life != life:
        return AccountUsage(account=None, ledgers={}, now=now)
    decoded = ((name, decode_ledger(data)) for name, data in ledgers)
    own = {name: ledger for name, ledger in decoded if ledger is not None and ledger.since == account.since}
    return AccountUsage(account=account, ledgers=own, now=now)


class Store(Protocol):
    """A place that all holders of an account ask. One task uses it, and makes one call at a time.

    Whatever a call raises, the caller calls `aclose` and later `open` again, and repeats the questions as they were.
    """

    @property
    def label(self) -> str:
        """The address for people, without user and password."""
        ...

    async def open(self) -> None:
        """Connect, and learn which life the store lives."""
        ...

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Have questions dealt with, each atomically by itself.

        Args:
            account: The name of the account.
            questions: The name of the limit, and the question, of each.
        """
        ...

    async def read(self, account: str) -> AccountUsage:
        """Read what is kept of an account; nothing is changed."""
        ...

    async def open_account(self, account: str) -> None:
        """Open an account at once: an operator vouches that no earlier call of it counts any more."""
        ...

    async def aclose(self) -> None:
        """Close the connection; closing what is not open does nothing."""
        ...


def encode(state: Account | Ledger) -> bytes:
    """Return the bytes that a store keeps."""
    return _encoder.encode(state)


def decode_account(data: bytes | None) -> Account | None:
    """Return the account of a store's bytes.

    Raises:
        StoreError: It is of a later version, or no account.
    """
    if data is None:
        return None
    try:
        # By itself, because a later version may keep anything after it.
        version = _versions.decode(data).version
        if version > VERSION:
            raise StoreError(
                f"the store was written by a later version of bms_async: expected version {VERSION} of its state, "
                f"got {version}; update bms_async here"
            )
        return _accounts.decode(data)
    except _UNREADABLE as error:
        raise StoreError(f"what the store keeps of the account is not readable: {error}") from error


def decode_ledger(data: bytes | None) -> Ledger | None:
    """Return the ledger of a store's bytes.

    Raises:
        StoreError: It is no ledger.
    """
    try:
        return None if data is None else _ledgers.decode(data)
    except _UNREADABLE as error:
        raise StoreError(f"what the store keeps of a limit is not readable: {error}") from error
