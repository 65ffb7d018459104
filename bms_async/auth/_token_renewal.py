"""One token for all calls of a process that share credentials (rule R8).

However many calls need a token, one request is sent for it, and one 401 costs one renewal. A `_Renewal` is a task of a
client and not of a call: callers wait for it, and a caller that is cancelled ends nobody else's wait. When the client
that runs it is closed, another open client takes it over.

A token is renewed in the background before it ends, while calls go on with the old one. If that fails, it is
logged and tried again after `_PAUSE_AFTER_FAILURE`; calls get an error only once the old token has ended.

A 401 replaces the token, unless another call has replaced it meanwhile. If the replacement is refused within `YOUNG`
seconds too, the refusal is about the user and not about the token, and callers get it: tokens are not replaced in a
loop. The token is kept until the pause of the lockout guard is over, for a single call may be what is refused.

Rejected: a lock around the request, which ties it to the call that holds the lock and is lost with that call; and a
token for each client, which multiplies the requests.
"""

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

# Seconds after a failed renewal ahead of time, while the old token is still valid.
_PAUSE_AFTER_FAILURE = 30.0
ATTEMPTS = 4
"""How often a renewal requests a token."""

_UNAUTHORIZED = 401


class Token:
    """A token, with its times by the loop's clock.

    Args:
        value: The token.
        issued_at: When the cloud issued it.
        deadline: When it ends.
        lifetime: The seconds for which it was issued.
        margin: Seconds before its end at which it is renewed.
        project_id: The project that it is for.
    """

    __slots__ = ("deadline", "headers", "issued_at", "project_id", "renew_at", "value")

    def __init__(
        self,
        value: SecretStr,
        *,
        issued_at: float,
        deadline: float,
        lifetime: float,
        margin: float,
        project_id: str | None,
    ) -> None:
        self.value = value
        self.headers: Mapping[str, str] = {"X-Auth-Token": value}
        self.issued_at = issued_at
        self.deadline = deadline
        self.renew_at = deadline - renewal_margin(lifetime, margin)
        self.project_id = project_id


Fetch: TypeAlias = Callable[[Send, SecretStr | None, int], Awaitable[Token]]
"""Gets a token other than the refused one, with a client's function to send requests and a number of attempts."""


class _Renewal:
    """A request for a token, shared by its waiters; `client` is the sending function of the client that runs it."""

    __slots__ = ("client", "done", "error", "notified", "started_at", "token")

    def __init__(self) -> None:
        self.started_at = anyio.current_time()
        self.done = anyio.Event()
        self.token: Token | None = None
        self.error: BmsError | None = None
        self.notified = False
        self.client: Send | None = None


class TokenSource:
    """The current token of some credentials, and the clients that can request one.

    Args:
        fetch: Gets a token.
        credentials: The name of the credentials, for errors and events.

    Attributes:
        observers: The clients to notify of each renewal.
    """

    # `_is_replacement`: the token replaced a refused one; `_next_is_replacement`: the next one will. `_is_kept`: the
    # token was refused itself, but stays in use until the guard's pause is over.
    __slots__ = (
        "_bindings",
        "_credentials",
        "_fetch",
        "_guard",
        "_is_kept",
        "_is_replacement",
        "_loop",
        "_next_is_replacement",
        "_outage",
        "_paused_until",
        "_refused",
        "_renewal",
        "_token",
        "observers",
    )  # fmt: skip

    _token: Token | None
    _is_replacement: bool
    _next_is_replacement: bool
    _is_kept: bool
    _renewal: _Renewal | None
    _paused_until: float
    _guard: LockoutGuard
    _outage: OutageBackoff

    def __init__(self, fetch: Fetch, credentials: str) -> None:
        self._fetch = fetch
        self._credentials = credentials
        self.observers = Observers(credentials)
        self._bindings: list[tuple[Send, StartTask]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refused: SecretStr | None = None
        self._reset()

    def bind(self, send: Send, start: StartTask) -> None:
        """Register the functions of a client that is being opened.

        Raises:
            ConfigurationError: A client in another event loop is open with these credentials.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._bindings and self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError(
                    f"{self._credentials}: a client in another event loop uses it; make one for each loop"
                )
            # Times left over from another loop are by that loop's clock.
            self._bindings.clear()
            self._loop = loop
            self._reset()
        self._bindings.append((send, start))

    def unbind(self, send: Send) -> None:
        """Unregister a client that is being closed; another one takes over the renewal that it runs."""
        # Each lookup of a bound method makes a new object: compare with ==, not with `is`.
        self._bindings = [binding for binding in self._bindings if binding[0] != send]
        if self._renewal is not None:
            self._hand_over(self._renewal, send)

    async def get(self) -> Token:
        """Return a valid token, after requesting one if there is none.

        Raises:
            AuthenticationError: The request was refused, now or within the guard's pause.
            TransportError: The identity service could not be reached.
            ClientClosedError: No client that uses these credentials is open.
        """
        now = anyio.current_time()
        token = self._token
        if token is not None and now < token.deadline:
            if (
                now >= token.renew_at
                and now >= self._paused_until
                and self._renewal is None
                and not self._guard.is_tripped(now)
            ):
                self._start_renewal()
            return token
        renewal = self._renewal
        if renewal is None:
            self._guard.check(now)
            renewal = self._start_renewal()
        if renewal is None:
            raise ClientClosedError(f"{OPERATION}: no client that uses this {self._credentials} is open")
        await renewal.done.wait()
        if renewal.token is not None:
            return renewal.token
        assert renewal.error is not None  # noqa: S101 - for the type checker
        raise own_copy(renewal.error)

    async def renew(self, refused: SecretStr | None, refusal: Callable[[], AuthenticationError]) -> bool:
        """Replace the token that a call was refused with, unless another call has done so meanwhile.

        A replacement that is refused while it is young trips the guard, and is kept until the guard's pause is over.

        Args:
            refused: The token.
            refusal: Returns the error for later callers.

        Returns:
            Whether a retry of the call may succeed.

        Raises:
            AuthenticationError: The replacement was refused within the guard's pause, or the request for one was.
        """
        now = anyio.current_time()
        if self._token is None or refused != self._token.value:
            # The retry uses the token that replaced this one, or waits for it.
            return not (refused == self._refused and self._renewal is None and self._guard.is_tripped(now))
        if self._is_kept:
            self._guard.check(now)
        if self._is_replacement and not self._is_kept and is_young(self._token.issued_at, now):
            self._is_kept = True
            self._guard.trip(refusal(), now, young=True)
            return False
        self._token, self._refused, self._next_is_replacement = None, refused, True
        await self.get()
        return True

    def _reset(self) -> None:
        self._token = self._renewal = None
        self._is_replacement = self._next_is_replacement = self._is_kept = False
        self._paused_until = -math.inf
        self._guard = LockoutGuard()
        self._outage = OutageBackoff()

    def _start_renewal(self) -> _Renewal | None:
        renewal = _Renewal()
        if not self._start_in_some_client(renewal):
            return None
        self._renewal = renewal
        return renewal

    def _start_in_some_client(self, renewal: _Renewal, *, except_: Send | None = None) -> bool:
        """Start the renewal as a task of the first client that accepts it; return whether one did."""
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
        """Restart in another client the renewal that a closing client runs."""
        if renewal.done.is_set() or renewal.client != send:
            return
        if not self._start_in_some_client(renewal, except_=send):
            self._resolve(renewal, error=ClientClosedError(f"{OPERATION}: the client was closed before a token came"))

    async def _run(self, renewal: _Renewal, send: Send) -> None:
        unexpected: Exception | None = None
        try:
            if self._outage.is_active:
                await self._outage.wait()
            attempts = 1 if self._outage.is_active else ATTEMPTS
            token = await call_foreign("the request for a token", self._fetch, send, self._refused, attempts)
        except (asyncio.CancelledError, ClientClosedError) as error:
            self._hand_over(renewal, send)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        except BmsError as error:
            self._resolve(renewal, error=error)
        except Exception as error:  # noqa: BLE001 - it is raised again
            unexpected = error
            failure = TransportError(
                f"{type(error).__name__} while requesting a token", maybe_delivered=False, operation=OPERATION
            )
            failure.__cause__ = error
            self._resolve(renewal, error=failure)
        else:
            self._resolve(renewal, token=token)
        self._notify(renewal)
        if unexpected is not None:
            raise unexpected

    def _notify(self, renewal: _Renewal) -> None:
        if renewal.notified:
            return
        renewal.notified = True
        now, token = anyio.current_time(), renewal.token
        lifetime = None if token is None else token.deadline - now
        self.observers.notify(now - renewal.started_at, lifetime=lifetime, error=renewal.error)

    def _resolve(self, renewal: _Renewal, *, token: Token | None = None, error: BmsError | None = None) -> None:
        if renewal.done.is_set():
            # It was handed over, and this client got a response all the same.
            return
        renewal.token, renewal.error = token, error
        renewal.done.set()
        if self._renewal is renewal:
            self._renewal = None
        if token is not None:
            self._token = token
            self._is_replacement, self._next_is_replacement, self._is_kept = self._next_is_replacement, False, False
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
            # Calls go on with the old token, and must not each start the next renewal.
            self._paused_until = max(now + _PAUSE_AFTER_FAILURE, self._guard.until)
            _log.warning("%s: renewal ahead of time failed: %s", OPERATION, type(error).__name__)
