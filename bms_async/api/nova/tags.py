"""Tags of servers (API reference 5.10)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from bms_async.api._registry import define
from bms_async.errors import NotFoundError
from bms_async.models import Model
from bms_async.validation.native import TAGS_MICROVERSION, check_segment
from bms_async.validation.text import check_tag, check_tags
from bms_async.wire import Safety, Service

from ._resource import MICROVERSION, SERVER, Resource


class TagsResponse(Model, frozen=True, kw_only=True):
    """What `GET` and `PUT` of all tags answer."""

    tags: tuple[str, ...] | Literal[""] | None


_TAGS = SERVER + "/tags"
_TAG = _TAGS + "/{tag}"
_HEADERS = {MICROVERSION: TAGS_MICROVERSION}

LIST = define(
    "nova.tags.list",
    "GET",
    _TAGS,
    TagsResponse,
    title="Read a server's tags",
    chapter="5.10.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
    headers=_HEADERS,
)
REPLACE = define(
    "nova.tags.replace",
    "PUT",
    _TAGS,
    TagsResponse,
    title="Give a server these tags instead of those it has",
    chapter="5.10.2",
    safety=Safety.IDEMPOTENT,
    service=Service.COMPUTE,
    headers=_HEADERS,
)
CLEAR = define(
    "nova.tags.clear",
    "DELETE",
    _TAGS,
    type(None),
    title="Take all tags off a server",
    chapter="5.10.3",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
    headers=_HEADERS,
)
ADD = define(
    "nova.tags.add",
    "PUT",
    _TAG,
    type(None),
    title="Give a server one more tag",
    chapter="5.10.4",
    safety=Safety.IDEMPOTENT,
    success=(201, 204),
    service=Service.COMPUTE,
    headers=_HEADERS,
)
HAS = define(
    "nova.tags.has",
    "GET",
    _TAG,
    type(None),
    title="Ask whether a server has a tag",
    chapter="5.10.5",
    safety=Safety.READ,
    success=(204,),
    service=Service.COMPUTE,
    headers=_HEADERS,
)
REMOVE = define(
    "nova.tags.remove",
    "DELETE",
    _TAG,
    type(None),
    title="Take one tag off a server",
    chapter="5.10.6",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
    headers=_HEADERS,
)


class Tags(Resource):
    """Tags of servers: ``bms.nova.tags``.

    The tag `bms_async.models.BARE_METAL_TAG` is what makes a bare-metal server one in the cloud's own console: keep it.
    """

    async def list(self, server_id: str) -> tuple[str, ...]:
        """Return a server's tags.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.1.
        """
        response = await self._session.call(LIST, path={"server_id": self._id("server_id", server_id)})
        return response.tags or ()

    async def replace(self, server_id: str, tags: Iterable[str]) -> tuple[str, ...]:
        """Give a server these tags instead of all that it has, and return what it has then.

        Args:
            server_id: The server.
            tags: At most 50, of 1 to 80 characters each. ``__type_baremetal`` is lost unless it is among them.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.2.
        """
        path = {"server_id": self._id("server_id", server_id)}
        wanted = check_tags("tags", tags) if self._check else tuple(tags)
        response = await self._session.call(REPLACE, path=path, body={"tags": list(dict.fromkeys(wanted))})
        return response.tags or ()

    async def clear(self, server_id: str) -> None:
        """Take all tags off a server, ``__type_baremetal`` included.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.3.
        """
        await self._session.call(CLEAR, path={"server_id": self._id("server_id", server_id)})

    async def add(self, server_id: str, tag: str) -> None:
        """Give a server one more tag; one that it has already stays.

        Args:
            server_id: The server.
            tag: 1 to 80 characters, without ``/`` and ``,``; the first is no ``.``. A server has at most 50.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.4.
        """
        await self._session.call(ADD, path=self._path(server_id, tag))

    async def has(self, server_id: str, tag: str) -> bool:
        """Tell whether a server has a tag.

        The cloud answers 404 for a tag that is not there and for a server that is not there, and only its words tell
        them apart. "No" is what says so, or says nothing at all; any other 404 is raised.

        Args:
            server_id: The server.
            tag: The tag, of 1 to 80 characters.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project, or what answered was not the compute service.

        Source: API reference 5.10.5.
        """
        try:
            await self._session.call(HAS, path=self._path(server_id, tag))
        except NotFoundError as error:
            if _says_no_tag(error):
                return False
            raise
        return True

    async def remove(self, server_id: str, tag: str) -> None:
        """Take one tag off a server.

        Args:
            server_id: The server.
            tag: The tag, of 1 to 80 characters. Without ``__type_baremetal`` the cloud's console shows the server
                among the virtual machines.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: The server does not have the tag, or does not exist.

        Source: API reference 5.10.6.
        """
        await self._delete(REMOVE, self._path(server_id, tag))

    def _path(self, server_id: str, tag: str) -> dict[str, str]:
        server = self._id("server_id", server_id)
        return {"server_id": server, "tag": check_segment("tag", check_tag("tag", tag) if self._check else tag)}


def _says_no_tag(error: NotFoundError) -> bool:
    # An id has no blank, so that these words cannot come from the id of a server that does not exist. The compute
    # service's own 404 has its number for a code; a gateway's has a code of its own, and a proxy's page has none.
    return error.says("no tag") or (error.code == "404" and not error.message)
