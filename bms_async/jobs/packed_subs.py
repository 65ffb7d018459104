"""The ends of many sub-jobs as bytes, by columns: what they have in common is there once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TypeAlias

import msgspec

from bms_async.journal import pack_ids, unpack_ids
from bms_async.models import JobStatus, SubJob, SubJobEntities
from bms_async.redaction import shown_text

LEVEL = 1
"""What zlib gains beyond its fastest level is not worth the time."""

_COLUMNS = ("job_type", "_begin_time", "_end_time", "error_code", "fail_reason", "message", "code")
_GET = attrgetter(*_COLUMNS)


_Column: TypeAlias = list[str | None] | str | None
"""What all sub-jobs have in common; or else what the values begin with, and the rest of each."""


class SubsEnded(msgspec.Struct, tag="m", array_like=True, gc=False):
    """Sub-jobs that ended together: their servers and their own ids, packed, and all else by columns."""

    servers: bytes
    jobs: bytes
    columns: bytes


class _Columns(msgspec.Struct, array_like=True, gc=False):
    statuses: list[JobStatus]
    others: list[_Column]


_COLUMNS_DECODER = msgspec.msgpack.Decoder(_Columns)


def pack_subs(subs: Sequence[SubJob]) -> SubsEnded:
    """Return ends of sub-jobs by columns.

    Args:
        subs: The sub-jobs, each with a server and an id, and nothing else about its server.
    """
    columns = _Columns([sub.status for sub in subs], [_column(values) for values in zip(*map(_GET, subs), strict=True)])
    return SubsEnded(
        servers=pack_ids([sub.about.server_id or "" for sub in subs if isinstance(sub.about, SubJobEntities)]),
        jobs=pack_ids([sub.job_id or "" for sub in subs]),
        columns=zlib.compress(msgspec.msgpack.encode(columns, enc_hook=encode_odd), LEVEL),
    )


def _column(values: tuple[str | None, ...]) -> _Column:
    first = values[0]
    if values.count(first) == len(values):
        return first
    # A text that echoes a secret is of another class, and is not to be cut.
    prefix = _common_prefix(values) if set(map(type, values)) == {str} else ""
    size = len(prefix)
    return [prefix, *values] if not size else [prefix, *[text[size:] for text in values if text is not None]]


def _common_prefix(values: Iterable[str | None]) -> str:
    texts = [text for text in values if text is not None]
    first, last = min(texts), max(texts)
    return first[
        : next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    ]


def _values(column: list[str | None]) -> list[str | None]:
    prefix, *values = column
    return [f"{prefix}{value}" for value in values] if prefix else values


def unpack_subs(packed: SubsEnded, servers: Sequence[str]) -> list[SubJob]:
    """Return what `pack_subs` packed.

    Args:
        packed: What it returned.
        servers: The servers in it.
    """
    columns = _COLUMNS_DECODER.decode(zlib.decompress(packed.columns))
    count = len(columns.statuses)
    job_type, begin, end, error_code, fail_reason, message, code = [
        _values(column) if isinstance(column, list) else [column] * count for column in columns.others
    ]
    rows = zip(
        servers,
        unpack_ids(packed.jobs),
        columns.statuses,
        job_type,
        begin,
        end,
        error_code,
        fail_reason,
        message,
        code,
        strict=True,
    )
    return [
        SubJob(
            status=row[2],
            about=SubJobEntities(server_id=row[0]),
            job_id=row[1],
            job_type=row[3],
            _begin_time=row[4],
            _end_time=row[5],
            error_code=row[6],
            fail_reason=row[7],
            message=row[8],
            code=row[9],
        )
        for row in rows
    ]


def encode_odd(value: object) -> object:
    """Return a text that echoes a secret as it is shown, for an encoder."""
    if isinstance(value, str):
        return shown_text(value)
    raise NotImplementedError(f"{type(value).__name__}: expected what a job is made of")
