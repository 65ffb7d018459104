"""What the store of shared limits says of an account: what all processes use of each limit, who holds it, who waits.

A file is read without an event loop, and without being made or changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bms_async import BmsError, ConfigurationError
from bms_async.limits.shared.ledger import catch_up
from bms_async.limits.shared.messages import Ledger, Terms
from bms_async.limits.shared.store import AccountUsage, Store, StoreError
from bms_async.limits.shared.stores import find_file, find_store, is_own

from .project_ids import find_account, known_account

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bms_async.client import BmsClient
    from bms_async.config import Settings

__all__ = [
    "SETTING",
    "AccountView",
    "HolderView",
    "LimitView",
    "StoreFailedError",
    "ask_store",
    "read_account",
    "read_account_in",
]

T = TypeVar("T")

SETTING = "BMS_LIMITS, or bms_limits in clouds.yaml: store"
"""What names the store of a command, for errors."""

_log = logging.getLogger("bms_async.cli")
_PROBE_BYTES = 4096
_PATIENCE = 10.0
"""Seconds that a store has for all that a command asks it."""


class StoreFailedError(BmsError):
    """The store of shared limits does not answer."""


class HolderView(NamedTuple):
    """A process, or a part of one, that has or wants slots of a limit.

    Attributes:
        id: Its id.
        held: How many slots it has for calls whose end it has not reported.
        interactive: How many of its interactive calls wait.
        bulk: How many of its bulk calls wait.
        lease_left: Seconds until its slots are taken from it, unless it asks again before.
    """

    id: str
    held: int
    interactive: int
    bulk: int
    lease_left: float


class LimitView(NamedTuple):
    """The state of a limit.

    Attributes:
        capacity: Calls a minute now; fewer than documented for a while after a 429.
        spent: Seconds until each used slot comes back, ascending; a whole window for those that are held.
        blocked_for: Seconds for which a 429 stops all calls.
        holders: Who has or wants slots.
    """

    capacity: int
    spent: tuple[float, ...]
    blocked_for: float
    holders: tuple[HolderView, ...]


class AccountView(NamedTuple):
    """The state of an account.

    Attributes:
        account: Its name.
        store: The address of the store, without user and password.
        is_known: Whether the store knows it.
        closed_for: Seconds until it is open; if it is not known, they begin with its first call.
        limits: Its limits by name, as far as they were used.
        failure: Why commands cannot use the file of this machine; None if they can.
    """

    account: str
    store: str
    is_known: bool = False
    closed_for: float = 0.0
    limits: Mapping[str, LimitView] = {}
    failure: str | None = None


def read_account(settings: Settings) -> AccountView:
    """Read what the store keeps of the account of a cloud; no event loop may run.

    Args:
        settings: The settings of the cloud.

    Raises:
        ConfigurationError: There is no such store, or it refuses to be used.
        StoreFailedError: It does not answer. The file of this machine, which nobody named, never raises.
        BmsError: The project's id is not known, and the cloud does not say it.
    """
    account = known_account(settings)
    if account is not None and _is_in_file(settings):
        return _read_file(settings, account)
    import asyncio

    return asyncio.run(read_account_in(settings))


async def read_account_in(settings: Settings, bms: BmsClient | None = None) -> AccountView:
    """Do what `read_account` does, in an event loop.

    Args:
        settings: The settings of the cloud.
        bms: An open client of it; None if there is none yet.
    """
    account, label = await find_account(settings, bms), ""
    if _is_in_file(settings):
        import anyio.to_thread

        return await anyio.to_thread.run_sync(_read_file, settings, account)

    async def read(store: Store) -> AccountUsage:
        nonlocal label
        label = store.label
        return await store.read(account)

    usage = await ask_store(settings.limits, read)
    return _view(account, label, usage, is_own=False)


async def ask_store(address: str | None, ask: Callable[[Store], Awaitable[T]], *, argument: str = SETTING) -> T:
    """Open a store, ask it something, and close it.

    Args:
        address: The store; None for the file of this machine.
        ask: Called with the store.
        argument: What names the address, for errors.

    Raises:
        ConfigurationError: There is no such store, or it refuses to be used.
        StoreFailedError: It does not answer.
    """
    import anyio

    from bms_async._foreign import call_foreign

    store = find_store(argument, address)()
    try:
        with anyio.fail_after(_PATIENCE):
            await call_foreign("the store's open()", store.open)
            return await call_foreign("the store's answer", ask, store)
    except StoreError as error:
        raise ConfigurationError(f"the store of the limits: {error}") from error
    except Exception as error:
        text = _text(error).replace(f"{store.label}: ", "")
        if isinstance(error, TimeoutError) and not str(error):
            text = f"no answer came within {_PATIENCE:g} s"
        raise StoreFailedError(f"the store of the limits at {store.label} does not answer: {text}") from error
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await _close(store)


async def _close(store: Store) -> None:
    from bms_async._foreign import call_foreign

    try:
        await call_foreign("the store's aclose()", store.aclose)
    except Exception:  # noqa: BLE001 - what it has answered counts, and the connection ends with the command
        _log.debug("closing the store of the limits failed", exc_info=True)


def _is_in_file(settings: Settings) -> bool:
    return settings.limits is None or find_file(SETTING, settings.limits) is not None


def _read_file(settings: Settings, account: str) -> AccountView:
    """Read the file of a store; a failure is raised only if the user named it."""
    import sqlite3

    from bms_async.limits.shared.sqlite_reader import read_file

    is_named = settings.limits is not None
    try:
        path = find_file(SETTING, settings.limits)
    except ConfigurationError as error:
        if is_named:
            raise
        return AccountView(account, "-", failure=str(error))
    if path is None:
        raise TypeError(f"{settings.limits!r}: expected the address of a file")
    try:
        usage = read_file(path, account)
    except (StoreError, sqlite3.Error, OSError) as error:
        if not is_named:
            return AccountView(account, str(path), failure=str(error))
        if isinstance(error, StoreError):
            raise ConfigurationError(f"the store of the limits: {error}") from error
        raise StoreFailedError(f"the store of the limits at {path} does not answer: {_text(error)}") from error
    view = _view(account, str(path), usage, is_own=is_own(settings.limits))
    if is_named and view.is_known:
        return view
    failure = _check_writable(path)
    if is_named and failure is not None and not path.exists():
        raise StoreFailedError(f"the store of the limits cannot be made: {failure}; make its folder, or name another")
    return view if is_named else view._replace(failure=failure)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _check_writable(path: Path) -> str | None:
    """Return why a file cannot be written or made, None if it can; nothing is left behind."""
    import tempfile

    folder = path.parent
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return f"{path} may not be read and written"
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return None


def _view(account: str, label: str, usage: AccountUsage, *, is_own: bool) -> AccountView:
    known, now = usage.account, usage.now
    if known is None:
        return AccountView(account, label, closed_for=0.0 if is_own else Terms().closed)
    limits = {name: _view_limit(ledger, now) for name, ledger in usage.ledgers.items()}
    return AccountView(account, label, is_known=True, closed_for=max(0.0, known.closed_until - now), limits=limits)


def _view_limit(ledger: Ledger, now: float) -> LimitView:
    catch_up(ledger, Terms(), now)
    adaptive, spent = ledger.adaptive, list[float]()
    for ended, count in ledger.cooldowns:
        spent += [ended + adaptive.window - now] * count
    spent += [adaptive.window] * sum(holder.held for holder in ledger.holders)
    holders = (
        HolderView(holder.id, holder.held, holder.interactive, holder.bulk, max(0.0, holder.ends - now))
        for holder in ledger.holders
    )
    return LimitView(adaptive.capacity, tuple(sorted(spent)), max(0.0, adaptive.blocked_until - now), tuple(holders))
