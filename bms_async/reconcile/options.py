"""The options of a reconciler."""

from __future__ import annotations

import math

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.validation.common import is_number

from .backoff import Backoff

_MAX_NAME = 80


class ReconcilerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a reconciler; `ClientView.reconciler` describes them.

    Raises:
        InvalidRequestError: One of them is invalid.
    """

    resync: float
    backoff: Backoff
    wave_size: int
    rollout: Rollout | None
    name: str
    check: bool

    def __post_init__(self) -> None:
        if not (is_number(self.resync) and 0 < self.resync < math.inf):
            raise InvalidRequestError("resync", self.resync, "expected a number of seconds above 0")
        if not isinstance(self.backoff, Backoff):
            raise InvalidRequestError("backoff", self.backoff, "expected a Backoff, such as Backoff(60, cap=3600)")
        if type(self.wave_size) is not int or self.wave_size < 1:
            raise InvalidRequestError("wave_size", self.wave_size, "expected 1 or more servers")
        if self.rollout is not None and not isinstance(self.rollout, Rollout):
            raise InvalidRequestError("rollout", self.rollout, "expected a Rollout, or None")
        if not isinstance(self.name, str) or not self.name.isprintable() or not 0 < len(self.name) <= _MAX_NAME:
            raise InvalidRequestError("name", self.name, f"expected a printable text of 1 to {_MAX_NAME} characters")
