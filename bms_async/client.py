"""The client: makes its parts, opens and closes them, and has the resources as attributes."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable
from types import TracebackType, UnionType
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

import msgspec

from bms_async import config
from bms_async._foreign import is_own_cancellation
from bms_async._tasks import check_loop, finish_task, is_owned, outside_of_all
from bms_async._version import __version__
from bms_async.api import BareMetal, BareMetalFilter, find_project, poll_job
from bms_async.auth import Auth, ScopedAuth
from bms_async.config.arguments import choose_project_name, choose_transport, project_of, read_hooks
from bms_async.errors import ClientClosedError, ConfigurationError, InvalidRequestError
from bms_async.jobs import POLL_BUDGET_SHARE, Patience, Watcher, WatcherStatistics
from bms_async.limits import Account, Limits, Membership, Pacer
from bms_async.reconcile.wish_options import PowerStatistics, check_window
from bms_async.redaction import kind_of, wrap_address, wrap_secrets
from bms_async.session import CallOptions, Core, Session, SessionStatistics
from bms_async.telemetry import make_hooks, with_telemetry
from bms_async.transport import Transport
from bms_async.validation.common import check_id
from bms_async.view import ClientView
from bms_async.wire import DEFAULT_RETRY, RetryPolicy, Service

if TYPE_CHECKING:
    from bms_async.api.nova.server_poller import ServerPoller
    from bms_async.hooks import Hook
    from bms_async.reconcile.wishes import PowerWishes
    from bms_async.runs import DurableRuns, Runs

_POLLS_WITHOUT_LIMIT = 60_000.0
"""Polls of jobs a minute where the limit of ``jobs.get`` is lifted."""


class ClientOptions(TypedDict, total=False):
    """The arguments of `BmsClient` that `BmsClient.from_env` and `BmsClient.from_cloud` take too."""

    transport: Transport | None
    max_response_bytes: int | None
    limits: Limits | None
    runs: Runs | None
    timeout: float
    total_timeout: float | None
    max_wait: float | None
    retry: RetryPolicy | None
    patience: Patience
    bare_metal: BareMetal | None
    wish_window: float
    check: bool
    hooks: Hook | Iterable[Hook] | None
    telemetry: bool


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of a client's calls, of its watcher and of its wishes."""

    session: SessionStatistics
    watcher: WatcherStatistics
    power: PowerStatistics


class BmsClient(ClientView):
    """A project of a bare-metal cloud.

    ::

        async with BmsClient(endpoint=..., project_id=..., auth=StaticToken(token)) as bms:
            report = await bms.fleet.stop(ids)

    One client serves any number of tasks at once; it may be opened in one task and closed in another. It belongs to
    one event loop, and is opened once.

    Args:
        endpoint: The address of the BMS service; needed unless `region` and `domain` make it.
        project_id: The project's id; not needed where the credentials know it.
        project_name: The project's name, instead of its id; it is the region's id where the cloud made the project. The
            first call that needs the id looks it up at the identity service, once however many calls wait.
        auth: The credentials, such as `StaticToken`.
        compute_endpoint: The address of the ECS service, for native OpenStack calls; the BMS endpoint by default.
        identity_endpoint: The address of the IAM service; the BMS endpoint by default.
        region: The region's id, such as ``ae-ad-1``. With `domain` it makes each endpoint that is not given:
            ``https://{bms,ecs,iam}.{region}.{domain}``.
        domain: The DNS domain of the cloud, such as ``example.com``.
        transport: The transport that sends the requests, opened and closed with the client; by default an
            `Http1Transport` where the extra ``speedups`` is installed, and else an `HttpxTransport`.
        ca_bundle: A PEM file of certificates, or a directory of them, that TLS trusts instead of the usual ones. It is
            for the default transport; other transports have an argument of their own.
        max_response_bytes: Maximum size of a response in bytes, decompressed; 64 MiB by default. For the default
            transport, likewise.
        limits: The calls a minute that are allowed. By default all clients of one project in this process share one
            `Limits` with the documented limits; a client that is given another one is not counted with them.
        runs: The journal of durable runs, for ``bms.runs``, and of the jobs that all clients with this journal watch
            together; None for none.
        timeout: Seconds that one attempt of a call may take once it is connected; waiting for a slot does not count.
        total_timeout: Seconds that a whole call may take, waiting and all attempts included; None for no bound. It does
            not bound a fleet run, or waiting for a job.
        max_wait: Seconds that a call may wait for its slot: if it would be longer the call fails at once with a
            `WaitTooLongError`. None waits for as long as the limit requires.
        retry: How failed calls are retried; None for a single attempt.
        patience: How long the cloud may report nothing new of a job or a server before a wait for it ends.
        bare_metal: The sign by which the lists of ``bms.nova`` tell bare-metal servers from virtual machines, such as
            ``BareMetal.by_flavor_prefix("bm.")``; None for the tag ``__type_baremetal`` or a flavor that begins with
            ``physical.``.
        wish_window: Seconds in which the wishes of ``bms.power`` gather before they are sent together.
        check: Whether arguments are checked against the reference before anything is sent.
        hooks: A function that is called with each `HookEvent`, or several functions. They are called synchronously and
            must not block; an error that one of them raises is logged and has no other effect.
        telemetry: Whether a `Telemetry` is added to the hooks, which records OpenTelemetry spans and metrics with the
            global providers. It needs the extra ``otel``; all clients with this option share one.

    `with_options` changes `timeout`, `total_timeout`, `max_wait` and `retry` for some calls.

    Raises:
        ConfigurationError: An argument is invalid; the text names it, and says what to do.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        project_id: str | None = None,
        project_name: str | None = None,
        auth: Auth,
        compute_endpoint: str | None = None,
        identity_endpoint: str | None = None,
        region: str | None = None,
        domain: str | None = None,
        transport: Transport | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        max_response_bytes: int | None = None,
        limits: Limits | None = None,
        runs: Runs | None = None,
        timeout: float = 60.0,
        total_timeout: float | None = None,
        max_wait: float | None = None,
        retry: RetryPolicy | None = DEFAULT_RETRY,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
        bare_metal: BareMetal | None = None,
        wish_window: float = 0.05,
        check: bool = True,
        hooks: Hook | Iterable[Hook] | None = None,
        telemetry: bool = False,
    ) -> None:
        # An invalid address may hold a password, and a text in the place of credentials may well be a token.
        endpoint, compute_endpoint = wrap_address(endpoint), wrap_address(compute_endpoint)
        identity_endpoint, auth = wrap_address(identity_endpoint), wrap_secrets(auth)
        if not isinstance(auth, Auth):
            raise ConfigurationError(f"auth={kind_of(auth)}: expected credentials, such as StaticToken(token)")
        try:
            options = CallOptions().replace(
                timeout=timeout, total_timeout=total_timeout, retry=retry, max_wait=max_wait
            )
            check_window(wish_window)
        except InvalidRequestError as error:
            raise ConfigurationError(str(error)) from error
        endpoints = config.find_endpoints(
            endpoint=endpoint,
            compute_endpoint=compute_endpoint,
            identity_endpoint=identity_endpoint,
            region=region,
            domain=domain,
            project_id=project_id,
        )
        self._hooks = read_hooks(hooks)
        if telemetry:
            self._hooks = with_telemetry(self._hooks)
        _check_type("limits", limits, Limits | None, "a Limits, such as Limits({'servers.stop': 20})")
        self._has_runs = runs is not None
        if runs is not None:
            from bms_async.runs import Runs  # noqa: PLC0415 - most clients keep no runs

            _check_type("runs", runs, Runs, "a Runs, such as Runs() or Runs('postgresql://user@host/db')")
        _check_type(
            "bare_metal", bare_metal, BareMetal | None, "a BareMetal, such as BareMetal.by_flavor_prefix('bm.')"
        )
        _check_type("patience", patience, Patience, "a Patience, such as Patience(no_news=3600)")
        name = choose_project_name(project_id, project_name, auth)
        project_id = None if name is not None else self._check_project(project_id, auth)
        self._membership = Membership(Account.at(endpoints.bms, project_id or project_of(auth)), limits)
        self._core = Core(
            transport=choose_transport(transport, ca_bundle, max_response_bytes),
            auth=auth,
            limits=self._membership.limits,
            endpoints={
                Service.BMS: endpoints.bms,
                Service.COMPUTE: endpoints.compute,
                Service.IDENTITY: endpoints.identity,
            },
            project_id=project_id,
            find_project=None if name is None else lambda: find_project(self.identity, name),
            user_agent=f"bms-async/{__version__}",
            on_project=self._membership.find_project,
        )
        session = Session(self._core, options)
        watcher = self._make_watcher(session, patience, runs)
        super().__init__(
            session,
            watcher,
            make_runs=functools.cache(
                lambda: _make_runs(runs, session.unbounded(), watcher, endpoint=endpoints.bms, check=check)
            ),
            make_power=functools.cache(
                lambda: _make_power(session.unbounded(), watcher, window=wish_window, check=check)
            ),
            find_poller=functools.cache(lambda: _make_poller(session.for_polling(), patience)),
            check=check,
            has_journal=runs is not None,
            bare_metal=BareMetalFilter(bare_metal),
        )
        self._opened = self._is_closed = self._has_more = False
        self._closing: asyncio.Task[None] | None = None

    def _make_watcher(self, session: Session, patience: Patience, runs: Runs | None) -> Watcher:
        limit = self._core.limits["jobs.get"].limit
        board = None
        if runs is not None:
            from bms_async.jobs.board import JobBoard  # noqa: PLC0415 - most clients keep no runs

            board = JobBoard(runs.journal, session, config.canonical_endpoint(self._core.endpoints[Service.BMS]))
        return Watcher(
            functools.partial(poll_job, session.unbounded().for_polling()),
            pace=Pacer(_POLLS_WITHOUT_LIMIT if limit is None else limit * POLL_BUDGET_SHARE),
            project=lambda: self._core.project_id,
            patience=patience,
            board=board,
        )

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from the environment.

        Credentials are one of these; where two are complete, ``OS_AUTH_TYPE`` (``token``, ``password``, ``aksk``)
        says which to use:

        - a token: ``OS_TOKEN`` or ``OS_AUTH_TOKEN``
        - a password: ``OS_USERNAME`` with ``OS_USER_DOMAIN_NAME`` or ``OS_USER_DOMAIN_ID``, or else ``OS_USER_ID``;
          ``OS_PASSWORD``; ``OS_AUTH_URL``, or else the identity endpoint
        - an access key: ``HUAWEICLOUD_SDK_AK``, ``HUAWEICLOUD_SDK_SK``, and for a temporary one
          ``HUAWEICLOUD_SDK_SECURITY_TOKEN``

        The project is ``OS_PROJECT_ID``, ``HUAWEICLOUD_SDK_PROJECT_ID`` or ``OS_TENANT_ID``, else ``OS_PROJECT_NAME``
        or ``OS_TENANT_NAME``, whose id is looked up when the first call needs it. With an access key and none of these,
        it is the project named like the region, as in the vendor's SDK. With a password,
        ``OS_PROJECT_DOMAIN_NAME`` or ``OS_PROJECT_DOMAIN_ID`` is read too; ``OS_DEFAULT_DOMAIN_NAME``,
        ``OS_DOMAIN_NAME``, ``OS_DEFAULT_DOMAIN_ID``, ``OS_DOMAIN_ID`` or ``OS_DEFAULT_DOMAIN`` (an id) is the domain of
        the user and of the project where they have none of their own. A name is ignored where its id is set.

        Addresses are ``BMS_ENDPOINT``, ``BMS_COMPUTE_ENDPOINT``, ``BMS_IDENTITY_ENDPOINT`` (or else ``OS_AUTH_URL``
        without its ``/v3``). Those that are not set are made from ``OS_REGION_NAME`` or ``HUAWEICLOUD_SDK_REGION``, and
        ``BMS_DOMAIN``. ``OS_CACERT`` names the certificates to trust, for the default transport; ``OS_INSECURE=true``
        is an error, for certificates are always verified. An empty variable counts as not set.

        ``BMS_LIMITS`` is the store of `Limits.shared`, such as ``redis://limits:6379/0``, or ``machine`` for the file
        of this machine; ``BMS_LIMITS_ACCOUNT`` is the name of the account there, by default the endpoint and the
        project's id. An argument ``limits`` goes before them. ``BMS_RUNS`` is the journal of durable runs, such as
        ``postgresql://user@host/db``, or ``machine`` for the file of this machine; an argument ``runs`` goes before it.
        ``BMS_BARE_METAL`` is the text of a `BareMetal`, such as ``flavor_prefix:bm.``; an argument goes before it too.

        Args:
            options: ``transport``, ``max_response_bytes``, ``limits``, ``runs``, ``timeout``, ``total_timeout``,
                ``max_wait``, ``retry``, ``patience``, ``bare_metal``, ``wish_window``, ``check``, ``hooks`` and
                ``telemetry`` of `BmsClient`.

        Raises:
            ConfigurationError: A setting is missing, or two contradict each other; the text names every setting that
                is missing, and where it was looked for.
        """
        return cls.from_settings(config.read_environment(), **options)

    @classmethod
    def from_cloud(cls, name: str | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ``clouds.yaml``, the file that OpenStack's tools read.

        It is the file that ``OS_CLIENT_CONFIG_FILE`` names; or else the first ``clouds.yaml``, ``.yml`` or ``.json``
        in the working directory, ``$XDG_CONFIG_HOME/openstack``, ``~/.config/openstack`` and ``/etc/openstack``.
        ``secure.yaml`` (``OS_CLIENT_SECURE_FILE``) is found likewise and merged over it, recursively.

        Its keys are ``auth`` (``token``; or ``username`` or ``user_id``, ``password``, ``user_domain_name`` or
        ``user_domain_id``, ``auth_url``; or ``ak``, ``sk``, ``security_token``; and ``project_id``, ``project_name``,
        ``project_domain_name``, ``project_domain_id``; ``domain_name``, ``domain_id``, ``default_domain_name``,
        ``default_domain_id`` for the domains that are not set), ``auth_type`` (``token``, ``v3token``, ``password``,
        ``v3password``, ``aksk``), ``region_name``, ``regions``, and addresses: ``bms_endpoint_override``,
        ``compute_endpoint_override`` and ``identity_endpoint_override``, or ``bms_domain``, the cloud's DNS domain,
        which makes them with the region. Where the cloud does not say where its BMS service is, as a file that was made
        for OpenStack's tools, ``BMS_ENDPOINT`` and ``BMS_COMPUTE_ENDPOINT``, or ``OS_REGION_NAME`` and ``BMS_DOMAIN``,
        are used.
        With ``ak``, ``sk``, a region and no project, it is the project named like the region. ``cacert`` names the
        certificates to trust, for the default transport; ``verify: false`` and ``insecure: true`` are errors, for
        certificates are always verified. ``bms_limits``, ``bms_limits_account``, ``bms_runs`` and ``bms_bare_metal``
        are ``BMS_LIMITS``, ``BMS_LIMITS_ACCOUNT``, ``BMS_RUNS`` and ``BMS_BARE_METAL`` of `from_env`, which are read
        where the cloud does not set them.

        A ``profile`` is found in the first ``clouds-public.yaml``, ``.yml`` or ``.json`` of the same directories, below
        ``public-clouds``, and the cloud is merged over it. Profiles that are built into OpenStack's tools, or that are
        at a URL, are not supported, which is an error only if a setting is missing.

        This blocks the event loop while it reads small files. In an event loop that has work already, call it in a
        thread: ``bms = await anyio.to_thread.run_sync(BmsClient.from_cloud, "name")``. Files in YAML need the extra
        ``clouds``.

        Args:
            name: The cloud; by default the one that ``OS_CLOUD`` names, or the only one in the file.
            options: ``transport``, ``max_response_bytes``, ``limits``, ``runs``, ``timeout``, ``total_timeout``,
                ``max_wait``, ``retry``, ``patience``, ``bare_metal``, ``wish_window``, ``check``, ``hooks`` and
                ``telemetry`` of `BmsClient`.

        Raises:
            ConfigurationError: A file cannot be read, there is no such cloud, or its settings are invalid; the text
                says which files were read.
        """
        return cls.from_settings(config.read_cloud(name), **options)

    @classmethod
    def from_settings(cls, settings: config.Settings, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from settings that were read before, by `bms_async.config`.

        Args:
            settings: The cloud, the project and the credentials.
            options: As for `from_env`.

        Raises:
            ConfigurationError: The settings contradict the options.
        """
        if options.get("limits") is None and settings.limits is not None:
            options["limits"] = shared_limits(settings)
        if options.get("runs") is None and settings.runs is not None:
            options["runs"] = find_runs(settings)
        if options.get("bare_metal") is None and settings.bare_metal is not None:
            options["bare_metal"] = find_bare_metal(settings.bare_metal)
        return cls(
            endpoint=settings.endpoint,
            project_id=settings.project_id,
            project_name=settings.project_name,
            auth=settings.auth,
            compute_endpoint=settings.compute_endpoint,
            identity_endpoint=settings.identity_endpoint,
            # A transport of the caller's has its own trust settings.
            ca_bundle=settings.ca_bundle if options.get("transport") is None else None,
            **options,
        )

    def statistics(self) -> ClientStatistics:
        """Return the statistics of the calls, of the watcher and of the wishes."""
        return ClientStatistics(
            session=self._core.statistics(), watcher=self._watcher.statistics(), power=self.power.statistics()
        )

    async def __aenter__(self) -> Self:
        if self._opened:
            raise ClientClosedError("a client is opened once; make a new one")
        self._opened = True
        try:
            # Before anything is opened: the limits may be in use on another event loop.
            self._core.limits = self._membership.open()
            self._core.hooks = self._watcher.hooks = make_hooks(self._hooks)
            await self._membership.connect()
            await self._core.open()
            await self._watcher.open()
            if self._has_runs:
                await self.runs.open()
            self._check_not_closed()
        except BaseException:
            # A closing that came meanwhile has not seen the parts that were opened after it.
            self._is_closed, self._has_more = False, True
            await self.aclose()
            raise
        return self

    def _check_not_closed(self) -> None:
        if self._closing is not None:
            raise ClientClosedError("the client was closed while it was being opened")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End fleet runs, waits and calls, each with an error for its caller, and close the connections.

        Operations that the cloud has accepted go on there. Closing a client that is being closed waits for the same
        end. Called from inside the client, such as by a callback of a fleet run, it only starts the closing: the
        callback itself is one of the things that end.

        Raises:
            ClientClosedError: The client is open on another event loop, and stays open there.
        """
        cancelled: asyncio.CancelledError | None = None
        while self._opened and not self._is_closed:
            if self._closing is None or self._closing.done():
                # Code that cancels every task of the loop cancels the closing too, which then begins again.
                self._core.check_closing()
                self._closing = outside_of_all(self._close, "bms_async closing")
            closing = self._closing
            if self._core.has_current_task or self._watcher.has_current_task or closing.get_loop().is_closed():
                break
            check_loop(closing.get_loop(), "the client")
            try:
                # The closing of another client may wait for this task, so it must not wait for the end of this one.
                await (asyncio.shield(closing) if is_owned() else finish_task(closing))
            except asyncio.CancelledError as error:
                if is_own_cancellation(error):
                    cancelled = error
                    if is_owned() or not closing.done():
                        break
        if cancelled is not None:
            raise cancelled

    async def _close(self) -> None:
        self._watcher.begin_closing()
        self._has_more = True
        while self._has_more:
            self._has_more = False
            try:
                # First of all, while responses still come in: what this client leaves, other workers go on with.
                if self._has_runs:
                    await self.runs.aclose()
                await self._core.stop_work()
            finally:
                try:
                    await self._watcher.aclose()
                finally:
                    try:
                        await self._core.aclose()
                    finally:
                        try:
                            # Once no call is under way any more, so that the end of each is reported.
                            await self._membership.disconnect()
                        finally:
                            self._membership.close()
        self._is_closed = True

    def __repr__(self) -> str:
        if "_core" not in vars(self):
            # A debugger shows a client whose arguments were just rejected.
            return "<BmsClient, not made>"
        state = "open" if self._core.is_open else "closed"
        return f"<BmsClient {state}, {self._core.endpoints[Service.BMS]}, project {self.project_id}>"

    @staticmethod
    def _check_project(value: str | None, auth: Auth) -> str | None:
        if value is None:
            if isinstance(auth, ScopedAuth):
                return None
            raise ConfigurationError(
                f"project_id=None: expected the project's id, which {type(auth).__name__} does not know; "
                "or give project_name"
            )
        try:
            return check_id("project_id", value)
        except InvalidRequestError as error:
            raise ConfigurationError(str(error)) from error


def shared_limits(settings: config.Settings) -> Limits:
    """Return the limits of the store that settings name.

    Args:
        settings: The cloud, and the store.

    Raises:
        ConfigurationError: It is not the address of a store, or the store needs an extra that is not installed.
    """
    try:
        return Limits.shared(settings.limits, account=settings.limits_account)
    except ConfigurationError as error:
        # Whoever set a variable does not know the arguments of `Limits.shared`.
        raise ConfigurationError(f"BMS_LIMITS, or bms_limits in clouds.yaml: {error}") from None


def _make_poller(session: Session, patience: Patience) -> ServerPoller:
    from bms_async.api.nova.servers import make_poller  # noqa: PLC0415 - who makes no native call needs none

    return make_poller(session, patience)


def _make_power(session: Session, watcher: Watcher, *, window: float, check: bool) -> PowerWishes:
    from bms_async.reconcile.wishes import PowerWishes  # noqa: PLC0415 - a command that only reads needs none

    return PowerWishes(session, watcher, window=window, check=check)


def _make_runs(runs: Runs | None, session: Session, watcher: Watcher, *, endpoint: str, check: bool) -> DurableRuns:
    from bms_async.runs import DurableRuns  # noqa: PLC0415 - most clients keep no runs

    return DurableRuns(runs, session, watcher, endpoint=config.canonical_endpoint(endpoint), check=check)


def find_runs(settings: config.Settings) -> Runs:
    """Return the journal of durable runs that settings name.

    Args:
        settings: The journal's address.

    Raises:
        ConfigurationError: It is not the address of a journal, or the journal needs an extra that is not installed.
    """
    from bms_async.runs import Runs  # noqa: PLC0415 - most clients keep no runs

    try:
        return Runs(settings.runs)
    except ConfigurationError as error:
        # Whoever set a variable does not know the arguments of `Runs`.
        raise ConfigurationError(f"BMS_RUNS, or bms_runs in clouds.yaml: {error}") from None


def find_bare_metal(text: str) -> BareMetal:
    """Return the sign of bare metal that settings describe.

    Args:
        text: See `BareMetal.parse`.

    Raises:
        ConfigurationError: It describes none.
    """
    try:
        return BareMetal.parse(text)
    except InvalidRequestError as error:
        # Whoever set a variable does not know the arguments of `BareMetal`.
        raise ConfigurationError(f"BMS_BARE_METAL, or bms_bare_metal in clouds.yaml: {error}") from None


def _check_type(name: str, value: object, expected: type | UnionType, description: str) -> None:
    if not isinstance(value, expected):
        raise ConfigurationError(f"{name}={type(value).__name__}: expected {description}")
