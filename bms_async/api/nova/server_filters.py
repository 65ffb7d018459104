"""The filters of the lists of servers (API reference 5.2.4 and 5.2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias, TypedDict

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.validation.native import (
    SERVER_SORT_KEYS,
    check_datetime,
    check_int,
    check_sorting,
    check_status,
    check_text,
    format_datetime,
)
from bms_async.validation.text import check_tag
from bms_async.wire import Query

from .server_pages import MAX_PAGE_SIZE

ServerSortKey: TypeAlias = Literal[
    "uuid", "vm_state", "display_name", "task_state", "power_state", "created_at", "updated_at", "availability_zone"
]
SortDirection: TypeAlias = Literal["asc", "desc"]

_STABLE_KEYS = frozenset({"uuid", "created_at", "availability_zone"})


class ServerFilterOptions(TypedDict, total=False):
    """The filters, the order and the page size of a list of servers: ``bms.nova.servers.list(**filters)``."""

    changes_since: datetime | None
    """Only servers that changed since then, deleted ones included; truncated to whole seconds. Default: None."""

    image: str | None
    """The id of an image; no other filter, order or page size may be combined with it. Default: None."""

    flavor: str | None
    """The id of a flavor. Default: None."""

    name: str | None
    """A regular expression of the cloud's database: ``bob`` also finds ``bobb``, ``^bob$`` does not. Default: None."""

    status: str | None
    """One of `ServerStatus`. Default: None."""

    tags: str | Sequence[str] | None
    """A tag, or several that a server must all have. Default: None."""

    not_tags: str | Sequence[str] | None
    """A tag, or several that a server must not all have. Default: None."""

    reservation_id: str | None
    """The reservation that servers created in one batch share. Default: None."""

    sort_key: ServerSortKey | Sequence[ServerSortKey] | None
    """The key or keys to sort by, the first key first. Default: None, the cloud's ``created_at``."""

    sort_dir: SortDirection | Sequence[SortDirection] | None
    """``asc`` or ``desc``, for each key. Default: None, the cloud's ``desc``."""

    limit: int | None
    """Servers a page, 1 to 1000; not how many are listed in all. Default: None, which is 1000."""


class ServerFilters(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a list, with their defaults; see `ServerFilterOptions`."""

    changes_since: datetime | None = None
    image: str | None = None
    flavor: str | None = None
    name: str | None = None
    status: str | None = None
    tags: str | Sequence[str] | None = None
    not_tags: str | Sequence[str] | None = None
    reservation_id: str | None = None
    sort_key: str | Sequence[str] | None = None
    sort_dir: str | Sequence[str] | None = None
    limit: int | None = None

    @property
    def needs_microversion(self) -> bool:
        """Whether a filter needs a microversion; without it the cloud ignores the filter silently."""
        return any(value is not None for value in (self.tags, self.not_tags, self.reservation_id))

    @property
    def is_unstable_order(self) -> bool:
        """Whether the list is sorted by a key whose values change while it is read."""
        keys = (self.sort_key,) if isinstance(self.sort_key, str) else tuple(self.sort_key or ())
        return not _STABLE_KEYS.issuperset(keys)

    @property
    def page_size(self) -> int | None:
        """Maximum number of servers a page; None if the list is not paged."""
        return None if self.image is not None else self.limit or MAX_PAGE_SIZE

    def check(self) -> None:
        """Refuse what the reference does not allow.

        Raises:
            InvalidRequestError: An argument is invalid.
        """
        if self.image is not None:
            self._check_image_alone()
            check_text("image", self.image)
        if self.changes_since is not None:
            check_datetime("changes_since", self.changes_since)
        for name in ("flavor", "name", "reservation_id"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        if self.status is not None:
            check_status("status", self.status)
        _check_tag_filter("tags", self.tags)
        _check_tag_filter("not_tags", self.not_tags)
        check_sorting(self.sort_key, self.sort_dir, allowed=SERVER_SORT_KEYS)
        if self.limit is not None:
            check_int("limit", self.limit, minimum=1, maximum=MAX_PAGE_SIZE)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        shown = ("sort_key", "sort_dir", "limit")
        return all(getattr(self, name) is None for name in self.__struct_fields__ if name not in shown)

    def with_bare_metal_tag(self, tag: str, *, check: bool) -> ServerFilters:
        """Return these filters with the tag of bare-metal servers added.

        Args:
            tag: The tag.
            check: Whether to refuse an image, which cannot be combined with a filter.
        """
        if self.image is not None and check:
            raise InvalidRequestError(
                "image",
                self.image,
                "expected no filter beside an image, and bare_metal_only is one here; use list_details(), or "
                "bare_metal_only=False",
            )
        tags = _as_tuple(self.tags)
        return self if tag in tags else msgspec.structs.replace(self, tags=(tag, *tags))

    def query(self, marker: str | None) -> Query:
        """Return the query of one page.

        Args:
            marker: The last server of the page before; None for the first page.
        """
        return {
            "changes-since": None if self.changes_since is None else format_datetime(self.changes_since),
            "image": self.image,
            "flavor": self.flavor,
            "name": self.name,
            "status": self.status,
            "limit": self.page_size,
            "marker": marker,
            "tags": ",".join(_as_tuple(self.tags)) or None,
            "not-tags": ",".join(_as_tuple(self.not_tags)) or None,
            "reservation_id": self.reservation_id,
            "sort_key": self.sort_key,
            "sort_dir": self.sort_dir,
        }

    def _check_image_alone(self) -> None:
        for name in self.__struct_fields__:
            if name != "image" and getattr(self, name) is not None:
                rule = "expected no filter, order or page size beside an image"
                raise InvalidRequestError(name, getattr(self, name), rule)


def _as_tuple(tags: str | Sequence[str] | None) -> tuple[str, ...]:
    if tags is None:
        return ()
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _check_tag_filter(argument: str, tags: str | Sequence[str] | None) -> None:
    if tags is None:
        return
    if not isinstance(tags, str | Sequence):
        raise InvalidRequestError(argument, tags, "expected a tag or a list of tags")
    if not _as_tuple(tags):
        raise InvalidRequestError(argument, tags, "expected at least one tag")
    for tag in _as_tuple(tags):
        check_tag(argument, tag)
