"""A large job as the last poll showed it, in little room.

Guarantee (R10): a sub-job that has not ended takes some 80 bytes here, and is there when a caller asks for the job.

How: sub-jobs that have ended are held as objects, which futures and events share. Of all others the raw parts are kept,
compressed. They are decoded when a caller asks for the whole job, which the watcher does not do before its end.

Rejected: an object for each (280 bytes), the raw parts as they came (260), and the last response as a whole: it has
what has ended too, and compressing it with each poll would cost more than the poll.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import not_
from typing import TypeAlias

import msgspec

from bms_async.errors import DecodeError
from bms_async.models import Job, JobEntities, JobStatus, SubJob
from bms_async.models.jobs import with_sub_jobs

from .progress import Counts
from .raw_parts import Block, Fingerprints, is_stale, load, store

Decode: TypeAlias = Callable[[bytes], Job]
"""Decodes the JSON of a job."""

_INIT, _BEGUN, _ENDED = range(3)


class KeptJob:
    """A job whose sub-jobs were read in parts.

    Attributes:
        response: The fingerprint of the last response as a whole.
        head: The job without its sub-jobs.
        fingerprints: Those of the sub-jobs' raw parts, in the order in which the last poll showed them.
        held: The sub-jobs that have ended; None in the places of all others.
        stages: Whether each has begun or ended.
        blocks: The raw parts of at least those that have not ended.
    """

    __slots__ = ("_decode", "_whole", "blocks", "fingerprints", "head", "held", "response", "stages")

    def __init__(
        self,
        *,
        response: int,
        head: Job,
        fingerprints: Fingerprints,
        held: Sequence[SubJob | None],
        stages: bytes,
        blocks: tuple[Block, ...],
        decode: Decode,
    ) -> None:
        self.response = response
        self.head = head
        self.fingerprints = fingerprints
        self.held = tuple(held)
        self.stages = stages
        self.blocks = blocks
        self._decode = decode
        self._whole: Job | None = None

    @property
    def counts(self) -> Counts:
        """How many sub-jobs were shown, have begun and have ended."""
        shown = len(self.stages)
        return Counts(shown, shown - self.stages.count(_INIT), self.stages.count(_ENDED))

    def whole(self, settle: Callable[[Job], Job]) -> Job:
        """Return the whole job; what has not ended is decoded once.

        Args:
            settle: Masks what was decoded, and has it share its parts with what is held.
        """
        if self._whole is None:
            places = zip(self.fingerprints, self.held, strict=True)
            running = self._decode_running(settle)
            subs = tuple([running[fingerprint] if sub is None else sub for fingerprint, sub in places])
            self._whole = with_sub_jobs(self.head, subs)
        return self._whole

    def _decode_running(self, settle: Callable[[Job], Job]) -> dict[int, SubJob]:
        parts = load(self.blocks, {*compress(self.fingerprints, map(not_, self.held))})
        if not parts:
            return {}
        try:
            subs = self._decode_parts(parts.values())
        except DecodeError:
            # They came in different polls. A field that nothing can read is passed over as long as no part is repaired.
            subs = tuple([sub for part in parts.values() for sub in self._decode_parts([part])])
        job = settle(Job(job_id="", entities=JobEntities(sub_jobs=subs)))
        return dict(zip(parts, job.sub_jobs, strict=True))

    def _decode_parts(self, parts: Iterable[msgspec.Raw]) -> tuple[SubJob, ...]:
        return self._decode(b'{"job_id":"","entities":{"sub_jobs":[%b]}}' % b",".join(parts)).sub_jobs


class PartialPoll:
    """What a poll of a large job shows, of which the sub-jobs are decoded that are new, or have changed.

    Attributes:
        known: What the poll was compared with.
        response: The fingerprint of the response as a whole.
        fingerprints: Those of all sub-jobs' raw parts.
        changed: The job, with those sub-jobs alone that have changed and have ended.
    """

    __slots__ = ("_decode", "_held", "_places", "_running", "_stages", "changed", "fingerprints", "known", "response")

    def __init__(
        self,
        *,
        known: Job | KeptJob | None,
        response: int,
        fingerprints: Fingerprints,
        held: list[SubJob | None],
        stages: bytearray,
        decode: Decode,
    ) -> None:
        self.known = known
        self.response = response
        self.fingerprints = fingerprints
        self.changed = Job(job_id="")
        self._held = held
        self._stages = stages
        self._places: list[int] = []
        self._running: dict[int, msgspec.Raw] = {}
        self._decode = decode

    def add(self, changed: Job, places: Sequence[int], parts: Sequence[msgspec.Raw]) -> None:
        """Add what has changed.

        Args:
            changed: The job, with the sub-jobs alone that have changed.
            places: Where each of these is among all.
            parts: The raw part of each.
        """
        ended = []
        for place, part, sub in zip(places, parts, changed.sub_jobs, strict=True):
            status = sub.status
            if status.is_final:
                self._stages[place] = _ENDED
                self._places.append(place)
                ended.append(sub)
            else:
                self._stages[place] = _INIT if status is JobStatus.INIT else _BEGUN
                self._held[place] = None
                self._running[self.fingerprints[place]] = part
        self.changed = with_sub_jobs(changed, tuple(ended))

    def keep(self, changed: Job) -> KeptJob:
        """Return the job as it is kept.

        Args:
            changed: What `changed` is, masked and shared.
        """
        for place, sub in zip(self._places, changed.sub_jobs, strict=True):
            self._held[place] = sub
        blocks = self.known.blocks if isinstance(self.known, KeptJob) else ()
        if self._running or is_stale(blocks, len(self._stages) - self._stages.count(_ENDED)):
            blocks = store(blocks, self._running, {*compress(self.fingerprints, map(not_, self._held))})
        return KeptJob(
            response=self.response,
            head=with_sub_jobs(changed, ()),
            fingerprints=self.fingerprints,
            held=self._held,
            stages=bytes(self._stages),
            blocks=blocks,
            decode=self._decode,
        )
