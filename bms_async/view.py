"""The calls of a client with one set of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from bms_async.api import (
    BareMetalFilter,
    Flavors,
    Identity,
    Jobs,
    ProjectQuotas,
    Servers,
    ServiceName,
    Versions,
    request,
    wrap_body_secrets,
)
from bms_async.jobs import Watcher
from bms_async.limits import Lane, Limits
from bms_async.reconcile.backoff import Backoff
from bms_async.redaction import wrap_address, wrap_secrets
from bms_async.session import Session
from bms_async.wire import Query, RetryPolicy

if TYPE_CHECKING:
    from bms_async.api.nova.server_poller import ServerPoller
    from bms_async.fleet import Fleet
    from bms_async.fleet.native.nova import ClientNova
    from bms_async.fleet.rollout.rollout import Rollout
    from bms_async.reconcile.reconciler import Reconciler
    from bms_async.reconcile.wishes import PowerWishes
    from bms_async.runs import DurableRuns


class ClientView:
    """All calls of a client with one set of options; `with_options` returns another view of the same client.

    A view is open for as long as its client is.
    """

    def __init__(
        self,
        session: Session,
        watcher: Watcher,
        *,
        make_runs: Callable[[], DurableRuns],
        make_power: Callable[[], PowerWishes],
        find_poller: Callable[[], ServerPoller],
        check: bool,
        has_journal: bool = False,
        bare_metal: BareMetalFilter | None = None,
    ) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check
        self._find_poller = find_poller
        self.servers = Servers(session, watcher, check=check)
        self.flavors = Flavors(session, check=check)
        self.quotas = ProjectQuotas(session)
        self.versions = Versions(session, check=check)
        self.identity = Identity(session, check=check)
        self._bare_metal = bare_metal or BareMetalFilter()
        self.jobs = Jobs(session, watcher, check=check)
        self._make_runs = make_runs
        self._has_journal = has_journal
        self._make_power = make_power

    def __repr__(self) -> str:
        return f"<ClientView of project {self.project_id}>"

    @cached_property
    def nova(self) -> ClientNova:
        """The native calls of OpenStack."""
        from bms_async.fleet.native.nova import ClientNova  # noqa: PLC0415 - a command that only reads needs none

        return ClientNova(self._session, self._find_poller(), self._bare_metal, check=self._check)

    @cached_property
    def fleet(self) -> Fleet:
        """Runs over any number of servers."""
        from bms_async.fleet import Fleet  # noqa: PLC0415 - likewise

        return Fleet(self._session.unbounded(), self._watcher, check=self._check)

    @cached_property
    def power(self) -> PowerWishes:
        """Power actions on single servers, which are sent together."""
        return self._make_power()

    @cached_property
    def runs(self) -> DurableRuns:
        """Durable runs."""
        return self._make_runs()

    @property
    def project_id(self) -> str | None:
        """The project's id; None until it is known."""
        return self._session.project_id

    @property
    def limits(self) -> Limits:
        """The limits, for their statistics or to be shared with another client."""
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
        """Return the same client with other options; those that are not given stay as they are here.

        It costs some microseconds, and shares everything: connections, limits, credentials, the watcher of jobs.

        ::

            server = await bms.with_options(max_wait=2.0, total_timeout=10.0).servers.get(server_id)

        Args:
            timeout: Seconds that one attempt of a call may take once it is connected; waiting for a slot does not
                count.
            total_timeout: Seconds that a whole call may take, waiting and all attempts included; None for no bound.
            retry: How failed calls are retried; None for a single attempt.
            lane: The lane that calls wait in, whatever a single call says; None leaves it to the call.
            max_wait: Seconds that a call may wait for its slot: if it would be longer the call fails at once, with the
                wait in its error. None waits for as long as the limit requires.

        Raises:
            InvalidRequestError: A value is invalid.

        `total_timeout` and `max_wait` do not bound the calls of a fleet run, durable or not, and none of these is for
        ``power``, which sends the wishes of all together.
        """
        options = self._session.options.replace(
            timeout=timeout, total_timeout=total_timeout, retry=retry, lane=lane, max_wait=max_wait
        )
        session = self._session.with_options(options)
        return ClientView(
            session,
            self._watcher,
            make_runs=self._make_runs,
            make_power=self._make_power,
            check=self._check,
            has_journal=self._has_journal,
            find_poller=self._find_poller,
            bare_metal=self._bare_metal,
        )

    def reconciler(
        self,
        *,
        resync: float = 30.0,
        backoff: Backoff = Backoff(60.0, cap=3600.0),  # noqa: B008 - it is frozen
        wave_size: int = 200,
        rollout: Rollout | None = None,
        name: str = "power",
    ) -> Reconciler:
        """Return what brings servers to desired power states and keeps them there, for as long as its block lasts.

        ::

            async with bms.reconciler() as power:
                power.want("ACTIVE", ids)
                await power.synced(timeout=600)

        For a client with ``runs=`` it outlives the process: desired states are in the journal, what it begins are
        durable runs, and of its replicas one acts.

        Args:
            resync: Seconds between two readings of the states of all servers, in the bulk lane; one call reads 1000.
            backoff: How long a server is left alone after it could not be brought to its status.
            wave_size: How many servers may be under way at once, in all runs together.
            rollout: How each run walks through its servers, which are one wave at most; one run is under way at a time.
                None for runs that ask all their servers at once.
            name: Its name, in hook events, metrics and the log; with a journal also the name by which its replicas know
                each other.

        Raises:
            InvalidRequestError: An option is invalid.
            ClientClosedError: The client is not open.
        """
        from bms_async.reconcile.make import make_reconciler  # noqa: PLC0415 - most programs keep no states
        from bms_async.reconcile.options import ReconcilerOptions  # noqa: PLC0415

        options = ReconcilerOptions(
            resync=resync, backoff=backoff, wave_size=wave_size, rollout=rollout, name=name, check=self._check
        )
        return make_reconciler(self._session, self._watcher, options, runs=self.runs if self._has_journal else None)

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
        """Make a call that this package has no method for, with the same credentials, retries and errors.

        ::

            raw = await bms.request("GET", "/v1/{project_id}/anything", query={"limit": 10})

        A documented call keeps within its limit; others are not limited. GET and HEAD are retried when a response is
        lost, other methods only when the request surely never arrived.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            path: The path, with ``{project_id}`` for the client's project; the rest must be percent-encoded already.
            query: None values are left out, sequences repeat their name.
            body: The body, sent as JSON; None for no body.
            headers: Headers beside those of every call. Texts in the headers and in the body may be secrets, and are
                masked in errors, unless they are ids or have less than 8 characters.
            service: The service that it goes to: ``bms``, ``compute`` or ``identity``.

        Returns:
            The response's JSON as dicts, lists, texts and numbers; None for an empty body.

        Raises:
            InvalidRequestError: An argument cannot be sent; nothing was.
            DecodeError: The response is not JSON.

        Source: API reference 3.1; table 2-2 for the limits.
        """
        # An unknown call may send a secret in any header, and anywhere in its body.
        path, headers, body = wrap_address(path), wrap_secrets(headers), wrap_body_secrets(body)
        return await request(self._session, method, path, query=query, body=body, headers=headers, service=service)
