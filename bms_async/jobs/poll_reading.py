"""Reading one poll of a job, and of a large job only what has changed since the poll before it.

Guarantee (R9, R10): a poll of a thousand sub-jobs costs little more than finding where each of them begins and ends,
whatever has ended before. And what did not change is not held twice, nor as a second object in the place of the first.

How: a large response is split into the raw parts of its sub-jobs, which builds nothing from them. Each part has a
fingerprint of 64 bits. A part whose fingerprint the last poll had too is the sub-job that is known already. The others
are decoded, as a response that has no other sub-jobs, so that all repairs of `decode` apply. A response that cannot be
split is decoded as a whole, and so are small ones, for which splitting does not pay, and those with so much in them
besides that splitting would hold the event loop. A response such as the last is no news: a large one by its own
fingerprint, and one that differs in nothing that is read by what it shows.

Rejected: a summary of every sub-job in each poll, and the whole job where that shows an end. What has not changed was
decoded again with every end, and a thousand objects were made only to be compared. And comparing the parts themselves,
which would have to be held.
"""

from __future__ import annotations

from itertools import compress
from operator import ne
from typing import Any, Final

import msgspec
from msgspec.structs import fields

from bms_async.errors import DecodeError
from bms_async.models import Job, JobEntities, SubJob

from .kept_job import Decode, KeptJob, PartialPoll
from .raw_parts import Fingerprints, take_fingerprints

SPLIT_FROM: Final = 2**13
"""Bytes from which on a response is split: some 30 sub-jobs, most of which have not changed."""

SPLIT_TO: Final = 2**19
"""Bytes up to which it is, twice what a thousand sub-jobs take: to split and compress them takes 20 ms for each MB."""

_MOVED: Final = 0.25
"""The share of sub-jobs that differ from those in the same places, from which on all places are compared."""

_NEW: Final = -1


class PollReader:
    """Reads the next poll of a job.

    Args:
        known: What is known of the job, None before its first poll.
        split_from: Bytes from which on a response is split.
    """

    __slots__ = ("_known", "_split_from")

    def __init__(self, known: Job | KeptJob | None = None, *, split_from: int = SPLIT_FROM) -> None:
        self._known = known
        self._split_from = split_from

    def read(self, body: bytes, decode: Decode) -> Job | PartialPoll | None:
        """Return what a poll shows.

        Args:
            body: The response.
            decode: Decodes the JSON of a job; it is called again when a caller asks for the whole job.

        Returns:
            None if that is what the last poll showed.

        Raises:
            DecodeError: The response cannot be read.
        """
        known = self._known
        if isinstance(known, KeptJob) and known.response == hash(body):
            return None
        poll = self._read_parts(body, decode) if self._split_from <= len(body) <= SPLIT_TO else None
        if poll is None:
            job = decode(body)
            return None if job == known else job
        is_the_same = isinstance(known, KeptJob) and (poll.fingerprints, poll.changed) == (
            known.fingerprints,
            known.head,
        )
        return None if is_the_same else poll

    def _read_parts(self, body: bytes, decode: Decode) -> PartialPoll | None:
        """Return what a response shows that can be split, None for another."""
        try:
            response = _RESPONSE.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        all_parts: list[msgspec.Raw] = response.entities.sub_jobs
        fingerprints = take_fingerprints(all_parts)
        places, held, stages = self._compare(fingerprints)
        parts = [all_parts[place] for place in places]
        if not all(map(_is_object, parts)):
            # What is no sub-job is left out, or put together of several. Before decoding, since a repair takes long.
            return None
        try:
            changed = decode(_without_others(response, parts))
        except DecodeError:
            return None
        poll = PartialPoll(
            known=self._known,
            response=hash(body),
            fingerprints=fingerprints,
            held=held,
            stages=stages,
            decode=decode,
        )
        poll.add(changed, places, parts)
        return poll

    def _compare(self, fingerprints: Fingerprints) -> tuple[list[int], list[SubJob | None], bytearray]:
        """Return the places of the sub-jobs that are not known, and all that are held, and their stages."""
        known, count = self._known, len(fingerprints)
        if not isinstance(known, KeptJob):
            return list(range(count)), [None] * count, bytearray(count)
        common = min(count, len(known.fingerprints))
        places = [*compress(range(common), map(ne, fingerprints, known.fingerprints)), *range(common, count)]
        if len(places) <= count * _MOVED:
            added = count - common
            return places, [*known.held[:common], *[None] * added], bytearray(known.stages[:common] + bytes(added))
        # In another order, perhaps, or with others between them.
        known_places = {fingerprint: place for place, fingerprint in enumerate(known.fingerprints)}
        sources = [known_places.get(fingerprint, _NEW) for fingerprint in fingerprints]
        places = [place for place, source in enumerate(sources) if source == _NEW]
        held = [None if source == _NEW else known.held[source] for source in sources]
        return places, held, bytearray(0 if source == _NEW else known.stages[source] for source in sources)


def _is_object(part: msgspec.Raw) -> bool:
    return bytes(memoryview(part)[:1]) == b"{"


def _without_others(response: Any, parts: list[msgspec.Raw]) -> bytes:
    """Return the JSON of a response with some of its sub-jobs alone."""
    entities = [*_members(response.entities, "sub_jobs"), b'"sub_jobs":[%b]' % b",".join(parts)]
    return b"{%b}" % b",".join([*_members(response, "entities"), b'"entities":{%b}' % b",".join(entities)])


def _members(response: Any, but: str) -> list[bytes]:
    names = [name for name in response.__struct_fields__ if name != but]
    return [b'"%b":%b' % (name.encode(), raw) for name in names if (raw := getattr(response, name))]


def _raw_fields(model: type[msgspec.Struct], but: str) -> list[tuple[str, Any, Any]]:
    return [(field.encode_name, msgspec.Raw, msgspec.Raw()) for field in fields(model) if field.encode_name != but]


_ENTITIES = msgspec.defstruct(
    "_Entities", [("sub_jobs", list[msgspec.Raw]), *_raw_fields(JobEntities, "sub_jobs")], gc=False
)
_RESPONSE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_Response", [("entities", _ENTITIES), *_raw_fields(Job, "entities")], gc=False)
)
