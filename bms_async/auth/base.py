"""What the session asks of credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from bms_async.wire import HttpRequest


@runtime_checkable
class Auth(Protocol):
    """Puts credentials on requests."""

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the headers that make this request ours. It is asked right before the request is sent."""
        ...

    def redact(self, text: str) -> str:
        """Return a text of the cloud's without any secret of ours that it may echo."""
        ...
