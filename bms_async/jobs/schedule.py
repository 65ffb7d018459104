"""When to poll which job: pure, so that it can be read and tried without a cloud."""

from __future__ import annotations

SHARE = 0.9
"""The share of the limit of `jobs.get` that the watcher may use; the rest is for callers who ask themselves."""

MISSING_GRACE = 60.0
"""Seconds for which a 404 is not believed: a job may be unknown for some seconds after it was accepted."""

UNTOLD_GRACE = 60.0
"""Seconds for which a job that has ended may still show sub-jobs that have not."""

REFUSED_PATIENCE = 300.0
"""Seconds of nothing but 401 and 403 after which a job counts as lost: nobody may look at it any more."""

FAILING_PATIENCE = 3600.0
"""Seconds of nothing but failed polls after which a job counts as lost."""

_SHORTEST = 1.0
_LONGEST = 15.0
_AGE_FRACTION = 0.1
_LONGEST_AFTER_FAILURE = 30.0


def poll_delay(*, age: float, live: int, rate: float, typical: float | None = None) -> float:
    """Return the seconds until a job is polled again.

    A share of its age: who has waited a minute can wait six seconds more. Never so often that all jobs together
    would need more polls than there are.

    Args:
        age: Seconds since the job was accepted.
        live: How many jobs are polled.
        rate: Polls a second for all of them.
        typical: Seconds that jobs of this kind took before, None if not known.
    """
    wanted = age * _AGE_FRACTION
    if age == 0 and typical is not None:
        wanted = typical / 2
    return max(min(max(wanted, _SHORTEST), _LONGEST), live / rate)


def failure_delay(failures: int) -> float:
    """Return the seconds until a job is polled again after so many failed polls in a row, at least one."""
    return float(min(_LONGEST_AFTER_FAILURE, _SHORTEST * 2 ** (failures - 1)))


def learn(typical: float | None, took: float) -> float:
    """Return what jobs of a kind typically take, after one more of them has ended.

    Args:
        typical: What was known, None if nothing.
        took: Seconds that the job took.
    """
    return took if typical is None else 0.7 * typical + 0.3 * took
