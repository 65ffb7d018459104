"""Exchanging a password for a token: the request, its retries, the response, and the token cache."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from bms_async.errors import CallError, DecodeError
from bms_async.redaction import Secret, SecretStr, mask
from bms_async.validation.common import is_header_safe
from bms_async.wire import HttpRequest, HttpResponse, RetryPolicy, read_error, retry_delay
from bms_async.wire.request import check_body, encode_body

from ._keystone import (
    HINT,
    OPERATION,
    IssuedToken,
    TokenResponse,
    is_retryable,
    read_lifetime,
    refused_error,
    renewal_margin,
    unavailable_error,
)
from ._token_renewal import ATTEMPTS, Token
from .base import Send

if TYPE_CHECKING:
    from .cache import TokenCache

_log = logging.getLogger("bms_async.auth")

_RETRY = RetryPolicy(attempts=ATTEMPTS, initial_delay=0.5, max_delay=30.0)
_TIMEOUT = 30.0
_SUCCESS = range(200, 300)
_TOKENS_REMEMBERED = 32


class TokenClient:
    """Requests tokens for one user and one project.

    Args:
        auth_url: The address of the identity service, without its version.
        user: The user as Keystone expects it in a request, without the password.
        password: The password.
        project: The project as Keystone expects it in a request.
        margin: Seconds before its end at which a token is renewed.
        cache: The file that keeps tokens, if any.
        random: Draws the delays between attempts.
    """

    __slots__ = ("_cache", "_issued", "_margin", "_password", "_random", "auth_url", "project", "user")

    def __init__(
        self,
        *,
        auth_url: str,
        user: Mapping[str, Any],
        password: Secret,
        project: Mapping[str, Any],
        margin: float,
        cache: TokenCache | None,
        random: Random,
    ) -> None:
        self.auth_url = auth_url
        self.user = user
        self.project = project
        self._password = password
        self._margin = margin
        self._cache = cache
        self._random = random
        self._issued: deque[SecretStr] = deque(maxlen=_TOKENS_REMEMBERED)

    def redact(self, text: str) -> str:
        """Return the text with the password masked, also as JSON or a URL encode it, and the tokens."""
        return mask(text, self._password.text, *self._issued)

    async def fetch(self, send: Send, refused: SecretStr | None, attempts: int) -> Token:
        """Return a token: from the cache if it has a valid one other than the refused one, else from Keystone.

        Raises:
            AuthenticationError: The request was refused.
            TransportError: No attempt got a usable response.
        """
        if self._cache is None:
            return (await self._request(send, attempts))[0]
        async with self._cache.lock() as is_locked:
            if is_locked and (token := await self._load(self._cache, refused)):
                return token
            token, issued = await self._request(send, attempts)
            if is_locked:
                await self._store(self._cache, token, issued)
            return token

    def build_request(self) -> HttpRequest:
        """Return the request for a token; its body has the password."""
        identity = {
            "methods": ["password"],
            "password": {"user": {**self.user, "password": self._password.text}},
        }
        return HttpRequest(
            operation=OPERATION,
            method="POST",
            url=f"{self.auth_url}/v3/auth/tokens",
            headers={"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "bms-async"},
            body=check_body(encode_body({"auth": {"identity": identity, "scope": {"project": self.project}}})),
            timeout=_TIMEOUT,
        )

    @property
    def _hint(self) -> str:
        password = self._password.text
        return HINT + "; the password begins or ends with a blank" * (password != password.strip())

    async def _load(self, cache: TokenCache, refused: SecretStr | None) -> Token | None:
        cached = await cache.load()
        if cached is None or cached.token == refused or not is_header_safe(cached.token):
            return None
        remaining = cached.remaining(cache.now())
        if remaining <= renewal_margin(cached.lifetime, self._margin):
            return None
        token, now = SecretStr(cached.token), anyio.current_time()
        self._issued.append(token)
        return Token(
            token,
            issued_at=now - (cached.lifetime - remaining),
            deadline=now + remaining,
            lifetime=cached.lifetime,
            margin=self._margin,
            project_id=cached.project_id,
        )

    async def _store(self, cache: TokenCache, token: Token, issued: IssuedToken) -> None:
        from .cache import CachedToken  # noqa: PLC0415

        expires_at = issued.expires_at if isinstance(issued.expires_at, str) else None
        left = token.deadline - anyio.current_time()
        kept = CachedToken.issued(
            token.value, left, expires_at=expires_at, project_id=token.project_id, now=cache.now()
        )
        await cache.store(kept)

    async def _request(self, send: Send, attempts: int) -> tuple[Token, IssuedToken]:
        """Request a token, up to `attempts` times while a retry may succeed.

        Raises:
            AuthenticationError: The request was refused.
            TransportError: No attempt got a usable response.
        """
        attempt = 0
        while True:
            attempt += 1
            requested_at = anyio.current_time()
            try:
                return self._read(await send(self.build_request()), requested_at)
            except CallError as error:
                if not is_retryable(error):
                    refusal = refused_error(error, self._hint)
                    _log.warning(
                        "%s was refused (%d); %s", OPERATION, refusal.status, self._hint, extra={"is_raised": True}
                    )
                    raise refusal from None
                if attempt >= attempts:
                    raise unavailable_error(error, attempt) from error
                _log.info("%s attempt %d failed: %s", OPERATION, attempt, type(error).__name__)
                retry_after = getattr(error, "retry_after", None)
            await anyio.sleep(
                retry_delay(_RETRY, attempt=attempt, retry_after=retry_after, jitter=self._random.random())
            )

    def _read(self, response: HttpResponse, requested_at: float) -> tuple[Token, IssuedToken]:
        value = SecretStr((response.header("X-Subject-Token") or "").strip())
        if value:
            # Whatever the status is, a token that was received must be masked from now on.
            self._issued.append(value)
        if response.status not in _SUCCESS:
            raise read_error(OPERATION, response, redact=self.redact)
        if not is_header_safe(value):
            raise DecodeError(
                "the response has no valid token in X-Subject-Token", status=response.status, operation=OPERATION
            )
        try:
            issued = msgspec.json.decode(response.body, type=TokenResponse).token
        except (msgspec.DecodeError, ValueError, RecursionError):
            text = f"the response has {len(response.body)} bytes that do not describe a token"
            raise DecodeError(text, status=response.status, operation=OPERATION) from None
        lifetime = read_lifetime(issued, response)
        _log.info("%s: got a token for %.0f s", OPERATION, lifetime)
        token = Token(
            value,
            issued_at=anyio.current_time(),
            # Counted from before the request: the token may have been issued at any time since.
            deadline=requested_at + lifetime,
            lifetime=lifetime,
            margin=self._margin,
            project_id=issued.project_id,
        )
        return token, issued
