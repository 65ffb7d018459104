"""The page that `bms --report` writes: one file that needs no network, to be kept, sent and printed."""

from .history import CallHistory
from .render import render_report

__all__ = ["CallHistory", "render_report"]
