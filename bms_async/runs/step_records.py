"""What the steps of somebody else's workflow hand to each other: plain JSON with a version, and no credential in it.

Ids, details and outcomes are packed, 16 bytes a server and a little more, since an engine keeps each argument and each
result in its own history and bounds their size.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.packed import unpack_outcomes
from bms_async.journal import Counts, pack_ids, unpack_ids
from bms_async.limits import Lane
from bms_async.models.ids import canonical_id

_VERSION = 1
_ACTIONS = ("start", "stop", "reboot")


class SentState(StrEnum):
    """What is known of a batch once it was sent."""

    ACCEPTED = "accepted"
    """The cloud has accepted it, and its job is known."""
    REFUSED = "refused"
    """The cloud did nothing: it refused the batch, or never got it."""
    UNKNOWN = "unknown"
    """It may have reached the cloud, and the response is lost: only the servers' states prove anything."""


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Plain(msgspec.Struct, frozen=True, kw_only=True):
    version: int = _VERSION

    def to_json(self) -> str:
        """Return it as JSON, from which `from_json` makes it again, in this process or another."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what `to_json` wrote.

        Args:
            text: The JSON.

        Raises:
            InvalidRequestError: It is something else, or of another version.
        """
        try:
            # The version first, because the JSON of another version may have another shape.
            version = msgspec.json.decode(text, type=_Version).version
            if version != _VERSION:
                raise InvalidRequestError("text", version, f"expected version {_VERSION}; update bms_async here")
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeError, TypeError, RecursionError) as error:
            raise InvalidRequestError(
                "text", "...", f"expected what {cls.__name__}.to_json() returned: {error}"
            ) from error


class NextBatch(_Plain, frozen=True, kw_only=True):
    """Servers of a batch that are to be sent again: hand it to `bms.runs.send_batch` in the place of ids.

    Attributes:
        version: The version of its JSON.
        action: Such as ``servers.reboot``.
        packed: The servers; `ids` unpacks them.
        servers: How many these are.
        delay: Seconds to wait before it is sent.
        grid: What is due within the same stretch of so many seconds may share a call; 0 for a part of a refused batch,
            which goes by itself.
        details: What earlier attempts of these servers ended in.
        parts: Into how many parts the refused batch that it comes from was split so far.
    """

    action: str
    packed: bytes
    servers: int
    delay: float = 0.0
    grid: float = 0.0
    details: bytes = b""
    parts: int = 0

    @property
    def ids(self) -> list[str]:
        """Its servers."""
        return unpack_ids(self.packed)


class BatchResult(_Plain, frozen=True, kw_only=True):
    """How a batch ended: an outcome for each of its servers that is not in `again`.

    Attributes:
        version: The version of its JSON.
        action: Such as ``servers.reboot``.
        key: The key that it was sent under.
        counts: How many outcomes there are of each state.
        packed: The outcomes, in blocks; `outcomes` unpacks them.
        again: What is to be sent again: servers that were busy, and the parts of a refused batch. With a journal it is
            empty, since the journal's worker has sent them again.
        extra_calls: How many calls were made only to find out what no job says.
    """

    action: str
    key: str
    counts: Counts
    packed: tuple[bytes, ...] = ()
    again: tuple[NextBatch, ...] = ()
    extra_calls: int = 0

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes, in the order in which they became known."""
        return [outcome for block in self.packed for outcome in unpack_outcomes(block)]


class SentBatch(_Plain, frozen=True, kw_only=True):
    """A batch that was sent, for `bms.runs.watch_job` or `bms.runs.settle_batch`.

    Attributes:
        version: The version of its JSON.
        action: Such as ``servers.reboot``.
        key: The key that it was sent under.
        state: What is known of it.
        packed: The servers; `ids` unpacks them.
        servers: How many these are.
        job: Its job, where the cloud has accepted it.
        details: What is known of earlier attempts.
        parts: Into how many parts the refused batch that it comes from was split so far.
        invalid: The outcomes of ids that are invalid; empty for none.
        retry_transient: Whether busy servers are sent again.
        verify: Whether states are read back before outcomes are known.
        lane: The priority of its calls in the rate limiter's queue.
        result: How it ended, where that is known already and nothing is left to be watched.
        run: Its run in the journal, where there is one.
    """

    action: str
    key: str
    state: SentState
    packed: bytes
    servers: int
    job: str | None = None
    details: bytes = b""
    parts: int = 0
    invalid: bytes = b""
    retry_transient: bool = True
    verify: bool = False
    lane: Lane = Lane.BULK
    result: BatchResult | None = None
    run: str | None = None

    @property
    def ids(self) -> list[str]:
        """Its servers."""
        return unpack_ids(self.packed)

    @classmethod
    def lost(
        cls,
        action: str,
        ids: Iterable[str] | NextBatch,
        *,
        key: str,
        retry_transient: bool = True,
        verify: bool = False,
    ) -> Self:
        """Return a batch as an engine knows it whose step `send_batch` ended without an answer.

        It may have been sent. `bms.runs.settle_batch` finds out what became of it, and never sends a reboot again. This
        calls nothing and reads no clock, so that code which has to be deterministic may call it.

        Args:
            action: ``start``, ``stop`` or ``reboot``.
            ids: What was to be sent.
            key: The key that it was to be sent under.
            retry_transient: Whether busy servers are sent again.
            verify: Whether states are read back before outcomes are known.

        Raises:
            InvalidRequestError: The action is none of these.
        """
        name = check_action(action)
        batch = ids if isinstance(ids, NextBatch) else _pack(name, ids)
        return cls(
            action=name,
            key=key,
            state=SentState.UNKNOWN,
            packed=batch.packed,
            servers=batch.servers,
            details=batch.details,
            parts=batch.parts,
            retry_transient=retry_transient,
            verify=verify,
        )


def check_action(action: object) -> str:
    """Return the full name of an action, such as ``servers.reboot``.

    Raises:
        InvalidRequestError: It is none.
    """
    name = action if isinstance(action, str) else ""
    if name.removeprefix("servers.") not in _ACTIONS:
        raise InvalidRequestError("action", action, "expected 'start', 'stop' or 'reboot'")
    return f"servers.{name.removeprefix('servers.')}"


def _pack(action: str, ids: Iterable[str]) -> NextBatch:
    known = list(dict.fromkeys(map(canonical_id, ids)))
    return NextBatch(action=action, packed=pack_ids(known), servers=len(known))
