"""An access key, which signs every request."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import urlsplit

import anyio

from bms_async._foreign import call_foreign
from bms_async._threads import run_in_thread
from bms_async.errors import BmsError, ConfigurationError, InvalidRequestError, TransportError
from bms_async.redaction import MASK, Secret, SecretStr, mask, wrap_secrets
from bms_async.wire import HttpRequest, HttpResponse
from bms_async.wire.signing import DATE_HEADER, format_date, sign

from ._clock import CloudClock
from ._keys import Keys, check_text, read_keys
from ._lockout_guard import LockoutGuard, is_young
from ._observers import Observers
from .base import Notify

KeyProvider: TypeAlias = Callable[[], Awaitable[tuple[str, str | Secret, str | Secret | None]]]
"""Fetches an access key, its secret key and, with temporary keys, their security token."""

MAX_SIGNED_BYTES = 12 * 1024 * 1024
"""How long a signed body may be (API reference 3.2)."""

LONG = 1024 * 1024
"""How long a body is signed in the event loop; a longer one is hashed in a thread, while other calls go on."""

_log = logging.getLogger("bms_async.auth")

_NEVER_SIGNED = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_search_project = re.compile(r"/v(?:1|2\.1)/([^/?#]+)/").search
_MIN_LENGTH = len("http://h")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class AkSkAuth:
    """Signs each request with an access key (API reference 3.2, the vendor's API Request Signing Guide).

    A request is signed right before it is sent, for a signature holds for 15 minutes and a request may wait longer
    than that for its turn. A wrong clock on this machine is found out by the cloud's first refusal, and corrected.

    Args:
        access_key: The access key (AK).
        secret_key: The secret key (SK). It signs, and is never sent.
        security_token: What temporary keys come with.
        project_id: What ``X-Project-Id`` says. By default the project that the request's path names, as in
            ``/v1/{project_id}/...`` and ``/v2.1/{project_id}/...``; a request that names none is sent without.
        provider: In place of keys, for keys that change: an async function that returns the access key, the secret key
            and the security token or None. It is called before the first request, and again when the cloud refuses
            the keys that it gave; however many calls need it, it runs once. Keys that are refused within a minute, or
            that it gives again, are a refusal: it is then left alone for 30 seconds, for 3 minutes, and then for a
            quarter of an hour each time.
        clock: Returns the time, aware; by default it is this machine's.

    Raises:
        ConfigurationError: Keys are missing or cannot be sent, or there are keys and a provider.
    """

    __slots__ = (
        "_failure",
        "_fetched",
        "_fetching",
        "_guard",
        "_header_cache",
        "_keys",
        "_observers",
        "_project_id",
        "_provider",
        "_redacted_values",
        "_taken_at",
        "_time",
    )

    def __init__(
        self,
        access_key: str | None = None,
        secret_key: str | Secret | None = None,
        security_token: str | Secret | None = None,
        *,
        project_id: str | None = None,
        provider: KeyProvider | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        access_key, secret_key, security_token = (
            wrap_secrets(access_key),
            wrap_secrets(secret_key),
            wrap_secrets(security_token),
        )
        # A provider that is a text is likely a key.
        provider = wrap_secrets(provider)
        self._keys: Keys | None = None
        self._header_cache: _HeaderCache | None = None
        self._redacted_values: tuple[SecretStr, ...] = ()
        if provider is None:
            self._use_keys(read_keys(access_key, secret_key, security_token))
        elif access_key is not None or secret_key is not None or security_token is not None:
            raise ConfigurationError("AkSkAuth: give keys or a provider of keys, not both")
        elif not callable(provider):
            raise ConfigurationError("AkSkAuth: provider must be an async function without arguments")
        self._project_id = None if project_id is None else str(check_text("project_id", project_id))
        self._provider = provider
        self._time = CloudClock(clock)
        self._observers = Observers("AkSkAuth")
        self._fetching = anyio.Lock()
        self._fetched = 0
        self._failure: Exception | None = None
        self._taken_at = -math.inf
        self._guard = LockoutGuard()

    def __repr__(self) -> str:
        keys = "no keys yet" if self._keys is None else self._keys.access_key
        return f"AkSkAuth({keys}, {MASK})"

    def __reduce__(self) -> str:
        raise TypeError("an AkSkAuth is not pickled: its secret key would be readable in the pickle")

    def observe(self, tell: Notify) -> None:
        """Tell a client that is being opened whenever the provider was asked for keys; there may be several."""
        self._observers.add(tell)

    def unobserve(self, tell: Notify) -> None:
        """Tell it no more, when it is closed."""
        self._observers.remove(tell)

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the signature and the headers that it needs.

        Raises:
            InvalidRequestError: The body is longer than a signed one may be.
            TransportError: The provider could not give keys.
            ConfigurationError: The provider gave what are no keys.
        """
        body = request.body
        if len(body) > MAX_SIGNED_BYTES:
            raise InvalidRequestError(
                "body",
                f"{len(body)} bytes",
                "a signed request has at most 12 MB; split it, or use a token, which has no such limit",
            )
        keys = self._keys or await self._fetch(None)
        url, given = request.url, request.headers
        second = self._time.second()
        latest = self._header_cache
        if latest is not None and url.startswith(latest.head) and latest.second == second and latest.keys is keys:
            added = latest.added.copy()
        else:
            added = self._headers_to_add(url, second, keys)
        signed = added.copy()
        for name in _to_sign(tuple(given)):
            signed[name] = given[name]
        if len(body) <= LONG:
            made = sign(request.method, url, signed, body, access_key=keys.access_key, key=keys.signing)
        else:
            work = functools.partial(
                sign, request.method, url, signed, body, access_key=keys.access_key, key=keys.signing
            )
            made = await run_in_thread(work)
        added["Authorization"] = made
        return added

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Correct the clock by the cloud's, or fetch new keys; tell whether the call is worth another try.

        Args:
            request: As it was signed and refused.
            response: The refusal.
        """
        if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
            return False
        if self._time.correct(request, response):
            return True
        if response.status != _UNAUTHORIZED or self._provider is None:
            return False
        refused = self._keys
        if refused is None or not refused.signed(request):
            # Another call that was refused has brought new keys meanwhile.
            return refused is not None
        return await self._replace(refused)

    async def _replace(self, refused: Keys) -> bool:
        """Have the provider give other keys than the refused ones, unless that was in vain a moment ago."""
        now = anyio.current_time()
        if self._guard.is_on(now):
            return False
        if is_young(self._taken_at, now):
            # The provider gives keys, and the cloud does not take them: others would be refused like these.
            self._guard.trip(None, now)
            return False
        try:
            changed = await self._fetch(refused) != refused
        except BmsError as error:
            # The refusal is what the caller must hear of.
            _log.warning("new keys could not be fetched: %s", error)
            changed = False
        if not changed and not self._guard.is_on(now):
            self._guard.trip(None, now)
        return changed

    def redact(self, text: str) -> str:
        """Return the text without the secret key and the security token."""
        return mask(text, *self._redacted_values)

    def _headers_to_add(self, url: str, second: int, keys: Keys) -> dict[str, str]:
        """Return the headers that a request gets beside its signature."""
        start = url.find("/", _MIN_LENGTH)
        added = {"Host": _authority(url if start < 0 else url[:start]), DATE_HEADER: _dated(second)}
        end = url.find("?", max(start, 0))
        found = None if start < 0 else _search_project(url, start, len(url) if end < 0 else end)
        project_id = self._project_id or (found[1] if found else None)
        if project_id is not None:
            added["X-Project-Id"] = project_id
        if keys.security_token is not None:
            added["X-Security-Token"] = keys.security_token
        if found is not None:
            self._header_cache = _HeaderCache(url[: found.end()], second, keys, added.copy())
        return added

    async def _fetch(self, refused: Keys | None) -> Keys:
        """Return keys other than the refused ones, if the provider has such; all who come meanwhile share one fetch."""
        before = self._fetched
        async with self._fetching:
            if self._keys is not None and self._keys is not refused:
                return self._keys
            # A fetch that ended while this one waited is as good, unless it was cancelled with its caller.
            if self._fetched == before:
                self._failure = None
                begun = anyio.current_time()
                try:
                    keys = await self._ask_provider()
                except Exception as error:  # noqa: BLE001 - the application's function, which may raise anything
                    self._failure = error
                else:
                    # The same keys again stay the same object, and so are seen not to have changed.
                    if keys != self._keys:
                        self._use_keys(keys)
                        # The first ones a provider may have had for long.
                        self._taken_at = -math.inf if refused is None else anyio.current_time()
                self._fetched += 1
                self._observers.notify(anyio.current_time() - begun, error=self._failure)
            if self._failure is not None:
                raise _failed(self._failure) from self._failure
            assert self._keys is not None  # noqa: S101 - a fetch brings keys or a failure
            return self._keys

    async def _ask_provider(self) -> Keys:
        assert self._provider is not None  # noqa: S101 - without one there are keys from the beginning
        given: object = wrap_secrets(await call_foreign("the provider of keys", self._provider))
        if not isinstance(given, tuple) or len(given) != 3:  # noqa: PLR2004 - a key, its secret, its token
            raise ConfigurationError(
                "AkSkAuth: the provider must return (access key, secret key, security token or None)"
            )
        return read_keys(*given)

    def _use_keys(self, keys: Keys) -> None:
        # Answers to what the former keys have signed may still be on their way.
        former = self._keys.secrets if self._keys is not None else ()
        self._keys = keys
        self._redacted_values = (*keys.secrets, *former)


class _HeaderCache:
    """What requests of one second to one project of one service have in common: nearly all of them are such.

    Args:
        head: How their URLs begin, the project included.
        second: When they are signed.
        keys: What signs them.
        added: Their headers; a security token may be among them.
    """

    __slots__ = ("added", "head", "keys", "second")

    def __init__(self, head: str, second: int, keys: Keys, added: dict[str, str]) -> None:
        self.head = head
        self.second = second
        self.keys = keys
        self.added = added


def _failed(error: Exception) -> BmsError:
    """Return what to raise, made anew for each call: it notes on its own error what it tried before."""
    if isinstance(error, ConfigurationError):
        return ConfigurationError(str(error))
    # What the error says is the application's, and may hold what nobody should read in a log.
    return TransportError(f"the provider of keys failed with {type(error).__name__}", maybe_delivered=False)


@functools.lru_cache(maxsize=64)
def _to_sign(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of a request's headers that are signed: the rest, proxies may change on the way, or have to."""
    return tuple(name for name in names if name.lower() not in _NEVER_SIGNED)


@functools.lru_cache(maxsize=32)
def _authority(url: str) -> str:
    """Return what ``Host`` says: as HTTP libraries write it, without the scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


@functools.lru_cache(maxsize=8)
def _dated(unix: int) -> str:
    return format_date(datetime.fromtimestamp(unix, UTC))
