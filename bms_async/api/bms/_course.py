"""Where the next page begins, and whether what came joins on to what was read: pure, for pages that go by number.

A page is known by its number and its size alone, so a server deleted before it moves all later ones forward, and the
first of them into the page that was read already. No marker tells. What tells is an overlap: a page whose size is a
little smaller can begin a few servers before the end of the last one. If one of its servers was read before, all
between the two was; if none was, the list has moved, and is read again from further back.
"""

from __future__ import annotations

from typing import NamedTuple

SMALLEST_CHECKED = 20
"""Servers a page from which on pages overlap; below, overlaps would be a large part of what is read."""

STEPS_BACK = (64, 1000, 4000, 15_000)
"""How many servers before the end reading begins anew, one after the other until it joins on."""

_PATIENCE = 16
"""Steps back at first; every page's worth of new servers allows for one more."""
_SIZES_TRIED = 128
_PAGES_AN_OVERLAP = 100


class Span(NamedTuple):
    """A page as it is asked for: its number, the first being 1, and how many servers it may hold."""

    number: int
    size: int

    @property
    def begin(self) -> int:
        """How many servers come before it."""
        return (self.number - 1) * self.size

    @property
    def end(self) -> int:
        """How many servers come before its end, if it is full."""
        return self.number * self.size


class Course:
    """The way through a list.

    Args:
        page_size: Servers a page at most.

    Attributes:
        end: How many places of the list have been read.
        calm: How many pages have been read since the list was last found to have moved.
    """

    __slots__ = ("_checked", "_largest", "_number", "_patience", "_planned", "_steps", "calm", "end")

    def __init__(self, page_size: int) -> None:
        self.end = 0
        self._largest = page_size
        self._checked = page_size >= SMALLEST_CHECKED
        self._number = 0
        self._planned = 0
        self._steps = self.calm = 0
        self._patience: float = _PATIENCE

    def plan(self) -> Span:
        """Return the page after those that were planned."""
        self._number += 1
        if self._checked and self._planned:
            span = _overlapping(self._planned, self._largest)
        else:
            span = Span(1 if self._checked else self._number, self._largest)
        self._planned = span.end
        return span

    def must_join(self, span: Span, size: int) -> bool:
        """Return whether one of a page's servers must have been read before.

        Args:
            span: The page.
            size: How many servers came.
        """
        if size > span.size:
            # A cloud that takes no size has pages of its own, which cannot overlap.
            self._checked = False
            self._largest, self._number = size, span.number
        return self._checked and span.begin > 0 and self._steps < len(STEPS_BACK)

    def step_back(self) -> None:
        """Plan again from further back, for a page that did not join on."""
        self._planned = max(0, self.end - STEPS_BACK[self._steps])
        self._steps += 1
        self._patience -= 1
        self.calm = 0
        if self._patience < 1:
            # Its pages lie elsewhere than they should, or it has no order: overlaps prove nothing.
            self._checked = False
            self._number = self.end // self._largest
            self.end = self._number * self._largest

    def take(self, span: Span, size: int, count: int | None) -> bool:
        """Note a page that is read; return whether those that were planned after it still follow it.

        Args:
            span: The page.
            size: How many servers came.
            count: How many there are on all pages; None where the cloud does not tell.
        """
        self.calm += 1
        self.end = span.begin + size if self._checked else self.end + size
        # A later page that is cut short is no news: whether the next one joins on is looked at anyway.
        if size == span.size or self.end >= (count or 0) or (size < span.size and span.number > 1):
            return True
        if span.number == 1:
            self._largest = size
            self._checked = self._checked and size >= SMALLEST_CHECKED
        self._planned, self._number = self.end, span.number
        return False

    def advance(self) -> None:
        """Note that a server is new. Only that allows for more steps back, so that no list is read for ever."""
        self._steps = 0
        self._patience += 1 / self._largest

    def missing(self, span: Span, size: int, count: int | None) -> int:
        """Return how many more pages there may be after one: as many as the count says, and one after a full page."""
        if size == 0:
            return 0
        if count is None:
            return int(size >= span.size)
        # A count may mean the page and not the list, and so a full page says that there may be one more.
        return max(int(size >= span.size), -((self.end - count) // self._largest))


def _overlapping(end: int, largest: int) -> Span:
    """Return the page that holds some servers before a place, and as many as possible after it."""
    overlap = max(1, largest // _PAGES_AN_OVERLAP)
    sizes = range(largest, max(0, largest - min(_SIZES_TRIED, largest // 2)), -1)
    pages = (Span(max(0, end - overlap) // size + 1, size) for size in sizes)
    return max(pages, key=lambda page: page.end)
