"""A simulated cloud in this process, and how a test reads and changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from random import Random
from typing import Unpack
from weakref import WeakSet

import anyio.lowlevel
from starlette.applications import Starlette

import bms_async
from bms_async import AkSkAuth, Auth, BmsClient, ClientOptions, Limits, PasswordAuth, Transport
from bms_async.simulator import Availability, Cloud, CloudSettings, Server, create_app
from bms_async.simulator.core.attributes import metadata_of, tags_of
from bms_async.simulator.core.drift import AnyDrift, DriftStatus

from ._client import ADDRESS, client_of, transport_to
from ._environment import Credentials, environment_of
from ._loop_time import LoopTime
from ._recording_cloud import ArrivedCall, RecordingCloud, SimulatedJob
from .faults import FaultPlan, check_operation

__all__ = ["SimulatedCloud"]


class SimulatedCloud:
    """A bare-metal cloud in this process, without sockets and accounts, whose state a test can read and change.

    ::

        cloud = SimulatedCloud(CloudSettings(servers=3))
        cloud.faults.add("servers.stop", CutAfter())
        async with cloud.client() as bms:
            report = await bms.fleet.stop(cloud.ids)
        assert cloud.off == cloud.ids

    It has no task of its own, and nothing to close. Its time starts at 0 and follows the event loop of its clients,
    real or virtual.

    Args:
        settings: Its settings; by default `CloudSettings()`, with 1000 servers.
        clock: Monotonic seconds, in place of the event loop's time.

    Attributes:
        cloud: The underlying `Cloud`, for what this class has no method for.
        faults: Planned faults, by operation and occurrence; any other hook is appended to `cloud.faults`.
        app: The cloud as an ASGI application, for clients other than ours.
    """

    __slots__ = ("_clients", "_cloud", "_limits", "_random", "app", "faults")

    def __init__(self, settings: CloudSettings | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._cloud = RecordingCloud(settings, clock or LoopTime())
        self._random = Random(self.settings.seed)
        self.faults = FaultPlan()
        self._cloud.faults.append(self.faults)
        self._limits = Limits()
        self._clients: WeakSet[BmsClient] = WeakSet()
        self.app: Starlette = create_app(self._cloud)

    def __repr__(self) -> str:
        return f"<SimulatedCloud servers={len(self._cloud.servers)} calls={len(self._cloud.calls)}>"

    @property
    def cloud(self) -> Cloud:
        """The underlying `Cloud`, for what this class has no method for."""
        return self._cloud

    @property
    def settings(self) -> CloudSettings:
        """Its settings."""
        return self._cloud.settings

    @property
    def address(self) -> str:
        """The address of its clients; nothing listens there, and only `transport` reaches it."""
        return ADDRESS

    @property
    def project_id(self) -> str:
        """The project of the servers."""
        return self.settings.project_id

    def environment(self, credentials: Credentials = "token") -> dict[str, str]:
        """Return the environment variables for `BmsClient.from_env(transport=cloud.transport())`.

        Args:
            credentials: Which of them: ``token``, ``password`` or ``aksk``.
        """
        return environment_of(ADDRESS, self.settings, credentials)

    def transport(self) -> Transport:
        """Make a transport that sends requests here, whatever their address; one for each client."""
        return transport_to(self._cloud)

    def client(self, *, auth: Auth | None = None, **options: Unpack[ClientOptions]) -> BmsClient:
        """Make a client of this cloud, to be opened with ``async with``.

        Its delays between attempts are drawn from the cloud's `seed`: on a virtual clock, every run is the same.

        Args:
            auth: The credentials; by default the cloud's token. `password_auth` and `access_key_auth` make others.
            **options: The other arguments of `BmsClient`, without the addresses and the project: `limits` (by default
                the documented ones, shared by all clients of this cloud, whatever its own are), `timeout`,
                `total_timeout`, `max_wait`, `retry`, `check`, `hooks`, `max_response_bytes`, and `transport`, such
                as a wrapper around `transport()`.
        """
        if options.get("limits") is None:
            options["limits"] = self._limits
        client = client_of(self._cloud, auth, self._new_random(), **options)
        self._clients.add(client)
        return client

    @property
    def clients(self) -> list[BmsClient]:
        """The clients that `client` has made and that are still in use by somebody."""
        return list(self._clients)

    def password_auth(self) -> PasswordAuth:
        """Make the credentials of the cloud's user, whose tokens expire and are renewed."""
        settings = self.settings
        return PasswordAuth(
            auth_url=f"{ADDRESS}/v3",
            username=settings.username,
            password=settings.password,
            user_domain_name=settings.user_domain_name,
            project_id=settings.project_id,
            random=self._new_random(),
        )

    def access_key_auth(self) -> AkSkAuth:
        """Make the credentials that sign each request."""
        settings = self.settings
        return AkSkAuth(settings.access_key, settings.secret_key, settings.security_token or None)

    def now(self) -> float:
        """Return the cloud's time, in seconds since its start."""
        return self._cloud.now()

    @property
    def ids(self) -> list[str]:
        """The ids of all bare-metal servers, the oldest first."""
        return list(self._cloud.servers)

    @property
    def on(self) -> list[str]:
        """The ids of the servers that are on."""
        return [server.id for server in self._cloud.servers.values() if server.powered]

    @property
    def off(self) -> list[str]:
        """The ids of the servers that are off."""
        return [server.id for server in self._cloud.servers.values() if not server.powered]

    def statuses(self) -> dict[str, int]:
        """Return how many servers are in each status, such as ``{"ACTIVE": 9, "SHUTOFF": 1, "HARD_REBOOT": 0}``."""
        return self._cloud.count_servers()

    def server(self, server_id: str) -> Server:
        """Return a server as it is now: its `status`, whether it is `powered`, how many `stops` really happened.

        Raises:
            ValueError: This cloud has no server with this id.
        """
        server = self._cloud.servers.get(server_id)
        if server is None:
            raise ValueError(f"server_id={server_id!r}: this cloud has no such server; `ids` lists them")
        return server

    @property
    def jobs(self) -> list[SimulatedJob]:
        """The power jobs that the cloud has accepted, the oldest first, including those whose response was lost."""
        return self._cloud.power_jobs()

    @property
    def calls(self) -> list[ArrivedCall]:
        """The calls that arrived, in order, including those that were refused or cut."""
        return self._cloud.calls

    def arrived(self, operation: str) -> int:
        """Return how many calls of an operation arrived, including those that were refused or cut.

        Raises:
            ValueError: The operation does not exist.
        """
        check_operation(operation)
        counter = self._cloud.call_counts().operations.get(operation)
        return counter.arrived if counter else 0

    def refused(self, operation: str | None = None) -> int:
        """Return how many calls the cloud's limits have refused with 429; planned faults do not count.

        Args:
            operation: Count this operation only.

        Raises:
            ValueError: The operation does not exist.
        """
        counts = self._cloud.call_counts()
        if operation is None:
            return counts.refused
        check_operation(operation)
        counter = counts.operations.get(operation)
        return counter.refused if counter else 0

    def turn_on(self, *server_ids: str) -> None:
        """Turn servers on, as if by their power button: no job, no call, nothing counted.

        A job in progress on a server continues, and its result wins.

        Raises:
            ValueError: This cloud has no server with such an id; the same for all methods that change servers.
        """
        for server in self._servers(server_ids):
            self._cloud.force_action(server, "start")

    def turn_off(self, *server_ids: str) -> None:
        """Turn servers off, as if by their power button; see `turn_on`."""
        for server in self._servers(server_ids):
            self._cloud.force_action(server, "stop")

    def remove(self, *server_ids: str) -> None:
        """Remove servers at once, as if they had been returned to the cloud."""
        for server in self._servers(server_ids):
            self._cloud.remove(server)

    def drift(self, plan: Iterable[AnyDrift]) -> None:
        """Plan changes of servers that no call asks for; `CloudSettings.drift_share` has them happen by chance.

        ::

            cloud.drift([(30, first, "SHUTOFF"), Drift(60, second, "ERROR"), Drift(660, second, "ACTIVE")])

        Args:
            plan: The changes, as `Drift` or as tuples of the same order, with their seconds from now. A generator gives
                them in the order of their moments, and may be without end.

        Raises:
            ValueError: A change is none that can happen. A generator's is found when its turn comes.
        """
        self._cloud.drifting.plan(plan)

    @property
    def drifted(self) -> int:
        """How many changes that no call asked for have begun so far, without `turn_on` and `turn_off`."""
        self._cloud.drifting.catch_up()
        return self._cloud.drifting.changes

    def switch(self, server_id: str, status: DriftStatus, *, seconds: float = 30.0) -> None:
        """Have another operator switch a server: it shows a task for so long, and then the status.

        Meanwhile power operations on it are refused. Nothing is counted as a call, a job, or a start or stop.

        Args:
            server_id: The server.
            status: ``ACTIVE`` or ``SHUTOFF``, or ``ERROR`` for an operator who breaks it.
            seconds: How long that takes.

        Raises:
            ValueError: This cloud has no such server, it is under way, or in that status already; or `seconds` is below
                0.
        """
        server = self.server(server_id)
        if not 0 <= seconds < inf:
            raise ValueError(f"seconds={seconds!r}: expected 0 or more seconds, and no infinity")
        if not self._cloud.drifting.switch(server, status, seconds):
            raise ValueError(f"server_id={server_id!r}: expected a server that can be switched to {status}: {server}")

    def rename(self, server_id: str, name: str) -> None:
        """Rename a server."""
        self._cloud.change(self.server(server_id)).name = name

    def label(self, server_id: str, *, tags: Iterable[str] = (), metadata: Mapping[str, str] | None = None) -> None:
        """Add tags and metadata to a server.

        Each server has the tag of its rack already, such as ``rack-7``; see `CloudSettings.rack_size`.
        """
        server = self.server(server_id)
        extra = self._cloud.change(server)
        extra.tags = list(dict.fromkeys([*tags_of(server, extra), *tags]))
        extra.metadata = metadata_of(server, extra) | dict(metadata or {})

    def lock(self, *server_ids: str) -> None:
        """Lock servers: power operations are refused (BMS.0006) until they are unlocked."""
        for server in self._servers(server_ids):
            server.locked = True

    def unlock(self, *server_ids: str) -> None:
        """Unlock servers."""
        for server in self._servers(server_ids):
            server.locked = False

    def break_down(self, *server_ids: str) -> None:
        """Break servers: every job that starts from now on fails on them."""
        for server in self._servers(server_ids):
            server.faulty = True

    def repair(self, *server_ids: str) -> None:
        """Repair servers: jobs that start from now on succeed on them."""
        for server in self._servers(server_ids):
            server.faulty = False

    def hang(self, *server_ids: str) -> None:
        """Let servers hang at every boot from now on: jobs succeed on them, but they are never reachable again."""
        for server in self._servers(server_ids):
            self._cloud.availability.never_back.add(server.id)

    def recover(self, *server_ids: str) -> None:
        """Let servers boot again; those that are on, and in no job, are reachable at once."""
        for server in self._servers(server_ids):
            self._cloud.availability.never_back.discard(server.id)
            if server.powered and server.action is None:
                self._cloud.availability.note_back(server.id, self.now())

    async def reachable(self, server: bms_async.Server) -> bool:
        """Return whether a server could answer now: a `Rollout`'s ``ready=`` on this cloud.

        It is on, in no job, has booted (`CloudSettings.boot_seconds`), and is none of those that never come back
        (`CloudSettings.never_back_share`, `hang`).

        Args:
            server: The server, as the SDK reads it.
        """
        await anyio.lowlevel.checkpoint()
        return self._cloud.is_reachable(server.id)

    @property
    def availability(self) -> Availability:
        """Which servers were away when: how a test judges a rollout from the outside, after it has ended."""
        return self._cloud.availability

    def revoke_tokens(self) -> int:
        """Revoke all valid tokens, including that of the settings; returns how many there were."""
        accepted = self._cloud.tokens
        revoked = len(accepted) + self._cloud.revoke_tokens()
        accepted.clear()
        return revoked

    def accept_token(self, token: str) -> None:
        """Accept a token, for the project of the servers."""
        self._cloud.tokens.add(token)

    def _new_random(self) -> Random:
        # Each client has other delays, and the same ones in each run.
        return Random(self._random.random())

    def _servers(self, server_ids: tuple[str, ...]) -> list[Server]:
        # All are looked up before the first one is changed.
        return [self.server(server_id) for server_id in server_ids]
