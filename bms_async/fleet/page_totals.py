"""Whether the pages of a list were complete, and which of them left something out: pure, for offset-numbered pages."""

from __future__ import annotations

from bms_async.api.bms.server_list import USUAL_CAPS


class PageTotals:
    """The sizes of the pages that were read, and the cloud's count; a complete page is as large as the largest.

    That a server is on no page proves that it does not exist only if the pages were complete: as large as the cloud's
    count requires or, where it gives no count, all alike up to the last one, with nothing beyond.

    Args:
        page_size: The page size that was requested.

    Attributes:
        count: How many servers there are on all pages; None where the cloud does not say.
    """

    __slots__ = (
        "_count_is_per_page",
        "_counts",
        "_empty_pages",
        "_first_ids",
        "_is_stuck",
        "_page_size",
        "_sizes",
        "count",
    )  # fmt: skip

    def __init__(self, page_size: int) -> None:
        self.count: int | None = None
        self._page_size = page_size
        self._counts: set[int] = set()
        self._count_is_per_page = False
        self._first_ids: dict[str, int] = {}
        self._is_stuck = False
        self._sizes: dict[int, int] = {}
        self._empty_pages = 0

    @property
    def size(self) -> int:
        """How many servers a page holds."""
        return max(self._sizes.values(), default=0)

    @property
    def pages(self) -> int:
        """How many pages there are by the count; 1 without one."""
        return max(1, -(-self.count // self.size)) if self.count is not None and self.size else 1

    @property
    def is_complete(self) -> bool:
        """Whether a server that was on no page is not in the list."""
        if self._is_stuck or len(self._counts) > 1:
            return False
        if not self._may_have_more:
            return not self.incomplete_pages()
        return self.next_page() is None and not self.incomplete_pages()

    def add_page(self, number: int, size: int, first: str | None, count: int | None) -> None:
        """Record a page.

        Args:
            number: Its number, from 1.
            size: How many servers it had.
            first: The id of its first server; None if it had none.
            count: The count of servers on all pages that it gave; None if it gave none.
        """
        if first is not None and self._first_ids.setdefault(first, number) != number:
            # The same page came under another number before.
            self._is_stuck, size = True, 0
        self._empty_pages = 0 if size else self._empty_pages + 1
        self._sizes[number] = max(self._sizes.get(number, 0), size)
        if size and number > 1 and count == size < self._sizes.get(1, 0) + size:
            self._count_is_per_page = True
        if self._count_is_per_page:
            self.count = None
            self._counts.clear()
        elif count is not None and count >= size and (count > 0 or not self.size):
            self.count = count
            self._counts.add(count)

    def incomplete_pages(self) -> list[int]:
        """Return the pages that were not read, or are smaller than the cloud's count or the other pages require."""
        size = self.size
        if self.count is None:
            last = max((number for number, size in self._sizes.items() if size), default=0)
            return [number for number in range(1, last) if self._sizes.get(number, 0) < size]
        if not size:
            return [1] if self.count else []
        required = ((number, min(size, self.count - (number - 1) * size)) for number in range(1, self.pages + 1))
        return [number for number, min_size in required if self._sizes.get(number, 0) < min_size]

    def next_page(self) -> int | None:
        """Return the page to read next where no count says how many there are; None at the end."""
        if not self._may_have_more or self._is_stuck:
            return None
        last = max(self._sizes)
        if self._sizes[last]:
            return last + 1
        # One empty page is the end where a count or a short page announced it; elsewhere it is read once more.
        is_end_expected = self.count is not None or (last > 1 and self._sizes[last - 1] < self.size)
        return last if self._empty_pages <= int(not is_end_expected) else None

    @property
    def _may_have_more(self) -> bool:
        """Whether there may be more pages than the count says: it may be the count of the first page only."""
        if self.count is None:
            return True
        return self.count == self.size > 0 and (self.size >= self._page_size or self.size in USUAL_CAPS)
