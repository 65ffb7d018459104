"""Where the next page begins, and whether what came joins on to what was read: pure, for pages that go by number.

A page is known by its number and its size alone, so a server deleted before it moves all later ones forward, and the
first of them into the page that was read already. No marker tells. What tells is an overlap: a page whose size is a
little smaller can begin a few servers before the end of the last one. If one of its servers was read before, all
between the two was; if none was, the list has moved, and is read again from further back.

The end is what the cloud says it is, and what it leaves out says nothing. Without a count, a page that is short may be
short because the cloud gives no more at once: the end is a page beyond that brings nothing. With a count that says that
there are more, a page that brings nothing is asked for again, and is an error if it stays so.
"""

from __future__ import annotations

from typing import NamedTuple

MIN_CHECKED = 20
"""Servers a page from which on pages overlap; below, overlaps would be a large part of what is read."""

STEPS_BACK = (64, 1000, 4000, 15_000)
"""How many servers before the end reading begins anew, one after the other until it joins on."""

ASK_AGAIN_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before a page is asked for again that brought nothing although the cloud says that there is more."""

USUAL_CAPS = frozenset({10, 20, 25, 50, 100, 200, 250, 500})
"""Servers a page that clouds like to give whatever is asked for.

Where the first page is as short as that and the count says the same, the count may be the page's own, and so one more
page is asked for.
"""

_MAX_ATTEMPTS = 16
"""Steps back at first; every page's worth of new servers allows for one more."""
_SIZES_TRIED = 128
_PAGES_AN_OVERLAP = 100
_MAX_STALE = 8
"""Pages in a row, beyond as many as brought something, that bring only what was read where pages do not overlap."""


class PageRange(NamedTuple):
    """A page as it is asked for: its number, the first being 1, and how many servers it may hold."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """How many servers come before it."""
        return (self.number - 1) * self.size

    @property
    def stop(self) -> int:
        """How many servers come before its end, if it is full."""
        return self.number * self.size


class Step(NamedTuple):
    """What follows a page.

    Attributes:
        pages: How many more there may be; 0 at the end.
        keep: Whether the pages that were planned after it still follow it.
        delay: Seconds to wait before the next one is asked for.
        is_lost: Whether the list ends here although the cloud says that there are more.
    """

    pages: int
    keep: bool = False
    delay: float = 0.0
    is_lost: bool = False


class PagePlanner:
    """The way through a list.

    Args:
        page_size: Servers a page at most.

    Attributes:
        end: How many places of the list have been read.
        steady_pages: How many pages have been read since the list was last found to have moved.
        count: How many servers there are on all pages; None where the cloud does not say.
        asked_again: How often in a row a page was asked for again that brought nothing.
        has_gaps: Whether places count as read whose servers did not come: of a page cut short within the list, or of
            one that was another than was asked for. What was read is then no longer to be told from the places.
    """

    __slots__ = (
        "_asked_beyond",
        "_asked_twice",
        "_checked",
        "_counts_pages",
        "_fell",
        "_fresh_pages",
        "_largest",
        "_may_be_all",
        "_number",
        "_patience",
        "_planned",
        "_reread",
        "_reread_from",
        "_reread_last",
        "_resume",
        "_stale",
        "_stale_places",
        "_steps",
        "_uneven",
        "_was_short",
        "asked_again",
        "count",
        "end",
        "has_gaps",
        "steady_pages",
    )  # fmt: skip

    def __init__(self, page_size: int) -> None:
        self.end = 0
        self.count: int | None = None
        self.asked_again = 0
        self.has_gaps = False
        self._largest = page_size
        self._checked = page_size >= MIN_CHECKED
        self._number = 0
        self._planned = 0
        self._steps = self.steady_pages = 0
        self._patience: float = _MAX_ATTEMPTS
        self._asked_beyond = self._counts_pages = self._fell = self._may_be_all = self._was_short = self._uneven = False
        self._fresh_pages = self._stale = self._stale_places = 0
        self._reread = self._reread_from = self._reread_last = self._resume = self._asked_twice = 0

    def plan(self) -> PageRange:
        """Return the page after those that were planned."""
        self._number += 1
        if self._checked and self._planned:
            page_range = _overlapping(self._planned, self._largest)
        else:
            page_range = PageRange(1 if self._checked else self._number, self._largest)
        self._planned = page_range.stop
        return page_range

    def must_overlap(self, page_range: PageRange, size: int) -> bool:
        """Return whether one of a page's servers must have been read before.

        Args:
            page_range: The page.
            size: How many servers came.
        """
        if size > page_range.size:
            # A cloud that takes no size has pages of its own, which cannot overlap.
            self._checked = False
            self._largest, self._number = size, page_range.number
        return self._checked and page_range.start > 0 and self._steps < len(STEPS_BACK)

    def back_up(self) -> None:
        """Plan again from further back, for a page that did not join on."""
        self._planned = max(0, self.end - STEPS_BACK[self._steps])
        self._steps += 1
        self._patience -= 1
        self.steady_pages = 0
        if self._patience < 1:
            # Its pages lie elsewhere than they should, or it has no order: overlaps prove nothing.
            self._checked = False
            self._number = self.end // self._largest
            self.end = self._number * self._largest

    def accept(self, page_range: PageRange, size: int, count: int | None, *, is_new: bool = True) -> Step:
        """Note a page that is read; return what follows it.

        Args:
            page_range: The page.
            size: How many servers came.
            count: How many there are on all pages, as the page says; None where it does not.
            is_new: Whether one of its servers was not read before.
        """
        self.steady_pages += 1
        self._learn_count(page_range, size, count, is_new=is_new)
        if size == 0:
            return self._take_empty(page_range)
        step = self._take_new(page_range, size) if is_new else self._take_stale(page_range, size)
        # The first page sets the size, and so is not shorter than others.
        self._was_short = size < min(page_range.size, self._largest)
        return step

    def note_new(self) -> None:
        """Note that a server is new. Only that allows for more steps back, so that no list is read for ever."""
        self._steps = 0
        self._patience += 1 / self._largest

    def _learn_count(self, page_range: PageRange, size: int, count: int | None, *, is_new: bool) -> None:
        """Note what a page says of the whole list; a count that cannot be one says nothing."""
        self._fell = False
        if size and count is not None and page_range.number > 1:
            # The page's own, or one that leaves no room for the servers that this page brings.
            is_of_page = (count == size < self.end) or (is_new and not self._checked and count <= self.end)
            self._counts_pages = self._counts_pages or is_of_page
        if self._counts_pages:
            self.count = None
        elif count is not None and count >= size:
            # By more than what may have vanished since: the next page says whether it is so.
            self._fell = self.count is not None and count < self.count - self._largest
            self.count = count

    def _take_empty(self, page_range: PageRange) -> Step:
        """An empty page is the end where the cloud says so, or where it was asked for beyond a short page."""
        read = self.end + self._stale_places
        is_lost = self.count is not None and self.count > read
        # A count of less than was read may be that of the page, had it come.
        is_doubtful = self._fell or (0 < self.count < self.end if self.count is not None else not self._was_short)
        if self.asked_again >= (len(ASK_AGAIN_DELAYS) if is_lost else int(is_doubtful)):
            return Step(0, is_lost=is_lost)
        return self._ask_again(page_range)

    def _take_new(self, page_range: PageRange, size: int) -> Step:
        self.asked_again = self._stale = 0
        self._fresh_pages += 1
        if self._reread == page_range.number:
            return self._take_reread(page_range, size)
        is_short = size < page_range.size
        before = self.end
        self.has_gaps = self.has_gaps or self._stale_places > 0
        self.end = page_range.start + size if self._checked else self.end + size + self._stale_places
        self._stale_places = 0
        if page_range.number == 1 and is_short:
            # As large as the cloud likes its pages, or all that there is.
            self._largest = size
            self._checked = self._checked and size >= MIN_CHECKED
            self._may_be_all = True
        # A later page that is cut short is no news where a count goes on: whether the next one joins on is looked at.
        keep = size == page_range.size or (
            is_short and page_range.number > 1 and not (self._checked and self.count is None)
        )
        keep = keep and not self._fell
        if not keep:
            self._planned, self._number = self.end, page_range.number
        if self.count is None:
            # Where the list goes on behind a short page, some of that one may be missing; the first sets the size.
            is_cut = self._was_short and page_range.number > 2  # noqa: PLR2004
            step = self._reread_page(page_range.number - 1, page_range.number - int(not is_short)) if is_cut else None
            return step or Step(1, keep)
        left = self.count - self.end
        if left <= 0:
            # A count may mean the page and not the list, and so a full page says that there may be one more.
            may_be_a_page = page_range.number == 1 and size == self.count and size in USUAL_CAPS
            return Step(int(not is_short or may_be_a_page or self._fell), keep)
        self._reread_from = before
        self.has_gaps = self.has_gaps or (is_short and page_range.number > 1)
        step = self._reread_page(page_range.number, page_range.number) if is_short and page_range.number > 1 else None
        return step or Step(self._pages_for(left, is_full=not is_short), keep)

    def _take_stale(self, page_range: PageRange, size: int) -> Step:
        """A page of what was read already may be the end, or another page than the one that was asked for."""
        if not self._checked and self._asked_twice != page_range.number:
            # It may be another page than the one that was asked for, and is asked for once more.
            self._asked_twice, self._number = page_range.number, page_range.number - 1
            self.steady_pages = 0
            return Step(1, delay=ASK_AGAIN_DELAYS[0])
        if self._reread == page_range.number:
            return self._take_reread(page_range, size)
        return self._take_known(page_range, size)

    def _take_known(self, page_range: PageRange, size: int) -> Step:
        """A page of what was read is the end where the cloud counts no more, or where it gives no more at once."""
        self._stale += 1
        is_short = size < page_range.size
        is_beyond = not self._checked or page_range.stop > self.end
        if self._checked:
            self.end = page_range.start + size if is_short else min(self.end, page_range.start + size)
        else:
            # They count once the list goes on; a cloud that gives one page for ever never comes to what it counts.
            self._stale_places += size
        if self.count is None:
            may_be_all = self._was_short or (self._may_be_all and self._fresh_pages == 1)
            return Step(int(not is_short and not (may_be_all and is_beyond)), keep=True)
        left = self.count - self.end
        if left <= 0:
            # As on the first page, which was read again because the next one did not join on.
            may_be_a_page = size == self.count and size in USUAL_CAPS and not self._asked_beyond
            self._asked_beyond = True
            return Step(int(may_be_a_page and not is_short), keep=True)
        if self._checked:
            return Step(self._pages_for(left), keep=True)
        if self._stale > _MAX_STALE + self._fresh_pages:
            return Step(0, is_lost=True)
        self._number = page_range.number
        return Step(1, delay=ASK_AGAIN_DELAYS[min(self._stale, len(ASK_AGAIN_DELAYS)) - 1])

    def _reread_page(self, number: int, last: int) -> Step | None:
        """Have pages asked for again that were shorter than those around them; None where pages are like that."""
        if self._checked or self._uneven or self._reread == number:
            return None
        self._reread, self._reread_last, self._resume = number, last, max(last, number + int(self.count is None))
        self._number = number - 1
        self.steady_pages = 0
        return Step(1, delay=ASK_AGAIN_DELAYS[0])

    def _take_reread(self, page_range: PageRange, size: int) -> Step:
        """Go on behind a page that was asked for again; as short as before it is one of a cloud with uneven pages."""
        self._uneven = size < page_range.size
        if self.count is not None:
            self.end = self._reread_from + size
        if page_range.number < self._reread_last:
            self._reread, self._number = page_range.number + 1, page_range.number
            return Step(1)
        self._number = self._resume
        return Step(1 if self.count is None else self._pages_for(self.count - self.end))

    def _pages_for(self, left: int, *, is_full: bool = False) -> int:
        return max(int(is_full), -(-left // self._largest), 0)

    def _ask_again(self, page_range: PageRange) -> Step:
        delay = ASK_AGAIN_DELAYS[min(self.asked_again, len(ASK_AGAIN_DELAYS) - 1)]
        self.asked_again += 1
        self.steady_pages = 0
        self._planned, self._number = self.end, page_range.number - 1
        return Step(1, delay=delay)


def _overlapping(end: int, largest: int) -> PageRange:
    """Return the page that holds some servers before a place, and as many as possible after it."""
    overlap = max(1, largest // _PAGES_AN_OVERLAP)
    sizes = range(largest, max(0, largest - min(_SIZES_TRIED, largest // 2)), -1)
    pages = (PageRange(max(0, end - overlap) // size + 1, size) for size in sizes)
    return max(pages, key=lambda page: page.stop)
