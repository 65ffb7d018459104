"""One documented call, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Safety(StrEnum):
    """Whether a call may be sent again when nobody knows what became of the first time."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"


class Service(StrEnum):
    """Whose endpoint a call goes to (API reference, chapter 2)."""

    BMS = "bms"
    COMPUTE = "compute"
    IDENTITY = "identity"


class Operation(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One row of the reference.

    Attributes:
        name: The dotted name of the method that makes the call, or would if there were one; limits are keyed by it.
        path: The path with ``{project_id}`` and its other parts in braces.
        title: What the reference calls it, in our words.
        result: What a good answer is read into; None where it has no body that matters, bytes for the body as it came.
        chapter: Where the reference describes it.
        limit: Calls a minute, None where none is documented (API reference table 2-2).
        permission: The IAM action that it needs (API reference, chapter 7).
        success: The statuses that are documented as good; any 2xx is taken as good.
        headers: Headers that this call needs beside those that all have, such as a microversion.
    """

    name: str
    method: str
    path: str
    result: type[T]
    safety: Safety
    chapter: str
    title: str = ""
    limit: int | None = None
    service: Service = Service.BMS
    permission: str | None = None
    success: tuple[int, ...] = (200,)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
