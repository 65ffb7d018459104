"""The limits of a client: those that it was given, or those that all clients of its account in this process share.

The shared limits of an account outlive its clients, so that one that is opened later goes on with what an earlier one
has used. They are dropped once no client has them, none of their slots is used, and nothing is learned.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from .account import Account
from .limits import Limits
from .loop_binding import has_own_clock

if TYPE_CHECKING:
    from .shared.exchange import Exchange

_log = logging.getLogger("bms_async.limits")


class _LimitsCache:
    """The limits of all accounts, in the time of one clock."""

    __slots__ = ("_by_account", "_in_use")

    def __init__(self) -> None:
        self._by_account: WeakValueDictionary[Account, Limits] = WeakValueDictionary()
        # Strong references, to limits that no client may have any more.
        self._in_use: dict[Account, Limits] = {}

    def find(self, account: Account, default: Limits | None = None) -> Limits:
        """Return the limits of an account; the default or new ones where it has none."""
        for other, limits in list(self._in_use.items()):
            if other != account and limits._is_idle():  # noqa: SLF001 - the cache is a part of them
                del self._in_use[other]
        found = self._by_account.get(account)
        if found is None:
            found = self._by_account[account] = Limits() if default is None else default
        self._in_use[account] = found
        return found


class _Accounts:
    """The limits that are shared by default, and the accounts whose clients are open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._cache = _LimitsCache()
        # A loop with a clock of its own shares with no other loop: its minutes are not theirs.
        self._cache_by_loop: dict[asyncio.AbstractEventLoop, _LimitsCache] = {}
        self._open: dict[Account, WeakSet[Membership]] = {}
        self._warned: set[Account] = set()

    def find(self, account: Account, default: Limits | None = None) -> Limits:
        with self.lock:
            for closed in [loop for loop in self._cache_by_loop if loop.is_closed()]:
                del self._cache_by_loop[closed]
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return self._cache.find(account, default)
            cache = self._cache_by_loop.setdefault(loop, _LimitsCache()) if has_own_clock(loop) else self._cache
            return cache.find(account, default)

    def open(self, account: Account, member: Membership) -> None:
        with self.lock:
            members = self._open.setdefault(account, WeakSet())
            differ = any(not other.limits._counts_with(member.limits) for other in members)  # noqa: SLF001
            members.add(member)
            if not differ or account in self._warned:
                return
            self._warned.add(account)
        _log.warning(
            "two open clients of project %s at %s have different Limits, each of which counts only its own calls; "
            "give both the same Limits, or none",
            account.project,
            account.bms,
        )

    def close(self, account: Account, member: Membership) -> None:
        with self.lock:
            members = self._open.get(account)
            if members is not None:
                members.discard(member)
                if not members:
                    del self._open[account]

    def renew_lock(self) -> None:
        """Replace the lock in a child process: the copy of one that was held at the fork is never released."""
        self.lock = threading.Lock()


_accounts = _Accounts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_accounts.renew_lock)


class Membership:
    """A client's part in the limits of its account.

    Args:
        account: The account that the client's calls count for.
        given: The limits that the client was given; None for those of the account.

    Attributes:
        limits: The limits that the client keeps within.
    """

    __slots__ = ("__weakref__", "_account", "_exchange", "_generation", "_is_given", "limits")

    def __init__(self, account: Account, given: Limits | None) -> None:
        self._account = account
        self._is_given = given is not None
        self._generation: int | None = None
        self._exchange: Exchange | None = None
        # Without a project there can be no call that is limited.
        self.limits = given or (Limits() if account.project is None else _accounts.find(account))

    def open(self) -> Limits:
        """Join the limits on the running loop; return them.

        Raises:
            ConfigurationError: The limits are in use on another event loop, or are those of another project.
        """
        if not self._is_given and self._account.project is not None:
            # Those that were found before the loop ran may go by another clock.
            self.limits = _accounts.find(self._account)
        self._join()
        return self.limits

    def find_project(self, project_id: str) -> Limits:
        """Join the limits of a project whose id was not known before; return them.

        Raises:
            ConfigurationError: The limits are in use on another event loop, or are those of another project.
        """
        if self._account.project is not None:
            return self.limits
        account = Account.at(self._account.bms, project_id)
        # Before anything is changed: the limits may be those of another project.
        self.limits._note_account(account)  # noqa: SLF001
        limits = self.limits if self._is_given else _accounts.find(account, self.limits)
        self.close()
        self._account, self.limits = account, limits
        self._join()
        return limits

    async def connect(self) -> None:
        """Connect to the store, where the limits are shared with other processes.

        Raises:
            ConfigurationError: The store refuses to be used.
        """
        exchange = self.limits._exchange  # noqa: SLF001
        if exchange is not None:
            await exchange.open()
            self._exchange = exchange

    async def disconnect(self) -> None:
        """Hand back what is held in the store."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.aclose()

    def close(self) -> None:
        """Leave the limits."""
        if self._generation is not None:
            generation, self._generation = self._generation, None
            self.limits._binding.remove_user(generation)  # noqa: SLF001 - a membership is a part of them
            _accounts.close(self._account, self)

    def _join(self) -> None:
        if self.limits.is_unlimited:
            # Nothing is counted, so loops and clients have nothing to contend for.
            return
        self._generation = self.limits._binding.add_user()  # noqa: SLF001
        # Only here: a client on another event loop, which is refused, must not name what is not its own.
        self.limits._note_account(self._account)  # noqa: SLF001
        if self._account.project is not None:
            _accounts.open(self._account, self)
