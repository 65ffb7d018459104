"""A token that somebody else keeps fresh."""

from __future__ import annotations

from collections.abc import Mapping

from bms_async.errors import ConfigurationError
from bms_async.wire import HttpRequest
from bms_async.wire.checks import fits_header


class StaticToken:
    """Authenticates with a token that was got elsewhere (API reference 3.2).

    The cloud's tokens are valid for 24 hours; this one is not renewed.

    Args:
        token: The token, as ``X-Subject-Token`` brought it.

    Raises:
        ConfigurationError: The token is empty, or cannot be sent in a header.
    """

    __slots__ = ("_headers", "_token")

    def __init__(self, token: str) -> None:
        if not isinstance(token, str) or not token.strip():
            raise ConfigurationError("StaticToken: the token is empty")
        token = token.strip()
        if not fits_header(token):
            raise ConfigurationError("StaticToken: the token has characters that no header can carry")
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
        """Return the text without the token."""
        return text.replace(self._token, "***")
