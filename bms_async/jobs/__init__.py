"""Watching jobs: one poll however many wait, a future for each server, and nobody left waiting."""

from .handle import JobHandle, SavedJob, read_saved
from .schedule import SHARE
from .watcher import Watcher, WatcherStatistics

__all__ = ["SHARE", "JobHandle", "SavedJob", "Watcher", "WatcherStatistics", "read_saved"]
