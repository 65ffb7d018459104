"""What the lists of servers are asked for (API reference 5.2.4 and 5.2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.models import BARE_METAL_TAG
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

_LASTING_KEYS = frozenset({"uuid", "created_at", "availability_zone"})


class ServerFilters(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a list, together."""

    changes_since: datetime | None
    image: str | None
    flavor: str | None
    name: str | None
    status: str | None
    tags: str | Sequence[str] | None
    not_tags: str | Sequence[str] | None
    reservation_id: str | None
    sort_key: str | Sequence[str] | None
    sort_dir: str | Sequence[str] | None
    limit: int | None

    @property
    def needs_microversion(self) -> bool:
        """Whether there is a filter that earlier clouds leave out without a word."""
        return any(value is not None for value in (self.tags, self.not_tags, self.reservation_id))

    @property
    def is_unstable_order(self) -> bool:
        """Whether the list is sorted by what changes while it is read."""
        keys = (self.sort_key,) if isinstance(self.sort_key, str) else tuple(self.sort_key or ())
        return not _LASTING_KEYS.issuperset(keys)

    @property
    def page_size(self) -> int | None:
        """How many servers a page may hold; None where the list is not paged."""
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

    def with_bare_metal_tag(self, *, check: bool) -> ServerFilters:
        """Return these filters with one more: the tag that bare-metal servers have.

        Args:
            check: Whether an image, which allows no other filter, is refused.
        """
        if self.image is not None and check:
            raise InvalidRequestError(
                "image",
                self.image,
                "no other filter goes with an image, and bare_metal_only is one here: "
                "use list_details(), or give bare_metal_only=False",
            )
        tags = _listed(self.tags)
        return self if BARE_METAL_TAG in tags else msgspec.structs.replace(self, tags=(BARE_METAL_TAG, *tags))

    def query(self, marker: str | None) -> Query:
        """Return the query of one page.

        Args:
            marker: The last server of the page before, None for the first page.
        """
        return {
            "changes-since": None if self.changes_since is None else format_datetime(self.changes_since),
            "image": self.image,
            "flavor": self.flavor,
            "name": self.name,
            "status": self.status,
            "limit": self.page_size,
            "marker": marker,
            "tags": ",".join(_listed(self.tags)) or None,
            "not-tags": ",".join(_listed(self.not_tags)) or None,
            "reservation_id": self.reservation_id,
            "sort_key": self.sort_key,
            "sort_dir": self.sort_dir,
        }

    def _check_image_alone(self) -> None:
        for name in self.__struct_fields__:
            if name != "image" and getattr(self, name) is not None:
                raise InvalidRequestError(name, getattr(self, name), "neither filters nor paging go with an image")


def _listed(tags: str | Sequence[str] | None) -> tuple[str, ...]:
    if tags is None:
        return ()
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _check_tag_filter(argument: str, tags: str | Sequence[str] | None) -> None:
    if tags is None:
        return
    if not isinstance(tags, str | Sequence):
        raise InvalidRequestError(argument, tags, "a tag, or a list of tags")
    listed = _listed(tags)
    if not listed:
        raise InvalidRequestError(argument, tags, "at least one tag is needed")
    for tag in listed:
        check_tag(argument, tag)
