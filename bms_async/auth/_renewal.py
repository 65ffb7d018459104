"""One token for all who need it: who asks for it, when it is renewed, and when asking again would do harm."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import anyio

from bms_async.errors import AuthenticationError, BmsError, ClientClosedError, ConfigurationError, TransportError

from ._audience import Audience
from ._keystone import OPERATION, margin_of
from .base import Send, Start

_log = logging.getLogger("bms_async.auth")

# After a renewal ahead of time has failed, while the old token is still good.
_PAUSE = 30.0
# After a refused password: clouds lock an account that is tried wrongly five times within a quarter of an hour, and
# people try too. So it is three times in the first, and once in each after that.
_SHORTEST_BRAKE, _BRAKE_GROWTH, _LONGEST_BRAKE = 30.0, 6, 900.0
ATTEMPTS = 4
"""How often a renewal asks for a token."""

# After a renewal that failed for good: thousands of polls and calls would else each ask four times, for hours.
_SHORTEST_REST, _LONGEST_REST = 1.0, 10.0
_UNAUTHORIZED = 401


class Token:
    """A token and its times by the loop's clock."""

    __slots__ = ("deadline", "headers", "project_id", "renew_at", "value")

    def __init__(self, value: str, *, deadline: float, lifetime: float, margin: float, project_id: str | None) -> None:
        self.value = value
        self.headers: Mapping[str, str] = {"X-Auth-Token": value}
        self.deadline = deadline
        self.renew_at = deadline - margin_of(lifetime, margin)
        self.project_id = project_id


Obtain: TypeAlias = Callable[[Send, str | None, int], Awaitable[Token]]
"""Gets a token by this way to send, other than the one that was refused; how often it may ask."""


class _Renewal:
    """One token on its way, for all who wait for it; `via` is the client that sends for it."""

    __slots__ = ("begun", "done", "error", "token", "told", "via")

    def __init__(self) -> None:
        self.begun = anyio.current_time()
        self.done = anyio.Event()
        self.token: Token | None = None
        self.error: BmsError | None = None
        self.told = False
        self.via: Send | None = None


class _Brake:
    """Keeps a refused password from being sent again at once, and longer each time that it is refused again."""

    __slots__ = ("_pause", "_refusal", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = -math.inf
        self._refusal: AuthenticationError | None = None

    def press(self, refusal: AuthenticationError, now: float) -> None:
        self._pause = min(max(_SHORTEST_BRAKE, _BRAKE_GROWTH * self._pause), _LONGEST_BRAKE)
        self._until = now + self._pause
        self._refusal = refusal

    @property
    def until(self) -> float:
        """The moment from which the password may be sent again."""
        return self._until

    def check(self, now: float) -> None:
        """Raise the refusal as long as it stands."""
        left = self._until - now
        refusal = self._refusal
        if refusal is None or left <= 0:
            return
        raise AuthenticationError(
            status=refusal.status,
            code=refusal.code,
            message=f"{refusal.message}; it was not asked again, and will not be for {max(left, 0.1):.1f} s: "
            "an account is locked after a few wrong tries",
            request_id=refusal.request_id,
            operation=OPERATION,
        )


class _Outage:
    """Has an identity service that is out of order asked once in a while, however many calls need a token."""

    __slots__ = ("_rest", "_until")

    def __init__(self) -> None:
        self._rest = 0.0
        self._until = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether nothing has been heard since a renewal failed."""
        return self._rest > 0

    def note(self, now: float) -> None:
        self._rest = min(max(_SHORTEST_REST, 2 * self._rest), _LONGEST_REST)
        self._until = now + self._rest

    async def rest(self) -> None:
        """Wait until it may be asked again."""
        await anyio.sleep(max(0.0, self._until - anyio.current_time()))


class Renewals:
    """The token of some credentials, and the clients that it can be asked for through.

    Args:
        obtain: Gets a token.
        owner: What to call the credentials in errors.

    Attributes:
        audience: Who is told of each renewal.
    """

    __slots__ = (
        "_bindings", "_brake", "_loop", "_obtain", "_outage", "_owner", "_paused_until", "_refused", "_renewal",
        "_token", "audience",
    )  # fmt: skip

    _token: Token | None
    _renewal: _Renewal | None
    _paused_until: float
    _brake: _Brake
    _outage: _Outage

    def __init__(self, obtain: Obtain, owner: str) -> None:
        self._obtain = obtain
        self._owner = owner
        self.audience = Audience(owner)
        self._bindings: list[tuple[Send, Start]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refused: str | None = None
        self._forget()

    def bind(self, send: Send, start: Start) -> None:
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

    async def current(self) -> Token:
        """Return the token, after getting one if there is none.

        Raises:
            AuthenticationError: It was refused, now or a moment ago.
            TransportError: It could not be asked for.
            ClientClosedError: No client that uses these credentials is open.
        """
        now = anyio.current_time()
        token = self._token
        if token is not None and now < token.deadline:
            if now >= token.renew_at and now >= self._paused_until and self._renewal is None:
                self._begin()
            return token
        renewal = self._renewal
        if renewal is None:
            self._brake.check(now)
            renewal = self._begin()
        if renewal is None:
            raise ClientClosedError(f"{OPERATION}: no client that uses this {self._owner} is open")
        await renewal.done.wait()
        if renewal.token is not None:
            return renewal.token
        assert renewal.error is not None  # noqa: S101 - for the type checker
        # Each gets one of his own: the session writes on it, and a traceback grows with every raise.
        raise copy.copy(renewal.error) from renewal.error.__cause__

    async def replace(self, refused: str | None) -> None:
        """Get another token than the one that a call was refused with, unless somebody did so meanwhile."""
        if self._token is None or refused != self._token.value:
            # The next try takes (or waits for) what came of it.
            return
        self._token, self._refused = None, refused
        await self.current()

    def _forget(self) -> None:
        self._token = self._renewal = None
        self._paused_until = -math.inf
        self._brake = _Brake()
        self._outage = _Outage()

    def _begin(self) -> _Renewal | None:
        renewal = _Renewal()
        if not self._launch(renewal):
            return None
        self._renewal = renewal
        return renewal

    def _launch(self, renewal: _Renewal, *, but: Send | None = None) -> bool:
        """Start the renewal's task in a client that takes it: no call owns it, so no call's end is its end."""
        for send, start in self._bindings:
            if send == but:
                continue
            try:
                start(functools.partial(self._run, renewal, send))
            except ClientClosedError:
                continue
            renewal.via = send
            return True
        return False

    def _hand_over(self, renewal: _Renewal, send: Send) -> None:
        """Have another client go on with what this one was asking for."""
        if renewal.done.is_set() or renewal.via != send:
            return
        if not self._launch(renewal, but=send):
            self._settle(renewal, error=ClientClosedError(f"{OPERATION}: the client was closed before a token came"))

    async def _run(self, renewal: _Renewal, send: Send) -> None:
        fault: Exception | None = None
        try:
            if self._outage.is_on:
                await self._outage.rest()
            token = await self._obtain(send, self._refused, 1 if self._outage.is_on else ATTEMPTS)
        except (asyncio.CancelledError, ClientClosedError) as error:
            self._hand_over(renewal, send)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        except BmsError as error:
            self._settle(renewal, error=error)
        except Exception as error:  # noqa: BLE001 - it is raised again
            fault = error
            failure = TransportError(f"{type(error).__name__} while asking", maybe_delivered=False, operation=OPERATION)
            failure.__cause__ = error
            self._settle(renewal, error=failure)
        else:
            self._settle(renewal, token=token)
        self._tell(renewal)
        if fault is not None:
            raise fault

    def _tell(self, renewal: _Renewal) -> None:
        if renewal.told:
            return
        renewal.told = True
        now, token = anyio.current_time(), renewal.token
        lifetime = None if token is None else token.deadline - now
        self.audience.hear(now - renewal.begun, lifetime=lifetime, error=renewal.error)

    def _settle(self, renewal: _Renewal, *, token: Token | None = None, error: BmsError | None = None) -> None:
        if renewal.done.is_set():
            # It was handed over, and this client's answer came all the same.
            return
        renewal.token, renewal.error = token, error
        renewal.done.set()
        if self._renewal is renewal:
            self._renewal = None
        if token is not None:
            self._token = token
            self._brake, self._outage = _Brake(), _Outage()
            return
        now = math.inf if self._loop is None else self._loop.time()
        if isinstance(error, AuthenticationError):
            self._outage = _Outage()
            if error.status == _UNAUTHORIZED:
                self._brake.press(error, now)
        elif isinstance(error, TransportError):
            self._outage.note(now)
        if self._token is not None and now < self._token.deadline:
            # Calls go on with the token they have, and must not each ask again at once.
            self._paused_until = max(now + _PAUSE, self._brake.until)
            _log.warning("%s: a renewal ahead of time failed: %s", OPERATION, type(error).__name__)
