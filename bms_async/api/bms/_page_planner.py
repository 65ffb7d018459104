"""Page planning for lists with numbered pages: which page to fetch next, and whether it overlaps what was read. Pure.

What it guarantees: in a list whose order does not change, a server that exists all the time is listed exactly once
(the limits are at `ServerList`).

How: a page is identified by its number and size alone, so a server that is deleted before it shifts all later servers
forward, the first of them into a page that was read already. No marker shows this, but an overlap does: a page of a
slightly smaller size can begin a few servers before the end of the last one. If one of its servers was read before, no
server between the two pages is missing. If none was, the list has shifted, and is read again from further back.

The list ends where the cloud's count says so. Without a count, a short page proves nothing, for the cloud may cap its
pages: the list ends at the first page beyond that is empty. An empty page within the count is fetched again, and is an
error if it stays empty.

Rejected: trusting page numbers, which loses a server for each one that is deleted meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

MIN_OVERLAP_SIZE = 20
"""Minimum page size for overlapping pages; with smaller pages the overlaps would be a large part of the list."""

STEPS_BACK = (64, 1000, 4000, 15_000)
"""How many servers before the end reading resumes after a shift; the next one is used if there is no overlap yet."""

REFETCH_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before a page without a new server is fetched again although the cloud says that there is more."""

USUAL_CAPS = frozenset({10, 20, 25, 50, 100, 200, 250, 500})
"""Page sizes that clouds commonly cap pages at.

If the first page has such a size and the count is the same, the count may be the page's own: one more page is fetched.
"""

_INITIAL_STEPS_BACK = 16
"""Number of steps back that a list begins with; every page's worth of new servers adds one."""
_MAX_SIZES_TRIED = 128
_OVERLAP_DIVISOR = 100
_MAX_STALE_PAGES = 8
"""Maximum number of consecutive pages without a new server, beyond the number of pages that had one."""


class PageRange(NamedTuple):
    """A page as it is requested: its number, from 1, and its maximum size."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """The number of servers before it."""
        return (self.number - 1) * self.size

    @property
    def stop(self) -> int:
        """The number of servers before its end, if it is full."""
        return self.number * self.size


class Step(NamedTuple):
    """The decision after a page.

    Attributes:
        pages: How many more pages there may be; 0 at the end of the list.
        keep: Whether the pages that were planned after this one are still right.
        delay: Seconds to wait before the next page is fetched.
        is_lost: Whether the list cannot go on although the cloud says that there are more servers.
    """

    pages: int
    keep: bool = False
    delay: float = 0.0
    is_lost: bool = False


class PagePlanner:
    """Plans the pages of one iteration over a list.

    Args:
        page_size: Maximum number of servers a page.

    Attributes:
        end: How many positions of the list have been read.
        steady_pages: How many pages have been read since the list was last found to have shifted.
        count: The cloud's count of servers on all pages; None if it has none.
        refetches: How often in a row a page without a new server has been fetched again.
        has_gaps: Whether positions count as read whose servers were not received: of a page that was cut short within
            the list, or of a page other than the requested one. `end` then no longer says how many servers were read.
    """

    __slots__ = (
        "_count_fell",
        "_count_is_of_page",
        "_has_uneven_pages",
        "_may_be_all",
        "_new_pages",
        "_number",
        "_overlaps",
        "_page_size",
        "_planned",
        "_refetched_number",
        "_reread",
        "_reread_from",
        "_reread_last",
        "_resume_after",
        "_stale_pages",
        "_stale_positions",
        "_steps",
        "_steps_allowed",
        "_tried_beyond",
        "_was_short",
        "count",
        "end",
        "has_gaps",
        "refetches",
        "steady_pages",
    )

    def __init__(self, page_size: int) -> None:
        self.end = 0
        self.count: int | None = None
        self.refetches = 0
        self.has_gaps = False
        self._page_size = page_size
        self._overlaps = page_size >= MIN_OVERLAP_SIZE
        self._number = 0
        self._planned = 0
        self._steps = self.steady_pages = 0
        self._steps_allowed: float = _INITIAL_STEPS_BACK
        self._count_is_of_page = self._count_fell = self._tried_beyond = False
        self._may_be_all = self._was_short = self._has_uneven_pages = False
        self._new_pages = self._stale_pages = self._stale_positions = 0
        self._reread = self._reread_from = self._reread_last = self._resume_after = self._refetched_number = 0

    def plan(self) -> PageRange:
        """Return the page that follows those planned so far."""
        self._number += 1
        if self._overlaps and self._planned:
            page_range = _overlapping(self._planned, self._page_size)
        else:
            page_range = PageRange(1 if self._overlaps else self._number, self._page_size)
        self._planned = page_range.stop
        return page_range

    def must_overlap(self, page_range: PageRange, size: int) -> bool:
        """Return whether one of a page's servers must have been read before.

        Args:
            page_range: The page.
            size: The number of servers received.
        """
        if size > page_range.size:
            # The cloud ignores the requested size, so its pages cannot overlap.
            self._overlaps = False
            self._page_size, self._number = size, page_range.number
        return self._overlaps and page_range.start > 0 and self._steps < len(STEPS_BACK)

    def back_up(self) -> None:
        """Resume from further back, after a page that did not overlap."""
        self._planned = max(0, self.end - STEPS_BACK[self._steps])
        self._steps += 1
        self._steps_allowed -= 1
        self.steady_pages = 0
        if self._steps_allowed < 1:
            # The cloud computes its pages differently, or has no stable order: overlaps prove nothing.
            self._overlaps = False
            self._number = self.end // self._page_size
            self.end = self._number * self._page_size

    def accept(self, page_range: PageRange, size: int, count: int | None, *, is_new: bool = True) -> Step:
        """Record a page and return what to do next.

        Args:
            page_range: The page.
            size: The number of servers received.
            count: The page's count of servers on all pages; None if it has none.
            is_new: Whether one of its servers was not read before.
        """
        self.steady_pages += 1
        self._learn_count(page_range, size, count, is_new=is_new)
        if size == 0:
            return self._accept_empty(page_range)
        step = self._accept_new(page_range, size) if is_new else self._accept_stale(page_range, size)
        # Compared with the size that the first page has set.
        self._was_short = size < min(page_range.size, self._page_size)
        return step

    def note_new(self) -> None:
        """Record a new server. Only new servers allow for more steps back, so that no iteration is endless."""
        self._steps = 0
        self._steps_allowed += 1 / self._page_size

    def _learn_count(self, page_range: PageRange, size: int, count: int | None, *, is_new: bool) -> None:
        """Record a page's count of the whole list; an impossible count is ignored."""
        self._count_fell = False
        if size and count is not None and page_range.number > 1:
            # The count of the page alone, or one that is too low for the servers of this page.
            is_of_page = (count == size < self.end) or (is_new and not self._overlaps and count <= self.end)
            self._count_is_of_page = self._count_is_of_page or is_of_page
        if self._count_is_of_page:
            self.count = None
        elif count is not None and count >= size:
            # A fall by more than a page is doubtful: the next page shows whether it is true.
            self._count_fell = self.count is not None and count < self.count - self._page_size
            self.count = count

    def _accept_empty(self, page_range: PageRange) -> Step:
        """Handle an empty page: the end if the count says so, or if it follows a short page."""
        read = self.end + self._stale_positions
        is_lost = self.count is not None and self.count > read
        # A count below the number read may be the count of this page.
        is_doubtful = self._count_fell or (0 < self.count < self.end if self.count is not None else not self._was_short)
        if self.refetches >= (len(REFETCH_DELAYS) if is_lost else int(is_doubtful)):
            return Step(0, is_lost=is_lost)
        return self._refetch_empty(page_range)

    def _accept_new(self, page_range: PageRange, size: int) -> Step:
        self.refetches = self._stale_pages = 0
        self._new_pages += 1
        if self._reread == page_range.number:
            return self._accept_reread(page_range, size)
        is_short = size < page_range.size
        before = self.end
        self.has_gaps = self.has_gaps or self._stale_positions > 0
        self.end = page_range.start + size if self._overlaps else self.end + size + self._stale_positions
        self._stale_positions = 0
        if page_range.number == 1 and is_short:
            # Either the cloud's cap, or the whole list.
            self._page_size = size
            self._overlaps = self._overlaps and size >= MIN_OVERLAP_SIZE
            self._may_be_all = True
        # A short later page keeps the plan if a count goes on: the next page's overlap is checked anyway.
        keep = size == page_range.size or (
            is_short and page_range.number > 1 and not (self._overlaps and self.count is None)
        )
        keep = keep and not self._count_fell
        if not keep:
            self._planned, self._number = self.end, page_range.number
        if self.count is None:
            # A short page that the list goes on after may have been cut; not so the first, which sets the size.
            is_cut = self._was_short and page_range.number > 2  # noqa: PLR2004
            step = self._reread_page(page_range.number - 1, page_range.number - int(not is_short)) if is_cut else None
            return step or Step(1, keep)
        left = self.count - self.end
        if left <= 0:
            # The count may be the page's own, so a full page may be followed by another.
            may_be_a_page = page_range.number == 1 and size == self.count and size in USUAL_CAPS
            return Step(int(not is_short or may_be_a_page or self._count_fell), keep)
        self._reread_from = before
        self.has_gaps = self.has_gaps or (is_short and page_range.number > 1)
        step = self._reread_page(page_range.number, page_range.number) if is_short and page_range.number > 1 else None
        return step or Step(self._pages_for(left, is_full=not is_short), keep)

    def _accept_stale(self, page_range: PageRange, size: int) -> Step:
        """Handle a page without a new server: the end of the list, or a page other than the requested one."""
        if not self._overlaps and self._refetched_number != page_range.number:
            # It may be a page other than the requested one, which is fetched once more.
            self._refetched_number, self._number = page_range.number, page_range.number - 1
            self.steady_pages = 0
            return Step(1, delay=REFETCH_DELAYS[0])
        if self._reread == page_range.number:
            return self._accept_reread(page_range, size)
        return self._accept_known(page_range, size)

    def _accept_known(self, page_range: PageRange, size: int) -> Step:
        """Handle a stale page that is the requested one: the end if the count says so, or if the cloud caps pages."""
        self._stale_pages += 1
        is_short = size < page_range.size
        is_beyond = not self._overlaps or page_range.stop > self.end
        if self._overlaps:
            self.end = page_range.start + size if is_short else min(self.end, page_range.start + size)
        else:
            # Added to `end` only if a new server follows: a cloud that repeats one page must not reach its count.
            self._stale_positions += size
        if self.count is None:
            may_be_all = self._was_short or (self._may_be_all and self._new_pages == 1)
            return Step(int(not is_short and not (may_be_all and is_beyond)), keep=True)
        left = self.count - self.end
        if left <= 0:
            # As for the first page, which was read again because the next one did not overlap.
            may_be_a_page = size == self.count and size in USUAL_CAPS and not self._tried_beyond
            self._tried_beyond = True
            return Step(int(may_be_a_page and not is_short), keep=True)
        if self._overlaps:
            return Step(self._pages_for(left), keep=True)
        if self._stale_pages > _MAX_STALE_PAGES + self._new_pages:
            return Step(0, is_lost=True)
        self._number = page_range.number
        return Step(1, delay=REFETCH_DELAYS[min(self._stale_pages, len(REFETCH_DELAYS)) - 1])

    def _reread_page(self, number: int, last: int) -> Step | None:
        """Fetch pages again that were shorter than those around them; None if the cloud's pages are uneven."""
        if self._overlaps or self._has_uneven_pages or self._reread == number:
            return None
        self._reread, self._reread_last, self._resume_after = number, last, max(last, number + int(self.count is None))
        self._number = number - 1
        self.steady_pages = 0
        return Step(1, delay=REFETCH_DELAYS[0])

    def _accept_reread(self, page_range: PageRange, size: int) -> Step:
        """Go on after a page that was fetched again; if it is short again, the cloud's pages are uneven."""
        self._has_uneven_pages = size < page_range.size
        if self.count is not None:
            self.end = self._reread_from + size
        if page_range.number < self._reread_last:
            self._reread, self._number = page_range.number + 1, page_range.number
            return Step(1)
        self._number = self._resume_after
        return Step(1 if self.count is None else self._pages_for(self.count - self.end))

    def _pages_for(self, left: int, *, is_full: bool = False) -> int:
        return max(int(is_full), -(-left // self._page_size), 0)

    def _refetch_empty(self, page_range: PageRange) -> Step:
        delay = REFETCH_DELAYS[min(self.refetches, len(REFETCH_DELAYS) - 1)]
        self.refetches += 1
        self.steady_pages = 0
        self._planned, self._number = self.end, page_range.number - 1
        return Step(1, delay=delay)


def _overlapping(end: int, page_size: int) -> PageRange:
    """Return the page that begins a few servers before a position and has as many as possible after it."""
    overlap = max(1, page_size // _OVERLAP_DIVISOR)
    sizes = range(page_size, max(0, page_size - min(_MAX_SIZES_TRIED, page_size // 2)), -1)
    pages = (PageRange(max(0, end - overlap) // size + 1, size) for size in sizes)
    return max(pages, key=lambda page: page.stop)
