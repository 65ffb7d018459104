"""The base class of the native resources."""

from __future__ import annotations

from collections.abc import Mapping

from bms_async.errors import NotFoundError
from bms_async.models.ids import canonical_id
from bms_async.session import Session
from bms_async.validation.common import check_id
from bms_async.validation.native import check_microversion, check_segment
from bms_async.wire import Operation

SERVERS = "/v2.1/{project_id}/servers"
SERVER = SERVERS + "/{server_id}"
MICROVERSION = "X-OpenStack-Nova-API-Version"


class Resource:
    """A resource of the native API."""

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    def _id(self, argument: str, value: str) -> str:
        return check_id(argument, value) if self._check else canonical_id(check_segment(argument, value))

    def _microversion_headers(
        self, microversion: str | None, *, default: str | None = None, at_least: str | None = None
    ) -> Mapping[str, str]:
        """Return the header for a microversion; empty if none is given or needed."""
        if microversion is not None:
            # Checked whatever `check` says, for it becomes a header; its minimum is not.
            check_microversion("microversion", microversion, at_least=at_least if self._check else None)
        chosen = microversion or default
        return {} if chosen is None else {MICROVERSION: chosen}

    async def _delete(
        self, operation: Operation[None], path: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> None:
        """Delete a resource; a 404 is not an error if an earlier attempt of this call may have deleted it."""
        try:
            await self._session.call(operation, path=path, headers=headers)
        except NotFoundError as error:
            if not error.maybe_done:
                raise
