"""The lists of servers (API reference 5.2.4 and 5.2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from bms_async.models import BriefServer, Server
from bms_async.validation.native import TAGS_MICROVERSION
from bms_async.wire import Operation

from ._resource import Resource
from .server_filters import ServerFilterOptions, ServerFilters
from .server_operations import LIST, LIST_DETAILS
from .server_pages import NativePage, NativeServerList, ServerT


class ServerLists(Resource):
    """The lists of `NovaServers`."""

    def list(
        self, *, bare_metal_only: bool = True, microversion: str | None = None, **filters: Unpack[ServerFilterOptions]
    ) -> NativeServerList[BriefServer]:
        """Iterate over the ids and names of the servers that match all filters; one page is prefetched.

        The brief list does not show whether a server is bare metal or a virtual machine, so the cloud has to filter:
        ``bare_metal_only`` adds the tag ``__type_baremetal``. A bare-metal server that has lost this tag is not listed;
        `list_details` finds it by its flavor.

        Args:
            bare_metal_only: Whether to leave out virtual machines; cannot be combined with ``image``.
            microversion: The API version of the request; filters by tag and by reservation need ``2.26``, which is then
                the default.
            **filters: See `ServerFilterOptions`.

        Raises:
            InvalidRequestError: An argument is invalid, or is combined with ``image``; nothing was sent.

        Source: API reference 5.2.4.
        """
        options = self._checked(filters)
        if bare_metal_only:
            options = options.with_bare_metal_tag(check=self._check)
        headers = self._headers_for(options, microversion)
        return self._iterate(LIST, BriefServer, options, headers, bare_metal_only=False)

    def list_details(
        self, *, bare_metal_only: bool = True, microversion: str | None = None, **filters: Unpack[ServerFilterOptions]
    ) -> NativeServerList[Server]:
        """Iterate over the servers that match all filters; one page is prefetched.

        The cloud lists virtual machines too; ``bare_metal_only`` skips them here, by each server's tag and flavor. Tags
        are included from microversion ``2.26`` on, which is then the default.

        Args:
            bare_metal_only: Whether to leave out virtual machines.
            microversion: The API version of the request; filters by tag and by reservation need ``2.26``.
            **filters: See `ServerFilterOptions`.

        Raises:
            InvalidRequestError: An argument is invalid, or is combined with ``image``; nothing was sent.

        Source: API reference 5.2.5.
        """
        options = self._checked(filters)
        headers = self._headers_for(options, microversion, default=TAGS_MICROVERSION if bare_metal_only else None)
        return self._iterate(LIST_DETAILS, Server, options, headers, bare_metal_only=bare_metal_only)

    def _checked(self, filters: ServerFilterOptions) -> ServerFilters:
        options = ServerFilters(**filters)
        if self._check:
            options.check()
        return options

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
            is_unstable_order=filters.is_unstable_order,
        )
