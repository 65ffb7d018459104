"""Which limits a client keeps: those it was given, or those that all clients of its account in this process share.

The limits of an account are kept from being lost between two clients: they live as long as a client has them, and until
nothing of them is used or learned any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import Self
from urllib.parse import urlsplit
from weakref import WeakSet, WeakValueDictionary

import msgspec

from bms_async.models.ids import canonical_id

from .limits import Limits
from .loop_binding import has_own_clock

_log = logging.getLogger("bms_async.limits")


class Account(msgspec.Struct, frozen=True):
    """Whose calls a cloud counts together.

    The address of the ECS service is no part of it: clients that were given one reach the same BMS service as others.

    Attributes:
        bms: The address of the BMS service.
        project: The project's id; None as long as nobody has told it.
    """

    bms: str
    project: str | None

    @classmethod
    def at(cls, bms: str, project: str | None) -> Self:
        """Return an account, whatever way its address and its project are written."""
        return cls(_plain(bms), None if project is None else canonical_id(project))


def _plain(address: str) -> str:
    parts = urlsplit(address)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}{parts.path.rstrip('/')}"


class _LimitsCache:
    """The limits of all accounts, in the time of one clock."""

    __slots__ = ("_kept", "_known")

    def __init__(self) -> None:
        self._known: WeakValueDictionary[Account, Limits] = WeakValueDictionary()
        self._kept: dict[Account, Limits] = {}

    def find(self, account: Account, otherwise: Limits | None = None) -> Limits:
        """Return the limits of an account; new ones, or others, where it has none."""
        for each, kept in list(self._kept.items()):
            if each != account and kept._is_idle():  # noqa: SLF001 - who keeps them is a part of them
                del self._kept[each]
        limits = self._known.get(account)
        if limits is None:
            limits = self._known[account] = Limits() if otherwise is None else otherwise
        self._kept[account] = limits
        return limits


class _Accounts:
    """The limits that are shared by default, and the accounts whose clients are open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._shelf = _LimitsCache()
        # A loop that has a clock of its own shares with no other one: its minutes are not theirs.
        self._shelves: dict[asyncio.AbstractEventLoop, _LimitsCache] = {}
        self._open: dict[Account, WeakSet[Membership]] = {}
        self._warned: set[Account] = set()

    def find(self, account: Account, otherwise: Limits | None = None) -> Limits:
        with self.lock:
            for each in [loop for loop in self._shelves if loop.is_closed()]:
                del self._shelves[each]
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return self._shelf.find(account, otherwise)
            shelf = self._shelves.setdefault(loop, _LimitsCache()) if has_own_clock(loop) else self._shelf
            return shelf.find(account, otherwise)

    def open(self, account: Account, member: Membership) -> None:
        with self.lock:
            members = self._open.setdefault(account, WeakSet())
            differ = any(each.limits is not member.limits for each in members)
            members.add(member)
            if not differ or account in self._warned:
                return
            self._warned.add(account)
        _log.warning(
            "two open clients of project %s at %s have different Limits, which keep within the account's only each by "
            "itself; give both the same, or none",
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
        """Take another lock: a child process has a copy of this one, which nobody may ever let go there."""
        self.lock = threading.Lock()


_accounts = _Accounts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_accounts.renew_lock)


class Membership:
    """The limits of one client.

    Args:
        account: Whose calls it makes.
        given: The limits that it was given; None for those of the account.

    Attributes:
        limits: They.
    """

    __slots__ = ("__weakref__", "_account", "_is_given", "_number", "limits")

    def __init__(self, account: Account, given: Limits | None) -> None:
        self._account = account
        self._is_given = given is not None
        self._number: int | None = None
        # No call that is limited can be made before the project is known.
        self.limits = given or (Limits() if account.project is None else _accounts.find(account))

    def open(self) -> Limits:
        """Take part, on the running loop; return the limits.

        Raises:
            ConfigurationError: They are in use on another event loop.
        """
        if not self._is_given and self._account.project is not None:
            # Those that were found before the loop ran may be of another clock.
            self.limits = _accounts.find(self._account)
        self._enter()
        return self.limits

    def find_project(self, project_id: str) -> Limits:
        """Take part in the limits of a project whose id nobody could tell before; return them.

        Raises:
            ConfigurationError: They are in use on another event loop.
        """
        if self._account.project is not None:
            return self.limits
        account = Account.at(self._account.bms, project_id)
        limits = self.limits if self._is_given else _accounts.find(account, self.limits)
        self.close()
        self._account, self.limits = account, limits
        self._enter()
        return limits

    def close(self) -> None:
        """Take part no longer."""
        if self._number is not None:
            number, self._number = self._number, None
            self.limits._binding.remove_user(number)  # noqa: SLF001 - who takes part is told by it
            _accounts.close(self._account, self)

    def _enter(self) -> None:
        if self.limits.is_unlimited:
            # They hold nothing that loops could contend for, and keep within nothing.
            return
        self._number = self.limits._binding.add_user()  # noqa: SLF001
        if self._account.project is not None:
            _accounts.open(self._account, self)
