"""The lists of servers (API reference 5.2.4 and 5.2.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, Unpack

from bms_async.models import BriefServer, Server
from bms_async.session import Session
from bms_async.validation.native import TAGS_MICROVERSION
from bms_async.wire import Operation

from ._resource import Resource
from .bare_metal import BareMetal, BareMetalFilter, to_brief
from .server_filters import ServerFilterOptions, ServerFilters
from .server_operations import LIST, LIST_DETAILS
from .server_pages import NativePage, NativeServerList, ServerT

Listed = TypeVar("Listed", Server, BriefServer)


def _unchanged(server: ServerT) -> ServerT:
    return server


class ServerLists(Resource):
    """The lists of `NovaServers`."""

    def __init__(self, session: Session, bare_metal: BareMetalFilter, *, check: bool) -> None:
        super().__init__(session, check=check)
        self._bare_metal = bare_metal

    def list(
        self,
        *,
        bare_metal_only: bool | BareMetal = True,
        microversion: str | None = None,
        **filters: Unpack[ServerFilterOptions],
    ) -> NativeServerList[BriefServer]:
        """Iterate over the ids and names of the servers that match all filters; one page is prefetched.

        The brief list does not show whether a server is bare metal or a virtual machine, so the cloud has to filter:
        ``bare_metal_only`` adds the tag ``__type_baremetal``. A bare-metal server that has lost this tag is not listed;
        `list_details` finds it by its flavor. Where the client's `BareMetal` goes by flavors, this list is made from
        that of the details.

        Args:
            bare_metal_only: Whether to leave out virtual machines: by the client's setting, or by a `BareMetal`. One by
                a tag cannot be combined with ``image``.
            microversion: The API version of the request; filters by tag and by reservation need ``2.26``, which is then
                the default.
            **filters: See `ServerFilterOptions`.

        Raises:
            InvalidRequestError: An argument is invalid, or is combined with ``image``; nothing was sent.

        Source: API reference 5.2.4.
        """
        options = self._checked(filters)
        setting = self._bare_metal.choose(bare_metal_only, check=self._check)
        if setting.needs_details:
            headers = self._headers_for(options, microversion)
            return self._iterate(LIST_DETAILS, Server, options, headers, setting, show=to_brief)
        asked = options if setting.tag is None else options.with_bare_metal_tag(setting.tag, check=self._check)

        def note_end(_read: int, kept: int) -> None:
            # With filters of the caller's an empty list says nothing of the tag.
            if options.is_empty:
                self._bare_metal.note_end(LIST.name, setting, read=None, kept=kept)

        headers = self._headers_for(asked, microversion)
        return self._iterate(LIST, BriefServer, asked, headers, BareMetal.all(), show=_unchanged, note_end=note_end)

    def list_details(
        self,
        *,
        bare_metal_only: bool | BareMetal = True,
        microversion: str | None = None,
        **filters: Unpack[ServerFilterOptions],
    ) -> NativeServerList[Server]:
        """Iterate over the servers that match all filters; one page is prefetched.

        The cloud lists virtual machines too; ``bare_metal_only`` skips them here, by each server's tag and flavor, or
        by the client's `BareMetal`. Tags are included from microversion ``2.26`` on, which is then the default.

        Args:
            bare_metal_only: Whether to leave out virtual machines: by the client's setting, or by a `BareMetal`.
            microversion: The API version of the request; filters by tag and by reservation need ``2.26``.
            **filters: See `ServerFilterOptions`.

        Raises:
            InvalidRequestError: An argument is invalid, or is combined with ``image``; nothing was sent.

        Source: API reference 5.2.5.
        """
        options = self._checked(filters)
        setting = self._bare_metal.choose(bare_metal_only, check=self._check)
        default = None if setting.tag is None else TAGS_MICROVERSION
        headers = self._headers_for(options, microversion, default=default)
        return self._iterate(LIST_DETAILS, Server, options, headers, setting, show=_unchanged)

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
        into: type[Listed],
        filters: ServerFilters,
        headers: Mapping[str, str],
        setting: BareMetal,
        *,
        show: Callable[[Listed], ServerT],
        note_end: Callable[[int, int], None] | None = None,
    ) -> NativeServerList[ServerT]:
        async def fetch(marker: str | None) -> NativePage:
            return await self._session.call(operation, query=filters.query(marker), headers=headers)

        def keep(server: Listed) -> bool | None:
            return self._bare_metal.judge(server, setting) if isinstance(server, Server) else True

        async def find_out(server: Listed) -> bool:
            return not isinstance(server, Server) or await self._bare_metal.find_out(self._session, server, setting)

        def note(read: int, kept: int) -> None:
            self._bare_metal.note_end(operation.name, setting, read=read, kept=kept)

        return NativeServerList(
            fetch,
            self._session,
            operation=operation.name,
            into=into,
            page_size=filters.page_size,
            keep=keep,
            find_out=find_out,
            show=show,
            on_end=note_end or note,
            is_unstable_order=filters.is_unstable_order,
        )
