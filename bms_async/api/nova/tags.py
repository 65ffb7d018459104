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
    """All tags of a server."""

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
    title="Replace all tags of a server",
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
    title="Remove all tags from a server",
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
    title="Add a tag to a server",
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
    title="Check whether a server has a tag",
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
    title="Remove a tag from a server",
    chapter="5.10.6",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
    headers=_HEADERS,
)


class Tags(Resource):
    """Tags of servers: ``bms.nova.tags``.

    The cloud's console recognizes bare-metal servers by the tag `bms_async.models.BARE_METAL_TAG`: keep it.
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
        """Replace all tags of a server, and return its tags.

        Args:
            server_id: The server.
            tags: At most 50, of 1 to 80 characters each. Include ``__type_baremetal``, or it is removed.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.2.
        """
        path = {"server_id": self._id("server_id", server_id)}
        new_tags = check_tags("tags", tags) if self._check else tuple(tags)
        response = await self._session.call(REPLACE, path=path, body={"tags": list(dict.fromkeys(new_tags))})
        return response.tags or ()

    async def clear(self, server_id: str) -> None:
        """Remove all tags from a server, including ``__type_baremetal``.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.3.
        """
        await self._session.call(CLEAR, path={"server_id": self._id("server_id", server_id)})

    async def add(self, server_id: str, tag: str) -> None:
        """Add a tag to a server; no effect if the server has it already.

        Args:
            server_id: The server.
            tag: 1 to 80 characters, without ``/`` and ``,``, and not beginning with ``.``. A server has at most 50.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.10.4.
        """
        await self._session.call(ADD, path=self._path(server_id, tag))

    async def has(self, server_id: str, tag: str) -> bool:
        """Return whether a server has a tag.

        The cloud responds 404 both for a missing tag and for a missing server, and only its words distinguish them. A
        404 that mentions the tag, or has no words, means False; any other 404 is raised.

        Args:
            server_id: The server.
            tag: The tag, of 1 to 80 characters.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project, or the response is not from the compute service.

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
        """Remove a tag from a server.

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
    # An id has no space, so these words cannot be part of an echoed id. The code "404" is the compute service's own;
    # a gateway has other codes, and the page of a proxy has none.
    return error.says("no tag") or (error.code == "404" and not error.message)
