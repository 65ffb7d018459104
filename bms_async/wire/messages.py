"""What goes over the wire, whatever library carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready to be sent.

    Attributes:
        operation: The dotted name of the call, for errors and logs; it is not sent.
        url: Absolute, encoded.
        headers: May hold credentials, and so stays out of the repr, like the body.
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
        headers: Pairs as they came; `header` finds one whatever its case.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, *names: str) -> str | None:
        """Return the first header that has one of these names, in the order of the names."""
        for name in names:
            wanted = name.lower()
            for found, value in self.headers:
                if found.lower() == wanted:
                    return value
        return None

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("bytes", len(self.body))]
