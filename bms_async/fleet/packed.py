"""Outcomes and batches as bytes, as a journal keeps them: little, and readable by every later version.

A column whose values are all the same is written once. The error of a sub-job is written as the texts that it is made
of, any other one as plain data, and each only once however many servers have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from bms_async._plain_errors import from_plain, to_plain
from bms_async.errors import BmsError, JournalError, SubJobFailedError
from bms_async.journal import COPY_ADVICE, Counts, pack_ids, unpack_ids
from bms_async.redaction import shown_text

from .batch import Batch, EarlierAttempts
from .evidence import RefusalCause
from .outcome import Outcome, OutcomeState, make_outcome
from .stored_failure import read_failure

_LEVEL = 1
_STATES = tuple(OutcomeState)

V = TypeVar("V")
S = TypeVar("S", bound=msgspec.Struct)


class _Outcomes(msgspec.Struct, array_like=True):
    ids: bytes
    states: int | list[int]
    jobs: str | list[str | None] | None
    sub_jobs: bytes | list[str | None] | None
    errors: int | list[int | None] | None
    attempts: int | list[int]
    started: float | list[float | None] | None
    ended: float | list[float | None] | None
    error_table: list[object]


class _Earlier(msgspec.Struct, array_like=True):
    server_id: str
    deferrals: int
    attempts: int
    started: float | None
    state: str
    error: int | None
    job_id: str | None
    sub_job_id: str | None


class _Details(msgspec.Struct, array_like=True):
    started: float | None
    send_count: int
    was_in_doubt: bool
    error: int | None
    state_reads: int
    shared_cause: str | None
    earlier: list[_Earlier]
    errors: list[object]
    unsent_attempts: int = 0


class _ErrorTable:
    """Each error once, by the index that it has here."""

    def __init__(self) -> None:
        self.entries: list[object] = []
        self._places: dict[object, int] = {}
        # An error that is known by its id must not be freed meanwhile.
        self._kept: list[object] = []

    def add(self, outcome: Outcome) -> int | None:
        error = outcome.error
        if error is None:
            return None
        failure = read_failure(outcome)
        if failure is None:
            return self.add_error(error)
        texts = (_text(failure.code), _text(failure.reason), _text(failure.job_reason))
        return self._add(texts, lambda: texts)

    def add_error(self, error: BmsError | None) -> int | None:
        if error is None:
            return None
        self._kept.append(error)
        return self._add(id(error), lambda: to_plain(error))

    def _add(self, key: object, make: Callable[[], object]) -> int:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.entries)
            self.entries.append(make())
        return place


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Return outcomes as bytes."""
    errors = _ErrorTable()
    subs = [outcome.sub_job_id for outcome in outcomes]
    packed = _Outcomes(
        ids=pack_ids([outcome.server_id for outcome in outcomes]),
        states=_column([_STATES.index(outcome.state) for outcome in outcomes]),
        jobs=_column([_text(outcome.job_id) for outcome in outcomes]),
        sub_jobs=pack_ids([str(sub) for sub in subs]) if all(subs) else subs if any(subs) else None,
        errors=_column([errors.add(outcome) for outcome in outcomes]),
        attempts=_column([outcome.attempts for outcome in outcomes]),
        started=_column([_seconds(outcome.started) for outcome in outcomes]),
        ended=_column([_seconds(outcome.ended) for outcome in outcomes]),
        error_table=errors.entries,
    )
    return zlib.compress(msgspec.msgpack.encode(packed), _LEVEL)


def unpack_outcomes(data: bytes) -> list[Outcome]:
    """Return the outcomes that `pack_outcomes` packed.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    packed = _decode(data, _Outcomes, "outcomes")
    ids = unpack_ids(packed.ids)
    count = len(ids)
    subs = unpack_ids(packed.sub_jobs) if isinstance(packed.sub_jobs, bytes) else packed.sub_jobs or [None] * count
    errors = [_restore(entry) for entry in packed.error_table]
    columns = zip(
        ids,
        _spread(packed.states, count),
        _spread(packed.jobs, count),
        subs,
        _spread(packed.errors, count),
        _spread(packed.attempts, count),
        _times(packed.started, count),
        _times(packed.ended, count),
        strict=True,
    )
    return [
        make_outcome(
            server_id,
            _STATES[state],
            job_id=job,
            sub_job_id=sub,
            error=None if error is None else _error_of(errors[error], server_id, job),
            attempts=attempts,
            started=started,
            ended=ended,
        )
        for server_id, state, job, sub, error, attempts, started, ended in columns
    ]


def unpack_server_ids(data: bytes) -> list[str]:
    """Return the servers alone of what `pack_outcomes` packed."""
    return unpack_ids(_decode(data, _Outcomes, "outcomes").ids)


def count_states(outcomes: Iterable[Outcome]) -> Counts:
    """Return how many outcomes there are of each state."""
    by_state = dict.fromkeys(OutcomeState, 0)
    for outcome in outcomes:
        by_state[outcome.state] += 1
    return Counts(**{state.value.lower(): count for state, count in by_state.items()})


def pack_details(batch: Batch) -> bytes:
    """Return what is known of a batch beside its servers."""
    errors = _ErrorTable()
    details = _Details(
        started=_seconds(batch.started),
        send_count=batch.send_count,
        was_in_doubt=batch.was_in_doubt,
        error=errors.add_error(batch.error),
        state_reads=batch.state_reads,
        shared_cause=None if batch.shared_cause is None else batch.shared_cause.name,
        earlier=[
            _Earlier(
                attempts.server_id,
                attempts.deferrals,
                attempts.attempts,
                _seconds(attempts.started),
                attempts.state.value,
                errors.add_error(attempts.error),
                attempts.job_id,
                attempts.sub_job_id,
            )
            for attempts in batch.earlier.values()
        ],
        errors=errors.entries,
        unsent_attempts=batch.unsent_attempts,
    )
    return zlib.compress(msgspec.msgpack.encode(details), _LEVEL)


def unpack_batch(ids: Iterable[str], data: bytes) -> Batch:
    """Return a batch of some servers, with what `pack_details` packed.

    Args:
        ids: The servers.
        data: The details; empty for those of a new batch.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    if not data:
        return Batch(tuple(ids))
    details = _decode(data, _Details, "a batch")
    errors = [_restore(entry) for entry in details.errors]
    wanted = tuple(ids)
    kept = set(wanted)
    earlier = [
        EarlierAttempts(
            server_id=attempts.server_id,
            deferrals=attempts.deferrals,
            attempts=attempts.attempts,
            started=_time(attempts.started),
            state=OutcomeState(attempts.state),
            error=_plain_error(errors, attempts.error),
            job_id=attempts.job_id,
            sub_job_id=attempts.sub_job_id,
        )
        for attempts in details.earlier
        if attempts.server_id in kept
    ]
    batch = Batch(wanted, earlier=earlier)
    batch.started = _time(details.started)
    batch.send_count = details.send_count
    batch.was_in_doubt = details.was_in_doubt
    batch.error = _plain_error(errors, details.error)
    batch.state_reads = details.state_reads
    batch.shared_cause = None if details.shared_cause is None else RefusalCause[details.shared_cause]
    batch.unsent_attempts = details.unsent_attempts
    return batch


def _decode(data: bytes, kind: type[S], what: str) -> S:
    try:
        return msgspec.msgpack.decode(zlib.decompress(data), type=kind)
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(
            f"{what} in the journal: expected what this version writes, got {error}; update bms_async here, "
            f"{COPY_ADVICE}"
        ) from error


def _column(values: list[V]) -> V | list[V]:
    """Return the values, or one value in the place of a list if all are the same."""
    return values[0] if values and values.count(values[0]) == len(values) else values


def _spread(column: V | list[V], count: int) -> list[V]:
    return column if isinstance(column, list) else [column] * count


def _times(column: float | list[float | None] | None, count: int) -> list[datetime | None]:
    if not isinstance(column, list):
        return [_time(column)] * count
    known: dict[float | None, datetime | None] = {}
    return [known[seconds] if seconds in known else known.setdefault(seconds, _time(seconds)) for seconds in column]


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _text(text: str | None) -> str | None:
    """Return a text as it may be kept: one that echoes a secret shows it masked, as in an error."""
    return shown_text(text)


def _restore(entry: object) -> BmsError | tuple[str | None, str | None, str | None]:
    if isinstance(entry, list):
        code, reason, job_reason = msgspec.convert(entry, tuple[str | None, str | None, str | None])
        return code, reason, job_reason
    return from_plain(entry)


def _error_of(
    stored: BmsError | tuple[str | None, str | None, str | None], server_id: str, job_id: str | None
) -> BmsError:
    if isinstance(stored, BmsError):
        return stored
    code, reason, job_reason = stored
    return SubJobFailedError(server_id=server_id, job_id=job_id or "", code=code, reason=reason, job_reason=job_reason)


def _plain_error(errors: Sequence[object], place: int | None) -> BmsError | None:
    error = None if place is None else errors[place]
    return error if isinstance(error, BmsError) else None
