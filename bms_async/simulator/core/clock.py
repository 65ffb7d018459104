"""Timestamps from a clock that only counts seconds."""

from datetime import UTC, datetime
from functools import lru_cache

from bms_async.simulator.core.attributes import CREATED

__all__ = ["View", "WallClock"]


class WallClock:
    """Wall-clock time, counted from a fixed epoch, so that responses depend on nothing else."""

    __slots__ = ("_born", "_epoch_ms")

    def __init__(self, epoch: datetime, born: float) -> None:
        self._epoch_ms = round(epoch.timestamp() * 1000)
        self._born = born

    def millis(self, at: float) -> str:
        """Such as `2019-04-25T20:04:47.591Z`, as jobs print it (API reference 4.11.1)."""
        seconds, millis = divmod(self._epoch_ms + round((at - self._born) * 1000), 1000)
        return f"{_second(seconds)}.{millis:03d}Z"

    def seconds(self, at: float) -> str:
        """Such as `2019-05-22T03:30:52Z`, as servers print it (API reference, table 4-7)."""
        return f"{_second(self.unix(at))}Z"

    def unix(self, at: float) -> int:
        """Whole seconds since 1970, as databases keep the times of servers."""
        return (self._epoch_ms + round((at - self._born) * 1000)) // 1000

    def moment(self, unix: float) -> float:
        """The moment on the cloud's clock of a time in seconds since 1970, to within some milliseconds."""
        return self._born + unix - self._epoch_ms / 1000


@lru_cache(maxsize=4096)
def _second(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class View:
    """What documents need besides the server: the project and the clock."""

    __slots__ = ("created", "project_id", "wall")

    def __init__(self, project_id: str, wall: WallClock, born: float) -> None:
        self.project_id = project_id
        self.wall = wall
        self.created = wall.seconds(born + CREATED)
