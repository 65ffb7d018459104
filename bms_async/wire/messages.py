"""What goes over the wire, whatever library carries it."""

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
        headers: Those that hold credentials are texts that do not show themselves, and the body is such bytes where
            it holds a secret. Both stay out of the repr.
        timeout: Seconds that one try may take once it is connected.
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
        # A Struct has one of its own, which shows every field to whatever prints with rich.
        return [("operation", self.operation), ("method", self.method), ("url", self.url.partition("?")[0])]


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, whole.

    Attributes:
        headers: Pairs as they came; `header` finds one whatever its case. The values are texts that do not show
            themselves: a token is among them when it is handed out, and a strange server may echo what it was sent.
        body: Bytes that do not show themselves, for the same reason.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        force_setattr(self, "headers", tuple([(name, SecretStr(value)) for name, value in self.headers]))
        if not isinstance(self.body, SecretBytes):
            force_setattr(self, "body", SecretBytes(self.body))

    def header(self, *names: str) -> str | None:
        """Return the first header that has one of these names, in the order of the names."""
        for name in names:
            wanted = name.lower()
            for found, value in self.headers:
                if found.lower() == wanted:
                    return str.__str__(value)
        return None

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("bytes", len(self.body))]
