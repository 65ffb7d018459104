"""The native API of a client: single calls, and fleets of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bms_async.api import BareMetalFilter
from bms_async.api.nova.nova import Nova
from bms_async.api.nova.server_poller import ServerPoller

if TYPE_CHECKING:
    from bms_async.session import Session

    from .fleet import NativeFleet


class ClientNova(Nova):
    """The native OpenStack calls of a client: those of `Nova`, and ``fleet``, the same on any number of servers."""

    def __init__(self, session: Session, poller: ServerPoller, bare_metal: BareMetalFilter, *, check: bool) -> None:
        super().__init__(session, poller, bare_metal, check=check)
        self._session = session
        self._check = check

    @cached_property
    def fleet(self) -> NativeFleet:
        """Power actions on any number of servers."""
        from .fleet import NativeFleet  # noqa: PLC0415 - most clients use the batches of `bms.fleet`

        return NativeFleet(self._session.unbounded(), check=self._check)
