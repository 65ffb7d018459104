"""One token for all who need it: who asks for it, when it is renewed, and when asking again would do harm."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import anyio

from bms_async._foreign import call_foreign
from bms_async.errors import AuthenticationError, BmsError, ClientClosedError, ConfigurationError, TransportError
from bms_async.errors.base import own_copy
from bms_async.redaction import SecretStr

from ._keystone import OPERATION, renewal_margin
from ._lockout_guard import LockoutGuard, OutageBackoff, is_young
from ._observers import Observers
from .base import Send, StartTask

_log = logging.getLogger("bms_async.auth")

# After a renewal ahead of time has failed, while the old token is still good.
_PAUSE = 30.0
ATTEMPTS = 4
"""How often a renewal asks for a token."""

_UNAUTHORIZED = 401


class Token:
    """A token and its times by the loop's clock.

    Args:
        value: The token.
        since: When the cloud gave it.
        deadline: When it ends.
        lifetime: For how many seconds it was given.
        margin: Seconds before its end at which it is renewed.
        project_id: The project that it is for.
    """

    __slots__ = ("deadline", "headers", "project_id", "renew_at", "since", "value")

    def __init__(
        self,
        value: SecretStr,
        *,
        since: float,
        deadline: float,
        lifetime: float,
        margin: float,
        project_id: str | None,
    ) -> None:
        self.value = value
        self.headers: Mapping[str, str] = {"X-Auth-Token": value}
        self.since = since
        self.deadline = deadline
        self.renew_at = deadline - renewal_margin(lifetime, margin)
        self.project_id = project_id


Fetch: TypeAlias = Callable[[Send, SecretStr | None, int], Awaitable[Token]]
"""Gets a token by this way to send, other than the one that was refused; how often it may ask."""


class _Renewal:
    """One token on its way, for all who wait for it; `client` is the client that sends for it."""

    __slots__ = ("client", "done", "error", "notified", "started_at", "token")

    def __init__(self) -> None:
        self.started_at = anyio.current_time()
        self.done = anyio.Event()
        self.token: Token | None = None
        self.error: BmsError | None = None
        self.notified = False
        self.client: Send | None = None


class TokenSource:
    """The token of some credentials, and the clients that it can be asked for through.

    Args:
        obtain: Gets a token.
        owner: What to call the credentials in errors.

    Attributes:
        observers: Who is told of each renewal.
    """

    # Whether the token came, and the next one will, in place of one that a service refused; and whether it is kept
    # although it was refused itself.
    __slots__ = (
        "_bindings",
        "_fetch",
        "_guard",
        "_is_kept",
        "_is_next_second",
        "_is_second",
        "_loop",
        "_outage",
        "_owner",
        "_paused_until",
        "_refused",
        "_renewal",
        "_token",
        "observers",
    )  # fmt: skip

    _token: Token | None
    _is_second: bool
    _is_next_second: bool
    _is_kept: bool
    _renewal: _Renewal | None
    _paused_until: float
    _guard: LockoutGuard
    _outage: OutageBackoff

    def __init__(self, obtain: Fetch, owner: str) -> None:
        self._fetch = obtain
        self._owner = owner
        self.observers = Observers(owner)
        self._bindings: list[tuple[Send, StartTask]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refused: SecretStr | None = None
        self._forget()

    def bind(self, send: Send, start: StartTask) -> None:
        """Take a way to send, from a client that is being opened.

        Raises:
            ConfigurationError: A client in another event loop is open with it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._bindings and self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError(
                    f"{self._owner}: a client in another event loop uses it; make one for each loop"
                )
            # What is left of another loop is told in that loop's time.
            self._bindings.clear()
            self._loop = loop
            self._forget()
        self._bindings.append((send, start))

    def unbind(self, send: Send) -> None:
        """Let go of it again; another client takes over what it was asking for."""
        # Bound methods are made anew each time they are looked up: they are equal, and not the same.
        self._bindings = [binding for binding in self._bindings if binding[0] != send]
        if self._renewal is not None:
            self._hand_over(self._renewal, send)

    async def get(self) -> Token:
        """Return the token, after getting one if there is none.

        Raises:
            AuthenticationError: It was refused, now or a moment ago.
            TransportError: It could not be asked for.
            ClientClosedError: No client that uses these credentials is open.
        """
        now = anyio.current_time()
        token = self._token
        if token is not None and now < token.deadline:
            if (
                now >= token.renew_at
                and now >= self._paused_until
                and self._renewal is None
                and not self._guard.is_on(now)
            ):
                self._begin()
            return token
        renewal = self._renewal
        if renewal is None:
            self._guard.check(now)
            renewal = self._begin()
        if renewal is None:
            raise ClientClosedError(f"{OPERATION}: no client that uses this {self._owner} is open")
        await renewal.done.wait()
        if renewal.token is not None:
            return renewal.token
        assert renewal.error is not None  # noqa: S101 - for the type checker
        raise own_copy(renewal.error)

    async def renew(self, refused: SecretStr | None, refusal: Callable[[], AuthenticationError]) -> bool:
        """Get another token than the one that a call was refused with, unless somebody did so meanwhile.

        One that came for a refused one, and is refused young, is its user's refusal: the cloud gives tokens, and does
        not take them. No other token is asked for then before the brake is off. This one is kept so long, for it may
        be a single call that is refused with it.

        Args:
            refused: The token.
            refusal: Returns what the cloud said.

        Returns:
            Whether the call is worth another try.

        Raises:
            AuthenticationError: A token was refused a moment ago, or asking for one was.
        """
        now = anyio.current_time()
        if self._token is None or refused != self._token.value:
            # The next try takes (or waits for) what came of it.
            return not (refused == self._refused and self._renewal is None and self._guard.is_on(now))
        if self._is_kept:
            self._guard.check(now)
        if self._is_second and not self._is_kept and is_young(self._token.since, now):
            # Until the brake is off; then it is replaced.
            self._is_kept = True
            self._guard.trip(refusal(), now, young=True)
            return False
        self._token, self._refused, self._is_next_second = None, refused, True
        await self.get()
        return True

    def _forget(self) -> None:
        self._token = self._renewal = None
        self._is_second = self._is_next_second = self._is_kept = False
        self._paused_until = -math.inf
        self._guard = LockoutGuard()
        self._outage = OutageBackoff()

    def _begin(self) -> _Renewal | None:
        renewal = _Renewal()
        if not self._start_in_some_client(renewal):
            return None
        self._renewal = renewal
        return renewal

    def _start_in_some_client(self, renewal: _Renewal, *, except_: Send | None = None) -> bool:
        """Start the renewal's task in a client that takes it: no call owns it, so no call's end is its end."""
        for send, start in self._bindings:
            if send == except_:
                continue
            try:
                start(functools.partial(self._run, renewal, send))
            except ClientClosedError:
                continue
            renewal.client = send
            return True
        return False

    def _hand_over(self, renewal: _Renewal, send: Send) -> None:
        """Have another client go on with what this one was asking for."""
        if renewal.done.is_set() or renewal.client != send:
            return
        if not self._start_in_some_client(renewal, except_=send):
            self._resolve(renewal, error=ClientClosedError(f"{OPERATION}: the client was closed before a token came"))

    async def _run(self, renewal: _Renewal, send: Send) -> None:
        fault: Exception | None = None
        try:
            if self._outage.is_active:
                await self._outage.wait()
            attempts = 1 if self._outage.is_active else ATTEMPTS
            token = await call_foreign("asking for a token", self._fetch, send, self._refused, attempts)
        except (asyncio.CancelledError, ClientClosedError) as error:
            self._hand_over(renewal, send)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        except BmsError as error:
            self._resolve(renewal, error=error)
        except Exception as error:  # noqa: BLE001 - it is raised again
            fault = error
            failure = TransportError(f"{type(error).__name__} while asking", maybe_delivered=False, operation=OPERATION)
            failure.__cause__ = error
            self._resolve(renewal, error=failure)
        else:
            self._resolve(renewal, token=token)
        self._notify(renewal)
        if fault is not None:
            raise fault

    def _notify(self, renewal: _Renewal) -> None:
        if renewal.notified:
            return
        renewal.notified = True
        now, token = anyio.current_time(), renewal.token
        lifetime = None if token is None else token.deadline - now
        self.observers.notify(now - renewal.started_at, lifetime=lifetime, error=renewal.error)

    def _resolve(self, renewal: _Renewal, *, token: Token | None = None, error: BmsError | None = None) -> None:
        if renewal.done.is_set():
            # It was handed over, and this client's answer came all the same.
            return
        renewal.token, renewal.error = token, error
        renewal.done.set()
        if self._renewal is renewal:
            self._renewal = None
        if token is not None:
            self._token = token
            self._is_second, self._is_next_second, self._is_kept = self._is_next_second, False, False
            self._guard.reset()
            self._outage = OutageBackoff()
            return
        now = math.inf if self._loop is None else self._loop.time()
        if isinstance(error, AuthenticationError):
            self._outage = OutageBackoff()
            if error.status == _UNAUTHORIZED:
                self._guard.trip(error, now)
        elif isinstance(error, TransportError):
            self._outage.record_failure(now)
        if self._token is not None and now < self._token.deadline:
            # Calls go on with the token they have, and must not each ask again at once.
            self._paused_until = max(now + _PAUSE, self._guard.until)
            _log.warning("%s: a renewal ahead of time failed: %s", OPERATION, type(error).__name__)
