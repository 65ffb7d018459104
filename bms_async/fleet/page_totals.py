"""What the pages of a list said together, and which of them left something out: pure, for pages that go by number."""

from __future__ import annotations

from bms_async.api.bms.server_list import USUAL_CAPS


class PageTotals:
    """The pages that were read, each of them as large as the largest where nothing is missing.

    A server that is on no page is only gone if the pages were whole: as large as the cloud's count wants them, or,
    where it gives no count, alike up to the last one, with nothing beyond.

    Args:
        asked: How many servers a page were asked for.

    Attributes:
        count: How many servers there are on all pages; None where the cloud does not say.
    """

    __slots__ = ("_asked", "_counts", "_counts_pages", "_firsts", "_is_stuck", "_sizes", "_times_empty", "count")

    def __init__(self, asked: int) -> None:
        self.count: int | None = None
        self._asked = asked
        self._counts: set[int] = set()
        self._counts_pages = False
        self._firsts: dict[str, int] = {}
        self._is_stuck = False
        self._sizes: dict[int, int] = {}
        self._times_empty = 0

    @property
    def size(self) -> int:
        """How many servers a page holds."""
        return max(self._sizes.values(), default=0)

    @property
    def pages(self) -> int:
        """How many pages there are by the count; 1 without one."""
        return max(1, -(-self.count // self.size)) if self.count is not None and self.size else 1

    @property
    def is_whole(self) -> bool:
        """Whether what was on no page was not in the list."""
        if self._is_stuck or len(self._counts) > 1:
            return False
        if not self._may_go_on:
            return not self.open_pages()
        return self.next_page() is None and not self.open_pages()

    def note(self, number: int, size: int, first: str | None, count: int | None) -> None:
        """Note a page.

        Args:
            number: Which one, from 1.
            size: How many servers came.
            first: The first of them; None where there is none.
            count: How many there are on all pages, as the page says; None where it does not.
        """
        if first is not None and self._firsts.setdefault(first, number) != number:
            # One that came before, on another page.
            self._is_stuck, size = True, 0
        self._times_empty = 0 if size else self._times_empty + 1
        self._sizes[number] = max(self._sizes.get(number, 0), size)
        if size and number > 1 and count == size < self._sizes.get(1, 0) + size:
            self._counts_pages = True
        if self._counts_pages:
            self.count = None
            self._counts.clear()
        elif count is not None and count >= size and (count > 0 or not self.size):
            self.count = count
            self._counts.add(count)

    def open_pages(self) -> list[int]:
        """Return the pages that were not read, or are smaller than the cloud's count or the other pages want them."""
        size = self.size
        if self.count is None:
            last = max((number for number, size in self._sizes.items() if size), default=0)
            return [number for number in range(1, last) if self._sizes.get(number, 0) < size]
        if not size:
            return [1] if self.count else []
        wanted = ((number, min(size, self.count - (number - 1) * size)) for number in range(1, self.pages + 1))
        return [number for number, least in wanted if self._sizes.get(number, 0) < least]

    def next_page(self) -> int | None:
        """Return the page to ask for where no count says how many there are; None at the end."""
        if not self._may_go_on or self._is_stuck:
            return None
        last = max(self._sizes)
        if self._sizes[last]:
            return last + 1
        is_said = self.count is not None or (last > 1 and self._sizes[last - 1] < self.size)
        return last if self._times_empty <= int(not is_said) else None

    @property
    def _may_go_on(self) -> bool:
        """Whether there may be more pages than the count says: it may be the first page's own."""
        if self.count is None:
            return True
        return self.count == self.size > 0 and (self.size >= self._asked or self.size in USUAL_CAPS)
