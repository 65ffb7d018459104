"""Watching jobs: one poll however many wait, a future for each server, and nobody left waiting."""

from .events import EventGap, JobChanged, JobEnded, JobEvent, JobEvents, JobLost, JobStarted, SubJobEnded
from .handle import JobHandle, SavedJob, read_saved
from .patience import Patience, end_in_time
from .schedule import SHARE
from .statistics import WatcherStatistics
from .watcher import Watcher

__all__ = [
    "SHARE",
    "EventGap",
    "JobChanged",
    "JobEnded",
    "JobEvent",
    "JobEvents",
    "JobHandle",
    "JobLost",
    "JobStarted",
    "Patience",
    "SavedJob",
    "SubJobEnded",
    "Watcher",
    "WatcherStatistics",
    "end_in_time",
    "read_saved",
]
