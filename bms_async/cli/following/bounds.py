"""How many servers of a run are under way at once, and how that is said where nobody asked for it."""

from __future__ import annotations

from typing import NamedTuple

from bms_async.validation.aborting import find_wave

__all__ = ["Bounds"]


class Bounds(NamedTuple):
    """What bounds a run of some servers.

    Attributes:
        wave: What was typed after ``--wave``; None for nothing.
        abort_above: The share of failures that aborts the run; None for never.
        servers: How many servers it has.
    """

    wave: int | None
    abort_above: float | None
    servers: int

    @property
    def size(self) -> int | None:
        """How many servers are under way at once; None for any number."""
        return find_wave(self.wave, self.abort_above, self.servers)

    @property
    def text(self) -> str | None:
        """What is said of a bound that nobody asked for; None if there is none, or only one server."""
        if self.wave is not None or self.size is None or self.servers <= 1:
            return None
        share = f"{(self.abort_above or 0) * 100:g}"
        return (
            f"at most {self.size:,} under way at once, so that --abort-above {share}% can stop it in time;"
            " --wave changes that"
        )
