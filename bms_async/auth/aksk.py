"""An access key, which signs every request (rule R8).

The secret key signs and is never sent. A request is signed right before it is sent: a signature is valid for 15
minutes by the cloud's clock, and a request may wait for longer than that in the rate limiter. So a retry is signed
again, and the clock is corrected by the first refusal that shows it to be wrong.

With a provider, keys are fetched once however many requests need them, and again when a request that the keys in use
have signed is refused with 401. The first caller fetches for all that wait; if it is cancelled, the next waiter does.
Keys that are refused within `YOUNG` seconds, or that the provider returns again, trip the lockout guard: until its
pause is over, a 401 is returned to the caller. The former keys stay masked, for responses to their requests may still
arrive.

Rejected: signing when a call is made, because its signature would expire in the queue; and fetching keys at intervals,
because the SDK does not know when they expire, and a 401 says so.
"""

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
from bms_async.wire.signing import DATE_HEADER, SignedHeaders, arrange_headers, format_date, sign_arranged

from ._clock import CloudClock
from ._keys import Keys, check_text, read_keys
from ._lockout_guard import LockoutGuard, is_young
from ._observers import Observers
from .base import Notify

KeyProvider: TypeAlias = Callable[[], Awaitable[tuple[str, str | Secret, str | Secret | None]]]
"""Fetches an access key, its secret key and, with temporary keys, their security token."""

MAX_SIGNED_BYTES = 12 * 1024 * 1024
"""The size limit of a signed body (API reference 3.2)."""

MAX_INLINE_BYTES = 1024 * 1024
"""The largest body that is hashed in the event loop; a larger one is hashed in a thread, while other calls go on."""

_log = logging.getLogger("bms_async.auth")

_MAX_ARRANGED = 16
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

    A request is signed right before it is sent: a signature is valid for 15 minutes, and a request may wait for longer.
    If this machine's clock is wrong, the cloud's first refusal shows it, and later requests are dated by the cloud's.

    Args:
        access_key: The access key (AK).
        secret_key: The secret key (SK). It signs, and is never sent.
        security_token: The security token of temporary keys.
        project_id: The value of ``X-Project-Id``. By default the project in the request's path, as in
            ``/v1/{project_id}/...`` and ``/v2.1/{project_id}/...``; without one there the header is left out.
        provider: In place of keys, for keys that change: an async function that returns the access key, the secret key
            and the security token or None. It is called before the first request, and again when the cloud refuses its
            keys, once for all calls that wait. If the new keys are refused within a minute, or are the refused ones
            again, it is not called for 30 seconds, then for 3 minutes, then for 15 minutes each time.
        clock: Returns the time, timezone-aware; by default this machine's.

    Raises:
        ConfigurationError: Keys are missing or invalid in a header, or both keys and a provider are given.
    """

    __slots__ = (
        "_clock",
        "_fetch_count",
        "_fetch_error",
        "_fetch_lock",
        "_guard",
        "_header_cache",
        "_keys",
        "_observers",
        "_project_id",
        "_provider",
        "_redacted_values",
        "_replaced_at",
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
        # A provider that is a text is probably a key.
        provider = wrap_secrets(provider)
        self._keys: Keys | None = None
        self._header_cache: _HeaderCache | None = None
        self._redacted_values: tuple[SecretStr, ...] = ()
        if provider is None:
            self._use_keys(read_keys(access_key, secret_key, security_token))
        elif access_key is not None or secret_key is not None or security_token is not None:
            raise ConfigurationError("AkSkAuth: expected keys or a provider of keys, got both")
        elif not callable(provider):
            raise ConfigurationError("AkSkAuth: provider: expected an async function without arguments")
        self._project_id = None if project_id is None else str(check_text("project_id", project_id))
        self._provider = provider
        self._clock = CloudClock(clock)
        self._observers = Observers("AkSkAuth")
        self._fetch_lock = anyio.Lock()
        self._fetch_count = 0
        self._fetch_error: Exception | None = None
        self._replaced_at = -math.inf
        self._guard = LockoutGuard()

    def __repr__(self) -> str:
        keys = "no keys yet" if self._keys is None else self._keys.access_key
        return f"AkSkAuth({keys}, {MASK})"

    def __reduce__(self) -> str:
        raise TypeError("an AkSkAuth is not pickled: its secret key would be readable in the pickle")

    @property
    def access_key(self) -> str | None:
        """The access key, which is no secret; None until a provider has given one."""
        return None if self._keys is None else str(self._keys.access_key)

    def observe(self, notify: Notify) -> None:
        """Register a client that is being opened, to be notified whenever the provider was called."""
        self._observers.add(notify)

    def unobserve(self, notify: Notify) -> None:
        """Unregister a client that is being closed."""
        self._observers.remove(notify)

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the signature and the headers that it requires.

        Raises:
            InvalidRequestError: The body is too large for a signed request.
            TransportError: The provider raised an exception.
            ConfigurationError: The provider returned invalid keys.
        """
        body = request.body
        if len(body) > MAX_SIGNED_BYTES:
            raise InvalidRequestError(
                "body",
                f"{len(body)} bytes",
                "expected at most 12 MB in a signed request; split it, or use a token, which has no such limit",
            )
        keys = self._keys or await self._fetch(None)
        url, given = request.url, request.headers
        second = self._clock.now()
        cache = self._header_cache
        if cache is None or cache.second != second or cache.keys is not keys or not url.startswith(cache.prefix):
            cache = self._find_added(url, second, keys)
        arranged = cache.arrange(given)
        if len(body) <= MAX_INLINE_BYTES:
            signature = sign_arranged(request.method, url, arranged, body, access_key=keys.access_key, key=keys.signing)
        else:
            work = functools.partial(
                sign_arranged, request.method, url, arranged, body, access_key=keys.access_key, key=keys.signing
            )
            signature = await run_in_thread(work)
        return {**cache.added, "Authorization": signature}

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Adjust the clock to the cloud's, or fetch new keys; return whether a retry may succeed.

        Args:
            request: The request as it was signed and refused.
            response: The refusal.
        """
        if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
            return False
        if self._clock.adjust_from(request, response):
            return True
        if response.status != _UNAUTHORIZED or self._provider is None:
            return False
        refused = self._keys
        if refused is None or not refused.signed(request):
            # The keys were replaced meanwhile, for another call that was refused.
            return refused is not None
        return await self._replace(refused)

    async def _replace(self, refused: Keys) -> bool:
        """Fetch other keys than the refused ones, unless the guard's pause lasts; return whether there are any."""
        now = anyio.current_time()
        if self._guard.is_tripped(now):
            return False
        if is_young(self._replaced_at, now):
            # The cloud refuses what the provider returns; further keys would be refused too.
            self._guard.trip(None, now)
            return False
        try:
            changed = await self._fetch(refused) != refused
        except BmsError as error:
            # The caller gets the cloud's refusal, not this error.
            _log.warning("new keys could not be fetched: %s", error)
            changed = False
        if not changed and not self._guard.is_tripped(now):
            self._guard.trip(None, now)
        return changed

    def redact(self, text: str) -> str:
        """Return the text with the secret key and the security token masked."""
        return mask(text, *self._redacted_values)

    def _find_added(self, url: str, second: int, keys: Keys) -> _HeaderCache:
        """Return the headers to add to a request, without its signature."""
        start = url.find("/", _MIN_LENGTH)
        added = {"Host": _authority(url if start < 0 else url[:start]), DATE_HEADER: _format_unix(second)}
        end = url.find("?", max(start, 0))
        found = None if start < 0 else _search_project(url, start, len(url) if end < 0 else end)
        project_id = self._project_id or (found[1] if found else None)
        if project_id is not None:
            added["X-Project-Id"] = project_id
        if keys.security_token is not None:
            added["X-Security-Token"] = keys.security_token
        # All of them, so that a call need not wrap them again.
        wrapped: dict[str, str] = {name: SecretStr(value) for name, value in added.items()}
        cache = _HeaderCache(url if found is None else url[: found.end()], second, keys, wrapped)
        if found is not None:
            self._header_cache = cache
        return cache

    async def _fetch(self, refused: Keys | None) -> Keys:
        """Return the provider's keys, which may be the refused ones again; callers that wait share one fetch."""
        before = self._fetch_count
        async with self._fetch_lock:
            if self._keys is not None and self._keys is not refused:
                return self._keys
            # Share a fetch that ended while this caller waited, unless it was cancelled with its own caller.
            if self._fetch_count == before:
                self._fetch_error = None
                started_at = anyio.current_time()
                try:
                    keys = await self._call_provider()
                except Exception as error:  # noqa: BLE001 - the application's function, which may raise anything
                    self._fetch_error = error
                else:
                    # Equal keys keep their object, so that callers see that they have not changed.
                    if keys != self._keys:
                        self._use_keys(keys)
                        # The first keys count as old: the provider may have had them for long.
                        self._replaced_at = -math.inf if refused is None else anyio.current_time()
                self._fetch_count += 1
                self._observers.notify(anyio.current_time() - started_at, error=self._fetch_error)
            if self._fetch_error is not None:
                raise _provider_error(self._fetch_error) from self._fetch_error
            assert self._keys is not None  # noqa: S101 - a fetch sets keys or an error
            return self._keys

    async def _call_provider(self) -> Keys:
        assert self._provider is not None  # noqa: S101 - without a provider there are keys from the beginning
        given: object = wrap_secrets(await call_foreign("the provider of keys", self._provider))
        match given:
            case tuple((access_key, secret_key, security_token)):
                return read_keys(access_key, secret_key, security_token)
        raise ConfigurationError(
            "AkSkAuth: provider: expected it to return (access key, secret key, security token or None)"
        )

    def _use_keys(self, keys: Keys) -> None:
        # Responses to requests that the former keys signed may still arrive.
        former = self._keys.secrets if self._keys is not None else ()
        self._keys = keys
        self._redacted_values = (*keys.secrets, *former)


class _HeaderCache:
    """The added headers of requests in one second to one project of one service, which most successive requests share.

    Args:
        prefix: The beginning of their URLs, up to the project.
        second: The time of their signatures, in seconds since 1970.
        keys: The keys that sign them.
        added: The headers; a security token may be among them.
    """

    __slots__ = ("_arranged", "added", "keys", "prefix", "second")

    def __init__(self, prefix: str, second: int, keys: Keys, added: dict[str, str]) -> None:
        self.prefix = prefix
        self.second = second
        self.keys = keys
        self.added = added
        self._arranged: dict[tuple[tuple[str, str], ...], SignedHeaders] = {}

    def arrange(self, given: Mapping[str, str]) -> SignedHeaders:
        """Return the headers to sign of a request, which most requests have in common.

        Args:
            given: The request's own headers.
        """
        pairs = tuple(given.items())
        arranged = self._arranged.get(pairs)
        if arranged is None:
            signed = self.added | {name: given[name] for name in given if name.lower() not in _NEVER_SIGNED}
            if len(self._arranged) >= _MAX_ARRANGED:
                self._arranged.clear()
            arranged = self._arranged[pairs] = arrange_headers(signed)
        return arranged


def _provider_error(error: Exception) -> BmsError:
    """Return the error of one call, a new object each: a call attaches its earlier attempts to it."""
    if isinstance(error, ConfigurationError):
        return ConfigurationError(str(error))
    # The text of the application's error may hold secrets.
    return TransportError(f"the provider of keys failed with {type(error).__name__}", maybe_delivered=False)


@functools.lru_cache(maxsize=32)
def _authority(url: str) -> str:
    """Return the value of ``Host`` as HTTP libraries write it: without the scheme's default port."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


@functools.lru_cache(maxsize=8)
def _format_unix(unix: int) -> str:
    return format_date(datetime.fromtimestamp(unix, UTC))
