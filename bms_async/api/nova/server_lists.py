"""The lists of servers (API reference 5.2.4 and 5.2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from bms_async.models import BriefServer, Server
from bms_async.validation.native import TAGS_MICROVERSION
from bms_async.wire import Operation

from ._resource import Resource
from .server_filters import ServerFilters, ServerSortKey, SortDirection
from .server_operations import LIST, LIST_DETAILS
from .server_pages import NativePage, NativeServerList, ServerT


class ServerLists(Resource):
    """What `NovaServers` lists."""

    def list(
        self,
        *,
        changes_since: datetime | None = None,
        image: str | None = None,
        flavor: str | None = None,
        name: str | None = None,
        status: str | None = None,
        tags: str | Sequence[str] | None = None,
        not_tags: str | Sequence[str] | None = None,
        reservation_id: str | None = None,
        sort_key: ServerSortKey | Sequence[ServerSortKey] | None = None,
        sort_dir: SortDirection | Sequence[SortDirection] | None = None,
        limit: int | None = None,
        bare_metal_only: bool = True,
        microversion: str | None = None,
    ) -> NativeServerList[BriefServer]:
        """Iterate over the ids and names of the servers that match all filters; one page is fetched ahead.

        The brief list shows nothing that tells a bare-metal server from a virtual machine, so that the cloud has to
        sort them out: ``bare_metal_only`` asks for the tag ``__type_baremetal``. A bare-metal server that has lost
        this tag is not in it; `list_details` finds it by its flavor.

        Args:
            changes_since: Only what changed since then, servers deleted since included; whole seconds count.
            image: The id of an image; nothing else can be asked for with it, ``bare_metal_only`` neither.
            flavor: The id of a flavor.
            name: A regular expression of the cloud's database: ``bob`` finds ``bobb`` as well, ``^bob$`` does not.
            status: One of `ServerStatus`.
            tags: A tag, or several that a server must all have.
            not_tags: A tag, or several of which a server must not have all.
            reservation_id: What servers created in one batch share.
            sort_key: What to sort by, the first key first; the cloud's default is ``created_at``.
            sort_dir: ``asc`` or ``desc`` for each key; the cloud's default is ``desc``.
            limit: Servers a page, 1 to 1000, which is the default; not how many come in all.
            bare_metal_only: Leave out the virtual machines that the cloud lists as well.
            microversion: The version of the API to ask in; filters by tag and by reservation need ``2.26``, which is
                then the default.

        Raises:
            InvalidRequestError: An argument is invalid, or something goes with ``image``; nothing was sent.

        Source: API reference 5.2.4.
        """
        filters = ServerFilters(
            changes_since=changes_since,
            image=image,
            flavor=flavor,
            name=name,
            status=status,
            tags=tags,
            not_tags=not_tags,
            reservation_id=reservation_id,
            sort_key=sort_key,
            sort_dir=sort_dir,
            limit=limit,
        )
        if self._check:
            filters.check()
        if bare_metal_only:
            filters = filters.with_bare_metal_tag(check=self._check)
        headers = self._headers_for(filters, microversion)
        return self._iterate(LIST, BriefServer, filters, headers, bare_metal_only=False)

    def list_details(
        self,
        *,
        changes_since: datetime | None = None,
        image: str | None = None,
        flavor: str | None = None,
        name: str | None = None,
        status: str | None = None,
        tags: str | Sequence[str] | None = None,
        not_tags: str | Sequence[str] | None = None,
        reservation_id: str | None = None,
        sort_key: ServerSortKey | Sequence[ServerSortKey] | None = None,
        sort_dir: SortDirection | Sequence[SortDirection] | None = None,
        limit: int | None = None,
        bare_metal_only: bool = True,
        microversion: str | None = None,
    ) -> NativeServerList[Server]:
        """Iterate over the servers that match all filters; one page is fetched ahead.

        The cloud lists virtual machines as well; ``bare_metal_only`` passes over them here, by the tag and by the
        flavor of each server. Tags are shown from microversion ``2.26`` on, which is then the default.

        Args:
            changes_since: Only what changed since then, servers deleted since included; whole seconds count.
            image: The id of an image; no other filter and no page size can be asked for with it.
            flavor: The id of a flavor.
            name: A regular expression of the cloud's database: ``bob`` finds ``bobb`` as well, ``^bob$`` does not.
            status: One of `ServerStatus`.
            tags: A tag, or several that a server must all have.
            not_tags: A tag, or several of which a server must not have all.
            reservation_id: What servers created in one batch share.
            sort_key: What to sort by, the first key first; the cloud's default is ``created_at``.
            sort_dir: ``asc`` or ``desc`` for each key; the cloud's default is ``desc``.
            limit: Servers a page, 1 to 1000, which is the default; not how many come in all.
            bare_metal_only: Leave out the virtual machines that the cloud lists as well.
            microversion: The version of the API to ask in; filters by tag and by reservation need ``2.26``.

        Raises:
            InvalidRequestError: An argument is invalid, or something goes with ``image``; nothing was sent.

        Source: API reference 5.2.5.
        """
        filters = ServerFilters(
            changes_since=changes_since,
            image=image,
            flavor=flavor,
            name=name,
            status=status,
            tags=tags,
            not_tags=not_tags,
            reservation_id=reservation_id,
            sort_key=sort_key,
            sort_dir=sort_dir,
            limit=limit,
        )
        if self._check:
            filters.check()
        headers = self._headers_for(filters, microversion, default=TAGS_MICROVERSION if bare_metal_only else None)
        return self._iterate(LIST_DETAILS, Server, filters, headers, bare_metal_only=bare_metal_only)

    def _headers_for(
        self, filters: ServerFilters, microversion: str | None, *, default: str | None = None
    ) -> Mapping[str, str]:
        needed = TAGS_MICROVERSION if filters.needs_microversion else None
        return self._microversion_headers(microversion, default=needed or default, at_least=needed)

    def _iterate(
        self,
        operation: Operation[NativePage],
        into: type[ServerT],
        filters: ServerFilters,
        headers: Mapping[str, str],
        *,
        bare_metal_only: bool,
    ) -> NativeServerList[ServerT]:
        async def fetch(marker: str | None) -> NativePage:
            return await self._session.call(operation, query=filters.query(marker), headers=headers)

        def is_wanted(server: Server | BriefServer) -> bool:
            return not bare_metal_only or not isinstance(server, Server) or server.is_bare_metal

        return NativeServerList(
            fetch,
            self._session,
            operation=operation.name,
            into=into,
            page_size=filters.page_size,
            keep=is_wanted,
            moving=filters.is_unstable_order,
        )
