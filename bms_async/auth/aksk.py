"""An access key, which signs every request."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote, urlsplit

import anyio

from bms_async.errors import BmsError, ConfigurationError, InvalidRequestError, TransportError
from bms_async.wire import HttpRequest, HttpResponse
from bms_async.wire.checks import fits_header
from bms_async.wire.signing import DATE_HEADER, SigningKey, format_date, sign

from .secret import MASK, Secret

KeyProvider: TypeAlias = Callable[[], Awaitable[tuple[str, str | Secret, str | Secret | None]]]
"""Fetches an access key, its secret key and, with temporary keys, their security token."""

MOST_BYTES = 12 * 1024 * 1024
"""How long a signed body may be (API reference 3.2)."""

TOLERANCE = 60.0
"""Seconds that our clock and the cloud's may differ; a gateway bears 15 minutes, an answer is seconds on its way."""

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
_PROJECT = re.compile(r"/v(?:1|2\.1)/([^/?#]+)/")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SENT_DATE = "%Y%m%dT%H%M%SZ"
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
            the keys that it gave; however many calls need it, it runs once.
        clock: Returns the time, aware.

    Raises:
        ConfigurationError: Keys are missing or cannot be sent, or there are keys and a provider.
    """

    __slots__ = ("_clock", "_failure", "_fetched", "_fetching", "_keys", "_offset", "_project_id", "_provider", "_veil")

    def __init__(
        self,
        access_key: str | None = None,
        secret_key: str | Secret | None = None,
        security_token: str | Secret | None = None,
        *,
        project_id: str | None = None,
        provider: KeyProvider | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys: _Keys | None = None
        self._veil: tuple[str, ...] = ()
        if provider is None:
            self._take(_read_keys(access_key, secret_key, security_token))
        elif access_key is not None or secret_key is not None or security_token is not None:
            raise ConfigurationError("AkSkAuth: give keys or a provider of keys, not both")
        elif not callable(provider):
            raise ConfigurationError("AkSkAuth: provider must be an async function without arguments")
        self._project_id = None if project_id is None else _check("project_id", project_id)
        if clock().tzinfo is None:
            raise ConfigurationError("AkSkAuth: clock must return an aware datetime, as datetime.now(UTC) does")
        self._provider = provider
        self._clock = clock
        self._offset = timedelta()
        self._fetching = anyio.Lock()
        self._fetched = 0
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        keys = "no keys yet" if self._keys is None else self._keys.access_key
        return f"AkSkAuth({keys}, {MASK})"

    def __reduce__(self) -> str:
        raise TypeError("an AkSkAuth is not pickled: its secret key would be readable in the pickle")

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the signature and the headers that it needs.

        Raises:
            InvalidRequestError: The body is longer than a signed one may be.
            TransportError: The provider could not give keys.
            ConfigurationError: The provider gave what are no keys.
        """
        body = request.body
        if len(body) > MOST_BYTES:
            raise InvalidRequestError(
                "body",
                f"{len(body)} bytes",
                "a signed request has at most 12 MB; split it, or use a token, which has no such limit",
            )
        keys = self._keys or await self._fetch(None)
        url = request.url
        added = {"Host": _host(url), DATE_HEADER: _dated(int(self._now().timestamp()))}
        project_id = self._project_id
        if project_id is None:
            found = _PROJECT.search(url.partition("?")[0])
            project_id = found[1] if found else None
        if project_id is not None:
            added["X-Project-Id"] = project_id
        if keys.security_token is not None:
            added["X-Security-Token"] = keys.security_token
        signed = added.copy()
        for name, value in request.headers.items():
            # Proxies may change these on the way, or have to.
            if name.lower() not in _NEVER_SIGNED:
                signed[name] = value
        added["Authorization"] = sign(request.method, url, signed, body, access_key=keys.access_key, key=keys.signing)
        return added

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Correct the clock by the cloud's, or fetch new keys; tell whether the call is worth another try.

        Args:
            request: As it was signed and refused.
            response: The refusal.
        """
        if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
            return False
        if self._correct_clock(request, response):
            return True
        if response.status != _UNAUTHORIZED or self._provider is None:
            return False
        refused = self._keys
        if refused is None or not refused.signed(request):
            # Another call that was refused has brought new keys meanwhile.
            return refused is not None
        try:
            return await self._fetch(refused) != refused
        except BmsError as error:
            # The refusal is what the caller must hear of.
            _log.warning("new keys could not be fetched: %s", error)
            return False

    def redact(self, text: str) -> str:
        """Return the text without the secret key and the security token."""
        for secret in self._veil:
            text = text.replace(secret, MASK)
        return text

    def _now(self) -> datetime:
        return self._clock() + self._offset

    def _correct_clock(self, request: HttpRequest, response: HttpResponse) -> bool:
        theirs = _read_date(response.header("Date"))
        if theirs is None:
            return False
        ahead = (theirs - self._now()).total_seconds()
        if abs(ahead) > TOLERANCE:
            self._offset += timedelta(seconds=round(ahead))
            _log.warning(
                "%s was refused: this machine's clock is %.0f s %s the cloud's; requests are dated by the cloud's now",
                request.operation,
                abs(ahead),
                "behind" if ahead > 0 else "ahead of",
            )
            return True
        # The clock is right, but this request may have been signed before another call corrected it.
        dated = _read_sent_date(request.headers.get(DATE_HEADER))
        return dated is not None and abs((theirs - dated).total_seconds()) > TOLERANCE

    async def _fetch(self, refused: _Keys | None) -> _Keys:
        """Return keys other than the refused ones, if the provider has such; all who come meanwhile share one fetch."""
        before = self._fetched
        async with self._fetching:
            if self._keys is not None and self._keys is not refused:
                return self._keys
            # A fetch that ended while this one waited is as good, unless it was cancelled with its caller.
            if self._fetched == before:
                self._failure = None
                try:
                    keys = await self._ask_provider()
                except Exception as error:  # noqa: BLE001 - the application's function, which may raise anything
                    self._failure = error
                else:
                    # The same keys again stay the same object, and so are seen not to have changed.
                    if keys != self._keys:
                        self._take(keys)
                self._fetched += 1
            if self._failure is not None:
                raise _failed(self._failure) from self._failure
            assert self._keys is not None  # noqa: S101 - a fetch brings keys or a failure
            return self._keys

    async def _ask_provider(self) -> _Keys:
        assert self._provider is not None  # noqa: S101 - without one there are keys from the beginning
        given: object = await self._provider()
        if not isinstance(given, tuple) or len(given) != 3:  # noqa: PLR2004 - a key, its secret, its token
            raise ConfigurationError(
                "AkSkAuth: the provider must return (access key, secret key, security token or None)"
            )
        return _read_keys(*given)

    def _take(self, keys: _Keys) -> None:
        # Answers to what the former keys have signed may still be on their way.
        former = self._keys.secrets if self._keys is not None else ()
        self._keys = keys
        veiled = {spelled for secret in (*keys.secrets, *former) for spelled in _spellings(secret)}
        # The longest first: one may be a part of another.
        self._veil = tuple(sorted(veiled, key=len, reverse=True))


class _Keys:
    """Keys that belong together."""

    __slots__ = ("access_key", "secrets", "security_token", "signing")

    def __init__(self, access_key: str, secret_key: str, security_token: str | None) -> None:
        self.access_key = access_key
        self.security_token = security_token
        self.signing = SigningKey(secret_key)
        self.secrets = (secret_key,) if security_token is None else (secret_key, security_token)

    def __repr__(self) -> str:
        return f"_Keys({self.access_key}, {MASK})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled: they would be readable in the pickle")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Keys):
            return NotImplemented
        return (self.access_key, self.secrets) == (other.access_key, other.secrets)

    __hash__ = None  # type: ignore[assignment]

    def signed(self, request: HttpRequest) -> bool:
        """Whether these keys, and no others, have signed a request."""
        return f" Access={self.access_key}," in request.headers.get("Authorization", "") and (
            request.headers.get("X-Security-Token") == self.security_token
        )


def _failed(error: Exception) -> BmsError:
    """Return what to raise, made anew for each call: it notes on its own error what it tried before."""
    if isinstance(error, ConfigurationError):
        return ConfigurationError(str(error))
    # What the error says is the application's, and may hold what nobody should read in a log.
    return TransportError(f"the provider of keys failed with {type(error).__name__}", maybe_delivered=False)


def _read_keys(access_key: object, secret_key: object, security_token: object) -> _Keys:
    # An empty token is what an unset variable gives: permanent keys have none.
    bare = security_token.reveal() if isinstance(security_token, Secret) else security_token
    token = None if bare is None or bare == "" else _check("security_token", bare)
    name = _check("access_key", access_key)
    if "," in name:
        raise ConfigurationError("AkSkAuth: access_key has a comma, which ends it in the header")
    return _Keys(name, _check("secret_key", secret_key), token)


def _check(argument: str, value: object) -> str:
    """Return a text that a header can carry, without the blanks that a file or a shell adds."""
    if isinstance(value, Secret):
        value = value.reveal()
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"AkSkAuth: {argument} is empty")
    value = value.strip()
    if not fits_header(value):
        raise ConfigurationError(f"AkSkAuth: {argument} has blanks or other characters that it cannot have")
    return value


def _spellings(secret: str) -> set[str]:
    """Return the ways in which an answer may quote a secret: as it is, in a URL, and in JSON with its escaped slash."""
    return {secret, quote(secret, safe=""), secret.replace("/", "\\/")}


def _host(url: str) -> str:
    end = url.find("/", len("http://h"))
    return _authority(url if end < 0 else url[:end])


@lru_cache(maxsize=32)
def _authority(url: str) -> str:
    """Return what ``Host`` says: as HTTP libraries write it, without the scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


@lru_cache(maxsize=8)
def _dated(unix: int) -> str:
    return format_date(datetime.fromtimestamp(unix, UTC))


def _read_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_sent_date(value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.strptime(value, _SENT_DATE).replace(tzinfo=UTC)
    except ValueError:
        return None
