"""Servers, as the native calls report them (API reference 5.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from bms_async.errors import InvalidRequestError
from bms_async.jobs import POLL_BUDGET_SHARE, Patience
from bms_async.limits import Lane, Pacer
from bms_async.models import CreatedServer, Network, Server
from bms_async.redaction import wrap_secrets
from bms_async.session import Session
from bms_async.validation.native import check_status, check_text
from bms_async.validation.text import check_native_name
from bms_async.wire import NO_RETRY, Operation

from . import server_operations as calls
from .creation import NewServer, check_new_server, secrets_of, write_new_server
from .server_lists import ServerLists
from .server_poller import ServerPoller

_POLLS_A_MINUTE = 1000
"""Polls for all waits where no limit is set: what the BMS service's own read of a server allows (table 2-2)."""


class NovaServers(ServerLists):
    """Servers, one at a time and without jobs: ``bms.nova.servers``."""

    def __init__(self, session: Session, poller: ServerPoller, *, check: bool) -> None:
        super().__init__(session, check=check)
        self._poller = poller

    async def create(
        self,
        *,
        name: str,
        image: str,
        flavor: str,
        availability_zone: str,
        networks: Sequence[Network],
        key_name: str | None = None,
        admin_password: str | None = None,
        metadata: Mapping[str, str] | None = None,
        user_data: str | bytes | None = None,
        security_groups: Sequence[str] = (),
        microversion: str | None = None,
    ) -> CreatedServer:
        """Begin to create a server, and return its id; `wait_for` it to become ``ACTIVE``.

        Not sent again when an answer is lost: there would be two servers. The `TransportError` then says
        ``maybe_delivered``, and `list` finds the server by its name, if it is there.

        Give it the tag ``__type_baremetal`` afterwards (``bms.nova.tags.add``): without, the cloud's console may not
        show it, and `list` does not.

        Args:
            name: 1 to 255 characters.
            image: The id or the address of an image that suits the flavor.
            flavor: The id or the address of a flavor, such as ``physical.o2.medium``.
            availability_zone: The zone, without a host.
            networks: 1 to 4 networks, the primary NIC's first; all in one VPC, two at most of a kind.
            key_name: An SSH key pair; works with images that have Cloud-Init or Cloudbase-Init.
            admin_password: For Windows only: 8 to 26 characters of three kinds, no three of them in a row as in
                ``administrator``. The reference says that images with Cloud-Init do not
                heed it: a password comes there in ``user_data`` (Linux) or in the metadata ``admin_pass`` (Windows).
            metadata: From keys to values, of at most 255 characters each.
            user_data: Text or bytes to be injected, at most 32 KB; they are encoded here.
            security_groups: The name of one security group; the cloud's default is ``default``.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 5.2.1.
        """
        # The administrator's password of a Windows server is in its metadata.
        admin_password, metadata, user_data = (
            wrap_secrets(admin_password),
            wrap_secrets(metadata),
            wrap_secrets(user_data),
        )
        headers = self._microversion_headers(microversion)
        new = NewServer(
            name=name,
            image=image,
            flavor=flavor,
            availability_zone=availability_zone,
            networks=networks,
            key_name=key_name,
            admin_password=admin_password,
            metadata=metadata,
            user_data=user_data,
            security_groups=security_groups,
        )
        if self._check:
            check_new_server(new)
        body = write_new_server(new, check=self._check)
        response = await self._session.call(calls.CREATE, body=body, headers=headers, secrets=secrets_of(new, body))
        return response.server

    async def delete(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin to delete a server; `wait_until_deleted` waits until it is gone.

        Args:
            server_id: The server.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.2.2.
        """
        headers = self._microversion_headers(microversion)
        await self._delete(calls.DELETE, {"server_id": self._id("server_id", server_id)}, headers)

    async def get(self, server_id: str, *, microversion: str | None = None) -> Server:
        """Return one server with everything that the cloud reports about it.

        Args:
            server_id: The server.
            microversion: The version of the API to ask in; later ones tell more, such as the tags from ``2.26`` on.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.2.3.
        """
        path = {"server_id": self._id("server_id", server_id)}
        response = await self._session.call(calls.GET, path=path, headers=self._microversion_headers(microversion))
        return response.server

    async def rename(self, server_id: str, name: str, *, microversion: str | None = None) -> Server:
        """Give a server another name, and return the server.

        Args:
            server_id: The server.
            name: 1 to 255 characters.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.3.1.
        """
        path = {"server_id": self._id("server_id", server_id)}
        headers = self._microversion_headers(microversion)
        if self._check:
            check_text("name", check_native_name("name", name))
        response = await self._session.call(calls.RENAME, path=path, body={"server": {"name": name}}, headers=headers)
        return response.server

    async def start(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin to start a server; `wait_for` it to become ``ACTIVE``.

        Sent again when an answer is lost; if the first time went through, the cloud may then refuse the second, and
        the `ConflictError` says ``maybe_done``.

        Args:
            server_id: The server.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.2.
        """
        await self._act(calls.START, server_id, {"os-start": {}}, microversion)

    async def reboot(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin to restart a server, the hard way; `wait_for` it to become ``ACTIVE``.

        Never sent again when an answer is lost: the server would restart twice. The `TransportError` then says
        ``maybe_delivered``, and the server's own ``task_state`` and ``updated`` tell what happened.

        Args:
            server_id: The server.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.3.
        """
        await self._act(calls.REBOOT, server_id, {"reboot": {"type": "HARD"}}, microversion)

    async def stop(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin to stop a server, the hard way; `wait_for` it to become ``SHUTOFF``.

        Sent again when an answer is lost; if the first time went through, the cloud may then refuse the second, and
        the `ConflictError` says ``maybe_done``.

        Args:
            server_id: The server; its ``vm_state`` is to be active or error.
            microversion: The version of the API to ask in.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.4.
        """
        await self._act(calls.STOP, server_id, {"os-stop": {}}, microversion)

    async def wait_for(self, server_id: str, status: str, *, timeout: float | None = None) -> Server:
        """Wait until a server has a status, and return the server as it was seen then.

        Any number may wait for one server: it is polled once for all of them, at once for whoever comes, and then more
        and more seldom up to every 15 s. ``ACTIVE`` and ``SHUTOFF`` count when nothing is being done with the server
        any more. Polls that fail are made again; a timeout or a cancellation ends this wait and no other.

        Args:
            server_id: The server.
            status: One of `ServerStatus`.
            timeout: Seconds to wait at most; None waits for as long as the client's `Patience` has it.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ServerFaultError: The server is in ERROR and nothing is being done with it, or has been for five minutes.
            ServerLostError: There is no such server (any more), or nothing new was told of it for too long.
            ServerWaitTimeoutError: The time is over; the error holds what was seen last.
            ClientClosedError: The client was closed.

        Source: API reference 5.2.3.
        """
        fit_id = self._id("server_id", server_id)
        if self._check:
            check_status("status", status)
            _check_timeout(timeout)
        # Only a deletion has no server to show.
        return cast("Server", await self._poller.wait(fit_id, str(status), timeout))

    async def wait_until_deleted(self, server_id: str, *, timeout: float | None = None) -> None:
        """Wait until a server is gone: until the compute service says that it does not know it, or that it is deleted.

        Args:
            server_id: The server.
            timeout: Seconds to wait at most; None waits for as long as the client's `Patience` has it.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ServerFaultError: The server is in ERROR and is not being deleted, or has been for five minutes.
            ServerLostError: What answered 404 was not the compute service, or nothing new was told for too long.
            ServerWaitTimeoutError: The time is over; the error holds what was seen last.
            ClientClosedError: The client was closed.

        Source: API reference 5.2.2 and 5.2.3.
        """
        fit_id = self._id("server_id", server_id)
        if self._check:
            _check_timeout(timeout)
        await self._poller.wait(fit_id, None, timeout)

    async def _act(
        self, operation: Operation[None], server_id: str, body: Mapping[str, object], microversion: str | None
    ) -> None:
        path = {"server_id": self._id("server_id", server_id)}
        await self._session.call(operation, path=path, body=body, headers=self._microversion_headers(microversion))


def make_poller(session: Session, patience: Patience | None = None) -> ServerPoller:
    """Return what polls servers for all who wait for one: behind everybody who asks himself, and without retries.

    Args:
        session: What makes the calls; whatever bounds others have, a poll waits for its slot.
        patience: How long the cloud may tell nothing new of a server.
    """
    patient = session.unbounded()

    async def poll(server_id: str) -> Server:
        path = {"server_id": server_id}
        return patient.with_masked_text(
            (await patient.call(calls.GET, path=path, lane=Lane.BULK, retry=NO_RETRY)).server
        )

    polls = session.limits[calls.GET.name].limit or _POLLS_A_MINUTE
    return ServerPoller(poll, session.start, pace=Pacer(polls * POLL_BUDGET_SHARE), patience=patience)


def _check_timeout(timeout: object) -> None:
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise InvalidRequestError("timeout", timeout, "seconds, at least 0, or None to wait as long as it takes")
