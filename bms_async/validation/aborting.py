"""When a run with a share of failures is aborted, and how many of its servers may be under way so that it is in time.

What it guarantees: no further server is asked for once more than the share of those that have ended are not as asked.
And unless a wave was asked for, no more are under way than may fail of the whole fleet, since all that are under way at
that moment may fail as well: they have been asked for, and the cloud takes nothing back.

All numbers are exact: of 50 servers a share of 0.02 is 1, and of 100 a share of 0.29 is 29, as they are written. In
floats the latter is 28.999... Rejected: to compare only from some number of servers on, 20 for instance. It kept a few
early failures from ending a large run, and it gave a fleet of 19 no protection at all.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache


def count_tolerated(share: float, servers: int) -> int:
    """Return how many of some servers may fail before they are more than a share.

    Args:
        share: The share, 0 to 1.
        servers: How many servers there are.
    """
    exact = _as_written(float(share))
    return exact.numerator * servers // exact.denominator


def find_wave(wave_size: int | None, abort_above: float | None, servers: int) -> int | None:
    """Return how many servers of a run may be under way; None for any number.

    Where no wave was asked for, they are as many as may fail of the whole fleet, and one at least.

    Args:
        wave_size: The run's option of that name, which goes before all else.
        abort_above: The share of failures above which the run is aborted; None for never.
        servers: How many servers the run has, as far as that is known.
    """
    if wave_size is not None:
        return wave_size
    if abort_above is None or abort_above >= 1:
        return None
    return max(1, count_tolerated(abort_above, servers))


def why_abort(abort_above: float | None, abort_sample: int, *, failed: int, ended: int) -> str | None:
    """Return the reason for aborting a run, None if there is none.

    Args:
        abort_above: The share of failures above which the run is aborted; None for never.
        abort_sample: How many servers must have ended before that counts.
        failed: How many are FAILED or UNKNOWN.
        ended: How many have ended, those included.
    """
    if abort_above is None or not failed or ended < abort_sample or failed <= count_tolerated(abort_above, ended):
        return None
    be = "is" if failed == 1 else "are"
    return f"{failed} of {ended} servers failed or {be} unknown, which is more than {100 * abort_above:g}%"


@lru_cache(maxsize=64)
def _as_written(share: float) -> Fraction:
    return Fraction(repr(share))
