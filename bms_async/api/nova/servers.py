"""Servers of the native API (API reference 5.2 and 5.3)."""

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
from .bare_metal import BareMetalFilter
from .creation import NewServer, check_new_server, secrets_of, write_new_server
from .server_lists import ServerLists
from .server_poller import ServerPoller

_POLLS_A_MINUTE = 1000
"""Polls a minute for all waits if no limit is set: the documented limit of the BMS service for reads (table 2-2)."""


class NovaServers(ServerLists):
    """Servers, one at a time and without jobs: ``bms.nova.servers``."""

    def __init__(self, session: Session, poller: ServerPoller, bare_metal: BareMetalFilter, *, check: bool) -> None:
        super().__init__(session, bare_metal, check=check)
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

        Not sent again when a response is lost: that could create two servers. The `TransportError` then says
        ``maybe_delivered``, and `list` finds the server by its name if it exists.

        Add the tag ``__type_baremetal`` afterwards (``bms.nova.tags.add``): without it the cloud's console may not show
        the server, and `list` does not.

        Args:
            name: 1 to 255 characters.
            image: The id or the URL of an image that is compatible with the flavor.
            flavor: The id or the URL of a flavor, such as ``physical.o2.medium``.
            availability_zone: The zone, without a host.
            networks: 1 to 4 networks, that of the primary NIC first; all in one VPC, at most two of a kind.
            key_name: An SSH key pair; effective in images with Cloud-Init or Cloudbase-Init.
            admin_password: For Windows only: 8 to 26 characters of at least three classes, without three consecutive
                characters of ``administrator``. Images with Cloud-Init ignore it: set the password by ``user_data``
                (Linux) or by the metadata ``admin_pass`` (Windows).
            metadata: Keys and values of at most 255 characters.
            user_data: Text or bytes to be injected, at most 32 KB; encoded as base64 here.
            security_groups: The name of one security group; the cloud's default is ``default``.
            microversion: The API version of the request.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 5.2.1.
        """
        # Metadata hold the administrator's password of a Windows server.
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
            microversion: The API version of the request.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.2.2.
        """
        headers = self._microversion_headers(microversion)
        await self._delete(calls.DELETE, {"server_id": self._id("server_id", server_id)}, headers)

    async def get(self, server_id: str, *, microversion: str | None = None) -> Server:
        """Return one server with all its details.

        Args:
            server_id: The server.
            microversion: The API version of the request; later ones return more, such as the tags from ``2.26`` on.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.2.3.
        """
        path = {"server_id": self._id("server_id", server_id)}
        response = await self._session.call(calls.GET, path=path, headers=self._microversion_headers(microversion))
        return response.server

    async def rename(self, server_id: str, name: str, *, microversion: str | None = None) -> Server:
        """Rename a server and return it.

        Args:
            server_id: The server.
            name: 1 to 255 characters.
            microversion: The API version of the request.

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

        Sent again when a response is lost; if the first request was executed, the cloud may refuse the second, and the
        `ConflictError` then says ``maybe_done``.

        Args:
            server_id: The server.
            microversion: The API version of the request.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.2.
        """
        await self._act(calls.START, server_id, microversion)

    async def reboot(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin a hard reboot of a server; `wait_for` it to become ``ACTIVE``.

        Never sent again when a response is lost: the server could restart twice. The `TransportError` then says
        ``maybe_delivered``, and the server's own ``task_state`` and ``updated`` show what happened.

        Args:
            server_id: The server.
            microversion: The API version of the request.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.3.
        """
        await self._act(calls.REBOOT, server_id, microversion)

    async def stop(self, server_id: str, *, microversion: str | None = None) -> None:
        """Begin to stop a server by cutting its power; `wait_for` it to become ``SHUTOFF``.

        Sent again when a response is lost; if the first request was executed, the cloud may refuse the second, and the
        `ConflictError` then says ``maybe_done``.

        Args:
            server_id: The server; its ``vm_state`` must be active or error.
            microversion: The API version of the request.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.3.4.
        """
        await self._act(calls.STOP, server_id, microversion)

    async def wait_for(self, server_id: str, status: str, *, timeout: float | None = None) -> Server:
        """Wait until a server has a status, and return the server as it was then.

        All waiters of a server share its polls: one at once for each new waiter, then at growing intervals of up to
        15 s. ``ACTIVE`` and ``SHUTOFF`` count only if the server has no running task. Failed polls are repeated; a
        timeout or a cancellation ends this wait and no other.

        Args:
            server_id: The server.
            status: One of `ServerStatus`.
            timeout: Maximum wait in seconds; None waits as long as the client's `Patience` allows.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ServerFaultError: The server is in ERROR without a running task, or has been in ERROR for five minutes.
            ServerLostError: There is no such server (any more), or it was unchanged or unreadable for too long.
            ServerWaitTimeoutError: The wait timed out; the error has the server's last known state.
            ClientClosedError: The client was closed.

        Source: API reference 5.2.3.
        """
        server_id = self._id("server_id", server_id)
        if self._check:
            check_status("status", status)
            _check_timeout(timeout)
        # Only a wait for the deletion returns None.
        return cast("Server", await self._poller.wait(server_id, str(status), timeout))

    async def wait_until_deleted(self, server_id: str, *, timeout: float | None = None) -> None:
        """Wait until a server is deleted: until the compute service responds 404, or with a status that says so.

        Args:
            server_id: The server.
            timeout: Maximum wait in seconds; None waits as long as the client's `Patience` allows.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ServerFaultError: The server is in ERROR without a running task, or has been in ERROR for five minutes.
            ServerLostError: A 404 was not from the compute service, or the server was unchanged or unreadable for too
                long.
            ServerWaitTimeoutError: The wait timed out; the error has the server's last known state.
            ClientClosedError: The client was closed.

        Source: API reference 5.2.2 and 5.2.3.
        """
        server_id = self._id("server_id", server_id)
        if self._check:
            _check_timeout(timeout)
        await self._poller.wait(server_id, None, timeout)

    async def _act(self, operation: Operation[None], server_id: str, microversion: str | None) -> None:
        path, body = {"server_id": self._id("server_id", server_id)}, calls.ACTION_BODIES[operation.name]
        await self._session.call(operation, path=path, body=body, headers=self._microversion_headers(microversion))


def make_poller(session: Session, patience: Patience | None = None) -> ServerPoller:
    """Return the poller that all waiters share; its calls use the bulk lane and are not retried.

    Args:
        session: The session that makes the calls; a poll waits for its slot whatever `max_wait` other calls have.
        patience: How long a server may show no change, or not be readable, before a wait for it ends.
    """
    unbounded = session.unbounded()

    async def poll(server_id: str) -> Server:
        path = {"server_id": server_id}
        return unbounded.with_masked_text(
            (await unbounded.call(calls.GET, path=path, lane=Lane.BULK, retry=NO_RETRY)).server
        )

    polls = session.limits[calls.GET.name].limit or _POLLS_A_MINUTE
    return ServerPoller(poll, session.start, pace=Pacer(polls * POLL_BUDGET_SHARE), patience=patience)


def _check_timeout(timeout: object) -> None:
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise InvalidRequestError("timeout", timeout, "expected seconds, at least 0, or None for no timeout")
