"""A documented call, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Safety(StrEnum):
    """Whether a call may be sent again when the result of the first attempt is unknown."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"


class Service(StrEnum):
    """The service whose endpoint a call goes to (API reference, chapter 2)."""

    BMS = "bms"
    COMPUTE = "compute"
    IDENTITY = "identity"


class Operation(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One documented call.

    Attributes:
        name: The dotted name of the method that makes the call, or would if there were one; limits are keyed by it.
        path: The path, with ``{project_id}`` and its other parameters in braces.
        title: What the call does, in a few words.
        result: The type that a 2xx response is decoded into; NoneType if its body is ignored, bytes for the raw body.
        chapter: The chapter of the reference.
        limit: Calls a minute, None where none is documented (API reference table 2-2).
        permission: The IAM action that the call requires (API reference, chapter 7).
        success: The documented success statuses; any 2xx counts as success.
        headers: Headers that this call requires beyond the common ones, such as a microversion.
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
