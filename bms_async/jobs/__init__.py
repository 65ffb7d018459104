"""Watching jobs: one poll for any number of waiters, a future for each server, an end to every wait."""

from .events import EventGap, JobChanged, JobEnded, JobEvent, JobEvents, JobLost, JobStarted, SubJobEnded
from .handle import JobHandle, SavedJob, read_saved
from .kept_job import PartialPoll
from .patience import Patience, bounded_poll
from .poll_reading import PollReader
from .schedule import POLL_BUDGET_SHARE
from .statistics import WatcherStatistics
from .watcher import Watcher

__all__ = [
    "POLL_BUDGET_SHARE",
    "EventGap",
    "JobChanged",
    "JobEnded",
    "JobEvent",
    "JobEvents",
    "JobHandle",
    "JobLost",
    "JobStarted",
    "PartialPoll",
    "Patience",
    "PollReader",
    "SavedJob",
    "SubJobEnded",
    "Watcher",
    "WatcherStatistics",
    "bounded_poll",
    "read_saved",
]
