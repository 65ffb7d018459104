"""What a reconciler counts."""

from __future__ import annotations

import msgspec


class ReconcilerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a reconciler, and what it has done so far.

    Attributes:
        desired: Of how many servers a status is desired, entries that are no ids included.
        synced: How many of them are as desired.
        progressing: How many are not, and something is on its way.
        degraded: How many were tried in vain, or are left alone.
        waiting: How many may be acted on and wait for room.
        under_way: How many are being acted on now, forgotten ones included.
        runs: How many runs have begun.
        asked: How many servers were in them.
        succeeded: How many outcomes were successes.
        failed: How many were not.
        readings: How often the states of all servers were read.
        targeted_readings: How often those of some servers were.
        failed_readings: How many readings failed.
        reading_calls: How many calls all readings made.
    """

    desired: int
    synced: int
    progressing: int
    degraded: int
    waiting: int
    under_way: int
    runs: int
    asked: int
    succeeded: int
    failed: int
    readings: int
    targeted_readings: int
    failed_readings: int
    reading_calls: int
