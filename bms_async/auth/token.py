"""A token that was issued elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from bms_async.errors import ConfigurationError
from bms_async.redaction import Secret, SecretStr, mask, wrap_secrets
from bms_async.validation.common import is_header_safe
from bms_async.wire import HttpRequest

_MIN_SECRET_LENGTH = 8


class StaticToken:
    """Authenticates with a token that was issued elsewhere (API reference 3.2).

    The cloud's tokens are valid for 24 hours; this one is not renewed.

    Args:
        token: The token, as received in ``X-Subject-Token``; a text or a `Secret`.

    Raises:
        ConfigurationError: The token is empty, or invalid in a header.
    """

    __slots__ = ("_headers", "_token")

    def __init__(self, token: str | Secret) -> None:
        token = wrap_secrets(token)
        token = SecretStr(token.strip() if isinstance(token, str) else "")
        if not token:
            raise ConfigurationError("StaticToken: token: expected a text that is not empty")
        if not is_header_safe(token):
            raise ConfigurationError("StaticToken: token: expected printable ASCII characters without blanks")
        self._token = token
        self._headers = {"X-Auth-Token": token}

    def __repr__(self) -> str:
        return "StaticToken(***)"

    def __reduce__(self) -> str:
        raise TypeError("a StaticToken is not pickled: its token would be readable in the pickle")

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the token's header."""
        del request
        return self._headers

    def redact(self, text: str) -> str:
        """Return the text with the token masked.

        A token of less than eight characters is kept: no cloud issues one, and masking it would garble responses.
        """
        return mask(text, self._token) if len(self._token) >= _MIN_SECRET_LENGTH else text
