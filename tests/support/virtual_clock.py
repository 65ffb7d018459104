"""The virtual clock that users test with too."""

from bms_async.testing import VirtualClockLoop, advance, run_virtually

__all__ = ["VirtualClockLoop", "advance", "run_virtually"]
