"""A password is exchanged for a token: the request, its tries, the answer, and the file that keeps it."""

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
    CHECK,
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
_TOKENS_REMEMBERED = 32


class TokenClient:
    """Gets tokens for one user and one project.

    Args:
        auth_url: The address of the identity service, without its version.
        user: Who asks, as Keystone wants it, without the password.
        password: The password.
        project: What the token is for, as Keystone wants it.
        margin: Seconds before its end at which a token is renewed.
        cache: Where tokens are kept, if anywhere.
        random: What draws the delays between tries.
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
        """Return the text without the password, however it is spelled in JSON or a URL, and without the tokens."""
        return mask(text, self._password.text, *self._issued)

    async def fetch(self, send: Send, refused: SecretStr | None, attempts: int) -> Token:
        """Return a token, from the file if there is a good one that is not the refused one.

        Raises:
            AuthenticationError: It was refused.
            TransportError: There was no answer that helps, each time.
        """
        if self._cache is None:
            return (await self._request(send, attempts))[0]
        async with self._cache.lock() as held:
            if held and (token := await self._load(self._cache, refused)):
                return token
            token, issued = await self._request(send, attempts)
            if held:
                await self._store(self._cache, token, issued)
            return token

    def build_request(self) -> HttpRequest:
        """Return the request for a token; the password is in its body."""
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
        return CHECK + "; the password begins or ends with a blank" * (password != password.strip())

    async def _load(self, cache: TokenCache, refused: SecretStr | None) -> Token | None:
        kept = await cache.load()
        if kept is None or kept.token == refused or not is_header_safe(kept.token):
            return None
        left = kept.remaining(cache.now())
        if left <= renewal_margin(kept.lifetime, self._margin):
            return None
        token, now = SecretStr(kept.token), anyio.current_time()
        self._issued.append(token)
        return Token(
            token,
            since=now - (kept.lifetime - left),
            deadline=now + left,
            lifetime=kept.lifetime,
            margin=self._margin,
            project_id=kept.project_id,
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
                return self._read(await send(self.build_request()), asked_at)
            except CallError as error:
                if not is_retryable(error):
                    told = refused_error(error, self._hint)
                    _log.warning("%s was refused (%d); %s", OPERATION, told.status, self._hint)
                    raise told from None
                if attempt >= attempts:
                    raise unavailable_error(error, attempt) from error
                _log.info("%s attempt %d failed: %s", OPERATION, attempt, type(error).__name__)
                asked = getattr(error, "retry_after", None)
            await anyio.sleep(retry_delay(_RETRY, attempt=attempt, retry_after=asked, jitter=self._random.random()))

    def _read(self, response: HttpResponse, asked_at: float) -> tuple[Token, IssuedToken]:
        value = SecretStr((response.header("X-Subject-Token") or "").strip())
        if value:
            # Whatever the status is: what came must not be shown from now on.
            self._issued.append(value)
        if not 200 <= response.status < 300:  # noqa: PLR2004
            raise read_error(OPERATION, response, redact=self.redact)
        if not is_header_safe(value):
            raise DecodeError(
                "answered without a token in X-Subject-Token", status=response.status, operation=OPERATION
            )
        try:
            issued = msgspec.json.decode(response.body, type=TokenResponse).token
        except (msgspec.DecodeError, ValueError, RecursionError):
            text = f"answered with {len(response.body)} bytes that tell of no token"
            raise DecodeError(text, status=response.status, operation=OPERATION) from None
        lifetime = read_lifetime(issued, response)
        _log.info("%s: a token for %.0f s", OPERATION, lifetime)
        token = Token(
            value,
            since=anyio.current_time(),
            # From before it was asked for: the cloud's clock stood still for nobody while the answer came.
            deadline=asked_at + lifetime,
            lifetime=lifetime,
            margin=self._margin,
            project_id=issued.project_id,
        )
        return token, issued
