"""A client's calls, and the same calls made in another way."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from bms_async.api import (
    Flavors,
    Identity,
    Jobs,
    Nova,
    ProjectQuotas,
    ServerPoller,
    Servers,
    ServiceName,
    Versions,
    make_poller,
    request,
    wrap_body_secrets,
)
from bms_async.fleet import Fleet
from bms_async.jobs import Watcher
from bms_async.limits import Lane, Limits
from bms_async.redaction import wrap_address, wrap_secrets
from bms_async.session import Session
from bms_async.wire import Query, RetryPolicy


class ClientView:
    """All calls of a client, made in one way; `with_options` gives another view of the same client.

    A view has no life of its own: it is open as long as its client is.
    """

    def __init__(self, session: Session, watcher: Watcher, *, check: bool, poller: ServerPoller | None = None) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check
        self._poller = poller or make_poller(session.for_polling())
        self.servers = Servers(session, watcher, check=check)
        self.flavors = Flavors(session, check=check)
        self.quotas = ProjectQuotas(session)
        self.versions = Versions(session, check=check)
        self.identity = Identity(session, check=check)
        self.nova = Nova(session, self._poller, check=check)
        self.jobs = Jobs(session, watcher, check=check)
        self.fleet = Fleet(session.unbounded(), watcher, check=check)

    def __repr__(self) -> str:
        return f"<ClientView of project {self.project_id}>"

    @property
    def project_id(self) -> str | None:
        """The project whose servers these are; None as long as it was not found."""
        return self._session.project_id

    @property
    def limits(self) -> Limits:
        """The limits, to look at or to share with another client."""
        return self._session.limits

    def with_options(
        self,
        *,
        timeout: float | UnsetType = UNSET,
        total_timeout: float | UnsetType | None = UNSET,
        retry: RetryPolicy | UnsetType | None = UNSET,
        lane: Lane | UnsetType | None = UNSET,
        max_wait: float | UnsetType | None = UNSET,
    ) -> ClientView:
        """Return the same client, with its calls made in another way; what is not given stays as it is here.

        It costs some microseconds, and shares everything: connections, limits, credentials, the watcher of jobs.

        ::

            server = await bms.with_options(max_wait=2.0, total_timeout=10.0).servers.get(server_id)

        Args:
            timeout: Seconds that one try of a call may take once it is connected; waiting for a slot does not count.
            total_timeout: Seconds that a whole call may take, with all its waiting and all its tries; None for no end.
            retry: How failed calls are tried again; None never does.
            lane: Who goes first when calls must wait; it wins over what a single call says. None leaves it to the
                call.
            max_wait: Seconds that a call may wait for its slot: if it would be longer it fails at once, and says how
                long it would have been. None waits for as long as the limit asks.

        Raises:
            InvalidRequestError: One of them cannot be right.

        A fleet run waits for as long as it takes, whatever `total_timeout` and `max_wait` say.
        """
        options = self._session.options.replace(
            timeout=timeout, total_timeout=total_timeout, retry=retry, lane=lane, max_wait=max_wait
        )
        session = self._session.with_options(options)
        return ClientView(session, self._watcher, check=self._check, poller=self._poller)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        service: ServiceName = "bms",
    ) -> object:
        """Make a call that this package has no method for; with credentials, retries and the same errors as all others.

        ::

            raw = await bms.request("GET", "/v1/{project_id}/anything", query={"limit": 10})

        A call that the reference tells of keeps within its limit, whoever makes it; others are not limited. GET and
        HEAD are sent again when an answer is lost, the others only when the request surely never arrived.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            path: The path, where ``{project_id}`` stands for the client's project; what else is in it must already be
                percent-encoded.
            query: None values are left out, sequences repeat their name.
            body: What is sent as JSON; None sends no body.
            headers: Beside those that all calls have. Its texts and the body's may be secrets, and are masked in what
                an error tells, unless they are ids or have less than 8 characters.
            service: Whose endpoint it goes to: ``bms``, ``compute`` or ``identity``.

        Returns:
            The answer's JSON as dicts, lists, texts and numbers; None where there was no body.

        Raises:
            InvalidRequestError: An argument cannot be sent; nothing was.
            DecodeError: The answer is no JSON.

        Source: API reference 3.1; table 2-2 for the limits.
        """
        # What an unknown call sends, and in which header, nobody can tell: all of it may be secret.
        path, headers, body = wrap_address(path), wrap_secrets(headers), wrap_body_secrets(body)
        return await request(self._session, method, path, query=query, body=body, headers=headers, service=service)
