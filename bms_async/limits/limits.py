"""The limits of an account, shared by every client that is given them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_address

from .limiter import Limiter
from .loop_binding import LoopBinding
from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS, UNDOCUMENTED_OPERATIONS
from .window import WindowLimiter

if TYPE_CHECKING:
    from .account import Account
    from .shared.exchange import Exchange

_KNOWN = (*DOCUMENTED_LIMITS, *UNDOCUMENTED_OPERATIONS)
_POWER_BUDGET = "servers.start/stop/reboot"
_LONGEST_NAME = 200
_OF_THE_LOOK_UP = ("identity.create_token", "identity.projects")
"""The calls that the project's id is found by."""


class Limits:
    """The calls a minute that each operation may make.

    Clients that are given the same object share its budgets. Clients of one account that are given none share one
    object too, all over the process. A `Limits` belongs to one event loop at a time: on another one it raises a
    `ConfigurationError` while calls wait on the first, or while that runs and has open clients.

    ::

        Limits()                        # as documented
        Limits({"servers.stop": 20})    # one of them changed
        Limits({"jobs.get": None})      # one of them lifted
        Limits.shared("redis://limits:6379/0")    # with other processes of the project, on any machine
        Limits.shared()                           # with other processes of this machine

    Args:
        changes: Calls a minute by the name of the operation; None lifts a limit.
        shared_power_budget: Whether start, stop and reboot share one budget, for a gateway that counts by URI.
        reserve: The share of each limit that bulk calls leave to interactive ones, rounded down to whole calls. The
            default is what one second of the limit allows: 16 at 1000 a minute, and nothing at 50, where one call is
            already two per cent of a fleet's speed.

    Raises:
        ConfigurationError: A name is not that of an operation, or a limit is not a whole number above 0.
    """

    def __init__(
        self,
        changes: Mapping[str, int | None] | None = None,
        *,
        shared_power_budget: bool = False,
        reserve: float = 1 / 60,
    ) -> None:
        if not 0 <= reserve < 1:
            raise ConfigurationError(f"Limits(reserve={reserve!r}): expected a share, at least 0 and below 1")
        self._is_unlimited = False
        self._reserve = reserve
        self._binding = LoopBinding()
        self._exchange: Exchange | None = None
        self._limiters: dict[str, Limiter] = {}
        self._limits: dict[str, int | None] = {**DOCUMENTED_LIMITS, **_check_changes(changes or {})}
        self._shares_power_budget = shared_power_budget

    @classmethod
    def unlimited(cls) -> Self:
        """Return limits without any limit, for tests and private clouds."""
        limits = cls()
        limits._is_unlimited = True
        return limits

    @classmethod
    def shared(
        cls,
        store: str | None = None,
        *,
        account: str | None = None,
        changes: Mapping[str, int | None] | None = None,
        shared_power_budget: bool = False,
        reserve: float = 1 / 60,
        without_store: float | None = None,
    ) -> Self:
        """Return limits that all processes share which name the same store and account, on any machine.

        No window at the cloud holds more calls than the limits allow, whichever of the processes dies and whatever
        becomes of the store. While the store is away, calls wait. An account that the store does not know, or of which
        it may have lost something, is closed for 135 s at first, because nobody knows which calls still count;
        ``bms limits open --account NAME`` opens it at once, if somebody knows.

        The first client that is opened with them connects to the store, and the last one that is closed hands its
        slots back. A store that cannot be reached then is no error, for calls wait for it; one that refuses is a
        `ConfigurationError` of the opening.

        Args:
            store: Where the slots are counted: ``redis://`` or ``valkey://``, with TLS ``rediss://`` or ``valkeys://``
                (extra ``redis``), ``postgresql://`` (extra ``postgres``), or ``sqlite:///path`` for the processes of
                one machine. None, or ``machine``, is a file of this machine that all programs of this user share, with
                the command ``bms``.
            account: A name for what the cloud counts together, the same in all processes that share it. None stands
                for the project of the client that is given these limits, by the address of its BMS service and its id,
                which is found out where only its name is set. Such limits are those of one project: a client of another
                one is refused.
            changes: As for `Limits`. All processes must be given the same; where they differ, the lower limit is kept.
            shared_power_budget: As for `Limits`.
            reserve: As for `Limits`; the part that stays free is one for all processes.
            without_store: The share of each limit that this process goes on with by itself while the store is away,
                such as ``1/4`` in each of four processes. It begins once no earlier call of the others can count any
                more, 135 s after the store was first seen to be away. The guarantee then rests on the shares being 1 in
                all, and on the store being away for all of them. By default calls wait for the store.

        Raises:
            ConfigurationError: An argument is invalid, or the store needs an extra that is not installed; or `changes`
                limit ``identity.create_token`` or ``identity.projects``, which come before the project's id is known,
                and there is no `account`.
        """
        from .shared.exchange import Exchange  # noqa: PLC0415 - most clients share no limits
        from .shared.messages import Terms  # noqa: PLC0415
        from .shared.stores import find_store  # noqa: PLC0415

        store = wrap_address(store)
        limits = cls(changes, shared_power_budget=shared_power_budget, reserve=reserve)
        if account is not None:
            check_account("account", account)
        elif early := [name for name in _OF_THE_LOOK_UP if limits._limits.get(name) is not None]:
            raise ConfigurationError(
                f"changes: expected no limit of {' and '.join(early)} without account=..., since these calls are made"
                " before the project's id is known"
            )
        if without_store is not None and not 0 < without_store <= 1:
            raise ConfigurationError(
                f"without_store={without_store!r}: expected the share of this process, above 0 and at most 1"
            )
        make = find_store("store", store)
        limits._exchange = Exchange(account, make, Terms(), without_store=without_store)
        return limits

    def __getitem__(self, operation: str) -> Limiter:
        """Return the limiter of an operation; that of an operation without a limit never makes a call wait."""
        limiter = self._limiters.get(operation)
        if limiter is None:
            limiter = self._limiters[operation] = self._make_limiter(operation)
            if self._shares_power_budget and operation in POWER_OPERATIONS:
                self._limiters.update(dict.fromkeys(POWER_OPERATIONS, limiter))
        return limiter

    def _make_limiter(self, operation: str) -> Limiter:
        name, limit = operation, None if self._is_unlimited else self._limits.get(operation)
        if self._shares_power_budget and operation in POWER_OPERATIONS:
            given = [limit for power in POWER_OPERATIONS if (limit := self._limits[power]) is not None]
            name, limit = _POWER_BUDGET, min(given, default=None)
        if self._exchange is None or limit is None:
            return WindowLimiter(name, limit, reserve=self._reserve, binding=self._binding)
        return self._exchange.make_limiter(name, limit, reserve=self._reserve, binding=self._binding)

    @property
    def is_unlimited(self) -> bool:
        """Whether no operation has a limit."""
        return self._is_unlimited

    def _counts_with(self, other: Limits) -> bool:
        """Return whether the calls of both are counted together: they are one, or in the same store."""
        ours, theirs = self._exchange, other._exchange
        if ours is None or theirs is None:
            return self is other
        return (ours.account, ours.store.label) == (theirs.account, theirs.store.label)

    def _note_account(self, account: Account) -> None:
        """Note the account of a client that is given these limits.

        Raises:
            ConfigurationError: They are those of another project.
        """
        if self._exchange is not None and account.name is not None:
            self._exchange.note_account(account.name)

    def _counts_for(self, operation: str) -> bool:
        """Return whether an operation has a limit that cannot be kept before the project's id is known."""
        return (
            self._exchange is not None
            and self._exchange.is_of_project
            and operation not in _OF_THE_LOOK_UP
            and self._limits.get(operation) is not None
        )

    def _is_idle(self) -> bool:
        """Return whether no slot is used, and nothing that was learned from refusals is left."""
        now = self._binding.now()
        return all(limiter.is_idle(now) for limiter in list(self._limiters.values()))

    def snapshot(self) -> dict[str, list[float]]:
        """Return the slots that are used now, for `restore` in a process that goes on where this one has ended.

        It is called inside the event loop.

        Returns:
            The seconds until each used slot comes back, ascending, by operation; operations with none used are left
            out. How long an operation is still blocked after a refusal is not included.
        """
        # Operations that share a budget share a limiter, which counts once.
        own = {id(limiter): name for name, limiter in reversed(self._limiters.items())}
        used = {name: self._limiters[name].snapshot() for name in reversed(own.values())}
        return {name: seconds for name, seconds in used.items() if seconds}

    def restore(self, spent: Mapping[str, Iterable[float]]) -> None:
        """Reserve the slots that another process used for this account, as its `snapshot` reported them.

        It is called inside the event loop, before the first call. The slots come back when those of the other process
        would have, so that both together keep within the limits. It does not help two processes that work at the same
        time: neither sees the calls of the other.

        Args:
            spent: The seconds from now until each slot comes back, by operation; values of 0 and below are ignored.

        Raises:
            ConfigurationError: A name is not that of an operation, or a value is not a number of seconds.
        """
        for name in spent:
            _check_name(name)
        checked = {name: _check_seconds(name, seconds) for name, seconds in spent.items()}
        for name, seconds in checked.items():
            self[name].restore(seconds)

    def __repr__(self) -> str:
        if self._is_unlimited:
            return "Limits.unlimited()"
        if self._exchange is not None:
            account = self._exchange.account
            whose = "a project" if account is None else f"account {account!r}"
            return f"<Limits of {whose} in {self._exchange.store.label}>"
        changed = {name: limit for name, limit in self._limits.items() if limit != DOCUMENTED_LIMITS.get(name)}
        return f"Limits({changed or ''})"


def check_account(argument: str, account: object) -> str:
    """Return the name of an account that processes share.

    Raises:
        ConfigurationError: It is no text of 1 to 200 printable characters.
    """
    if not isinstance(account, str) or not 0 < len(account) <= _LONGEST_NAME or not account.isprintable():
        raise ConfigurationError(
            f"{argument}={account!r}: expected a name of 1 to {_LONGEST_NAME} printable characters, such as 'prod-eu'"
        )
    return account


def _check_changes(changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    for name, limit in changes.items():
        _check_name(name)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(
                f"Limits: {name!r}: expected a whole number of calls a minute above 0, or None, got {limit!r}"
            )
    return changes


def _check_name(name: str) -> None:
    if name not in _KNOWN:
        from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

        near = get_close_matches(name, _KNOWN, n=1) or [known for known in _KNOWN if known == f"servers.{name}"]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"Limits: {name!r} is not the name of an operation with a limit{hint}")


def _check_seconds(name: str, spent: Iterable[float]) -> list[float]:
    values = list(spent)
    for seconds in values:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
            raise ConfigurationError(f"Limits.restore: {name!r}: expected a number of seconds, got {seconds!r}")
    return values
