"""HTTP requests and responses, independent of the HTTP library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from bms_async.redaction import SecretBytes, SecretStr


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready to be sent.

    Attributes:
        operation: The dotted name of the call, for errors and logs; it is not sent.
        url: Absolute, encoded.
        headers: The values that hold credentials are `SecretStr`; the repr has no headers.
        body: `SecretBytes` where it may hold a secret; the repr has no body.
        timeout: Seconds that one attempt may take once it is connected.
    """

    operation: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    timeout: float = 60.0

    def __repr__(self) -> str:
        return f"<HttpRequest {self.operation} {self.method} {self.url.partition('?')[0]}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # The one that a Struct has shows every field.
        return [("operation", self.operation), ("method", self.method), ("url", self.url.partition("?")[0])]


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A complete response.

    Attributes:
        headers: Pairs in the order received; `header` finds one by its name in any case. The values are `SecretStr`:
            one may be a new token, or an echo of what was sent.
        body: `SecretBytes`, for the same reason.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        force_setattr(self, "headers", tuple([(name, SecretStr(value)) for name, value in self.headers]))
        if not isinstance(self.body, SecretBytes):
            force_setattr(self, "body", SecretBytes(self.body))

    def header(self, *names: str) -> str | None:
        """Return the value of the first header that has one of these names, in the order of the names."""
        for name in names:
            folded = name.lower()
            for header, value in self.headers:
                if header.lower() == folded:
                    return str.__str__(value)
        return None

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("bytes", len(self.body))]
