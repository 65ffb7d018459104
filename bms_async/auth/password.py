"""A user's name and password, for which Keystone gives a token that is kept fresh."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import logging
import math
import os
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
import msgspec

from bms_async.errors import (
    BmsError,
    CallError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    TransportError,
)
from bms_async.wire import HttpRequest, HttpResponse, RetryPolicy, read_error, retry_delay
from bms_async.wire.checks import fits_header

from ._keystone import (
    CHECK,
    OPERATION,
    Answer,
    Granted,
    failure,
    find_margin_problems,
    find_problems,
    find_url_problems,
    margin_of,
    may_pass,
    read_lifetime,
    refusal,
    shorten,
    without_none,
)
from .base import Send, Start
from .secret import MASK, Secret

if TYPE_CHECKING:
    from .cache import TokenCache

_log = logging.getLogger("bms_async.auth")

_RETRY = RetryPolicy(attempts=4, base=0.5, cap=30.0)
_TIMEOUT = 30.0
# After a renewal ahead of time has failed, while the old token is still good.
_PAUSE = 30.0
_TOKENS_REMEMBERED = 32


class _Token:
    """A token and its times by the loop's clock."""

    __slots__ = ("deadline", "headers", "project_id", "renew_at", "value")

    def __init__(self, value: str, *, deadline: float, lifetime: float, margin: float, project_id: str | None) -> None:
        self.value = value
        self.headers: Mapping[str, str] = {"X-Auth-Token": value}
        self.deadline = deadline
        self.renew_at = deadline - margin_of(lifetime, margin)
        self.project_id = project_id


class _Renewal:
    """One token on its way, for all who wait for it; `via` is the client that sends for it."""

    __slots__ = ("done", "error", "token", "via")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.token: _Token | None = None
        self.error: BmsError | None = None
        self.via: Send | None = None


class PasswordAuth:
    """Authenticates with a token that a user's password is exchanged for (API reference 3.1 and 3.2).

    The token is asked for when the first call needs it, once however many calls wait; it is renewed in the background
    before it ends, and after the cloud refused it. Clients may share one `PasswordAuth`, and then share its token.

    Args:
        auth_url: The address of the IAM service (Keystone), with or without ``/v3``.
        username: The user; it takes a `user_domain_name` or a `user_domain_id` too. Or else:
        user_id: The user's id.
        password: The password, a text or a `Secret`.
        user_domain_name: The name of the account that the user belongs to.
        user_domain_id: Its id.
        project_name: The project, which is named like its region where the cloud made it. Or else:
        project_id: The project's id.
        project_domain_name: The account that a project given by name belongs to, for clouds that ask for it.
        margin: Seconds before its end at which a token is renewed, but never before half of its life is over.
        cache_file: A file that processes of this user share tokens through; it holds them readable, for its owner
            alone. None keeps them in memory.
        random: What draws the delays between tries, for tests.

    Raises:
        ConfigurationError: Arguments are missing or contradict each other; the text names all of them.
    """

    __slots__ = (
        "_auth_url",
        "_bindings",
        "_cache",
        "_issued",
        "_loop",
        "_margin",
        "_password",
        "_paused_until",
        "_project_id",
        "_random",
        "_refused",
        "_renewal",
        "_scope",
        "_token",
        "_user",
    )

    def __init__(
        self,
        *,
        auth_url: str,
        username: str | None = None,
        user_id: str | None = None,
        password: str | Secret,
        user_domain_name: str | None = None,
        user_domain_id: str | None = None,
        project_name: str | None = None,
        project_id: str | None = None,
        project_domain_name: str | None = None,
        margin: float = 600.0,
        cache_file: str | os.PathLike[str] | None = None,
        random: Random | None = None,
    ) -> None:
        given = {
            "username": username,
            "user_id": user_id,
            "user_domain_name": user_domain_name,
            "user_domain_id": user_domain_id,
            "project_name": project_name,
            "project_id": project_id,
            "project_domain_name": project_domain_name,
        }
        problems = [*find_url_problems(auth_url), *find_problems(given, password), *find_margin_problems(margin)]
        if problems:
            raise ConfigurationError(f"PasswordAuth: {'; '.join(problems)}")
        self._auth_url = shorten(auth_url)
        self._password = Secret(password)
        self._user = without_none(
            id=user_id, name=username, domain=without_none(id=user_domain_id, name=user_domain_name) or None
        )
        domain = without_none(name=project_domain_name) or None
        self._scope = {"project": without_none(id=project_id, name=project_name, domain=domain)}
        self._project_id = project_id
        self._margin = margin
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._bindings: list[tuple[Send, Start]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._token: _Token | None = None
        self._renewal: _Renewal | None = None
        self._refused: str | None = None
        self._paused_until = -math.inf
        self._issued: deque[str] = deque(maxlen=_TOKENS_REMEMBERED)
        self._cache = None if cache_file is None else _open_cache(cache_file, (self._auth_url, *given.values()))

    def __repr__(self) -> str:
        user = self._user.get("name") or self._user["id"]
        project = self._scope["project"].get("name") or self._project_id
        return f"PasswordAuth({self._auth_url!r}, user={user!r}, project={project!r}, password={MASK})"

    def __reduce__(self) -> str:
        raise TypeError("a PasswordAuth is not pickled: its password would be readable in the pickle")

    def bind(self, send: Send, start: Start) -> None:
        """Take a way to send, from a client that is being opened.

        Raises:
            ConfigurationError: A client in another event loop is open with it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._bindings and self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError("PasswordAuth: a client in another event loop uses it; make one for each loop")
            # What is left of another loop is told in that loop's time.
            self._bindings.clear()
            self._loop, self._token, self._renewal, self._paused_until = loop, None, None, -math.inf
        self._bindings.append((send, start))

    def unbind(self, send: Send) -> None:
        """Let go of it again; another client takes over what it was asking for."""
        # Bound methods are made anew each time they are looked up: they are equal, and not the same.
        self._bindings = [binding for binding in self._bindings if binding[0] != send]
        if self._renewal is not None:
            self._hand_over(self._renewal, send)

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the token's header, after getting a token if there is none.

        Raises:
            AuthenticationError: The identity service refused; the text says what to check.
            TransportError: It could not be reached or was out of order; the call itself was not sent.
            ClientClosedError: No client that uses these credentials is open.
        """
        del request
        return (await self._current()).headers

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Get a new token after a 401; a 403 is about what the user may do, which no new token changes.

        Raises:
            AuthenticationError: The identity service refused; the text says what to check.
            TransportError: It could not be reached or was out of order.
        """
        if response.status != 401:  # noqa: PLR2004
            return False
        refused = next((value for name, value in request.headers.items() if name.lower() == "x-auth-token"), None)
        if self._token is None or refused != self._token.value:
            # Somebody else was told so before, and the next try takes (or waits for) what came of it.
            return True
        self._token, self._refused = None, refused
        await self._current()
        return True

    async def find_project_id(self) -> str:
        """Return the id of the project, as the token tells it if only its name was given.

        Raises:
            ConfigurationError: The token is for no project.
        """
        if self._project_id is None:
            project_id = (await self._current()).project_id
            if project_id is None:
                raise ConfigurationError(f"{OPERATION}: the token names no project; give project_id")
            self._project_id = project_id
        return self._project_id

    def redact(self, text: str) -> str:
        """Return the text without the password, however it is spelled in JSON or a URL, and without the tokens."""
        password = self._password.reveal()
        spelled = {password, msgspec.json.encode(password)[1:-1].decode(), json.dumps(password)[1:-1], quote(password)}
        # The longest first, for the short may be a part of the long.
        for secret in sorted(spelled.union(self._issued), key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text

    async def _current(self) -> _Token:
        now = anyio.current_time()
        token = self._token
        if token is not None and now < token.deadline:
            if now >= token.renew_at and now >= self._paused_until and self._renewal is None:
                self._begin_renewal()
            return token
        renewal = self._renewal or self._begin_renewal()
        if renewal is None:
            raise ClientClosedError(f"{OPERATION}: no client that uses this PasswordAuth is open")
        await renewal.done.wait()
        if renewal.token is not None:
            return renewal.token
        assert renewal.error is not None  # noqa: S101 - for the type checker
        # Each gets one of his own: the session writes on it, and a traceback grows with every raise.
        raise copy.copy(renewal.error) from renewal.error.__cause__

    def _begin_renewal(self) -> _Renewal | None:
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
        try:
            token = await self._obtain(send)
        except (asyncio.CancelledError, ClientClosedError) as error:
            self._hand_over(renewal, send)
            if isinstance(error, asyncio.CancelledError):
                raise
        except BmsError as error:
            self._settle(renewal, error=error)
        except Exception as error:
            failure = TransportError(f"{type(error).__name__} while asking", maybe_delivered=False, operation=OPERATION)
            failure.__cause__ = error
            self._settle(renewal, error=failure)
            raise
        else:
            self._settle(renewal, token=token)

    def _settle(self, renewal: _Renewal, *, token: _Token | None = None, error: BmsError | None = None) -> None:
        if renewal.done.is_set():
            # It was handed over, and this client's answer came all the same.
            return
        renewal.token, renewal.error = token, error
        renewal.done.set()
        if self._renewal is renewal:
            self._renewal = None
        if token is not None:
            self._token = token
        elif self._token is not None and self._loop is not None and self._loop.time() < self._token.deadline:
            # Calls go on with the token they have, and must not each ask again at once.
            self._paused_until = self._loop.time() + _PAUSE
            _log.warning("%s: a renewal ahead of time failed: %s", OPERATION, type(error).__name__)

    async def _obtain(self, send: Send) -> _Token:
        if self._cache is None:
            return (await self._ask(send))[0]
        async with self._cache.hold() as held:
            if held and (token := await self._load(self._cache)):
                return token
            token, granted = await self._ask(send)
            if held:
                await self._store(self._cache, token, granted)
            return token

    async def _load(self, cache: TokenCache) -> _Token | None:
        kept = await cache.load()
        if kept is None or kept.token == self._refused or not fits_header(kept.token):
            return None
        left = kept.remaining()
        if left <= margin_of(kept.lifetime, self._margin):
            return None
        self._issued.append(kept.token)
        return _Token(
            kept.token,
            deadline=anyio.current_time() + left,
            lifetime=kept.lifetime,
            margin=self._margin,
            project_id=kept.project_id,
        )

    async def _store(self, cache: TokenCache, token: _Token, granted: Granted) -> None:
        from .cache import CachedToken  # noqa: PLC0415

        expires_at = granted.expires_at if isinstance(granted.expires_at, str) else None
        left = token.deadline - anyio.current_time()
        await cache.store(CachedToken.lasting(token.value, left, expires_at=expires_at, project_id=token.project_id))

    async def _ask(self, send: Send) -> tuple[_Token, Granted]:
        """Ask for a token, and again if that may help.

        Raises:
            AuthenticationError: It was refused.
            TransportError: There was no answer that helps, each time.
        """
        attempt = 0
        while True:
            attempt += 1
            asked_at = anyio.current_time()
            try:
                return self._read(await send(self._build_request()), asked_at)
            except CallError as error:
                if not may_pass(error):
                    told = refusal(error)
                    _log.warning("%s was refused (%d); %s", OPERATION, told.status, CHECK)
                    raise told from None
                if attempt >= _RETRY.attempts:
                    raise failure(error, attempt) from error
                _log.info("%s attempt %d failed: %s", OPERATION, attempt, type(error).__name__)
                asked = getattr(error, "retry_after", None)
            await anyio.sleep(retry_delay(_RETRY, attempt=attempt, asked=asked, draw=self._random.random()))

    def _build_request(self) -> HttpRequest:
        user = {**self._user, "password": self._password.reveal()}
        identity = {"methods": ["password"], "password": {"user": user}}
        return HttpRequest(
            operation=OPERATION,
            method="POST",
            url=f"{self._auth_url}/v3/auth/tokens",
            headers={"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "bms-async"},
            body=msgspec.json.encode({"auth": {"identity": identity, "scope": self._scope}}),
            timeout=_TIMEOUT,
        )

    def _read(self, response: HttpResponse, asked_at: float) -> tuple[_Token, Granted]:
        value = (response.header("X-Subject-Token") or "").strip()
        if value:
            # Whatever the status is: what came must not be shown from now on.
            self._issued.append(value)
        if not 200 <= response.status < 300:  # noqa: PLR2004
            raise read_error(OPERATION, response, redact=self.redact)
        if not fits_header(value):
            raise DecodeError(
                "answered without a token in X-Subject-Token", status=response.status, operation=OPERATION
            )
        try:
            granted = msgspec.json.decode(response.body, type=Answer).token
        except (msgspec.DecodeError, ValueError, RecursionError):
            text = f"answered with {len(response.body)} bytes that tell of no token"
            raise DecodeError(text, status=response.status, operation=OPERATION) from None
        lifetime = read_lifetime(granted, response)
        _log.info("%s: a token for %.0f s", OPERATION, lifetime)
        token = _Token(
            value,
            # From before it was asked for: the cloud's clock stood still for nobody while the answer came.
            deadline=asked_at + lifetime,
            lifetime=lifetime,
            margin=self._margin,
            project_id=granted.project_id,
        )
        return token, granted


def _open_cache(path: str | os.PathLike[str], identity: tuple[str | None, ...]) -> TokenCache:
    try:
        from .cache import TokenCache  # noqa: PLC0415 - it needs locks that not every system has
    except ImportError as error:
        raise ConfigurationError("PasswordAuth: cache_file is not supported on this system") from error
    return TokenCache(path, identity)
