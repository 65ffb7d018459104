"""A simulated cloud in this process, and what a test asks of it and does to it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Unpack

from starlette.applications import Starlette

from bms_async import AkSkAuth, Auth, BmsClient, ClientOptions, Limits, PasswordAuth, Transport
from bms_async.simulator import Cloud, CloudSettings, Server, create_app

from ._client import ADDRESS, client_of, transport_to
from ._environment import Credentials, environment_of
from ._loop_time import LoopTime
from ._recording_cloud import ArrivedCall, RecordingCloud, SimulatedJob
from .faults import FaultPlan, check_operation

__all__ = ["SimulatedCloud"]


class SimulatedCloud:
    """A bare-metal cloud in this process: no socket, no account, and all that happens in it can be seen and changed.

    ::

        cloud = SimulatedCloud(CloudSettings(servers=3))
        cloud.faults.add("servers.stop", CutAfter())
        async with cloud.client() as bms:
            report = await bms.fleet.stop(cloud.ids)
        assert cloud.off == cloud.ids

    It has no task of its own, and nothing to close. Its time begins at 0 and goes as that of the event loop that its
    clients run on, real or virtual.

    Args:
        settings: How it behaves; by default `CloudSettings()`, with 1000 servers.
        clock: Seconds, never going back, in place of the event loop's time.

    Attributes:
        cloud: The cloud below, for what has no shorter way here.
        faults: What is to go wrong, by operation and occurrence; any other hook is appended to `cloud.faults`.
        app: The cloud's HTTP face, an ASGI application, for clients other than ours.
    """

    __slots__ = ("_limits", "_random", "_witness", "app", "faults")

    def __init__(self, settings: CloudSettings | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._witness = RecordingCloud(settings, clock or LoopTime())
        self._random = Random(self.settings.seed)
        self.faults = FaultPlan()
        self._witness.faults.append(self.faults)
        self._limits = Limits()
        self.app: Starlette = create_app(self._witness)

    def __repr__(self) -> str:
        return f"<SimulatedCloud servers={len(self._witness.servers)} calls={len(self._witness.calls)}>"

    @property
    def cloud(self) -> Cloud:
        """The cloud below, for what has no shorter way here."""
        return self._witness

    @property
    def settings(self) -> CloudSettings:
        """How it behaves."""
        return self._witness.settings

    @property
    def address(self) -> str:
        """The address that its clients name; nobody listens there, and `transport` alone reaches it."""
        return ADDRESS

    @property
    def project_id(self) -> str:
        """The project of the servers."""
        return self.settings.project_id

    def environment(self, credentials: Credentials = "token") -> dict[str, str]:
        """Return what `BmsClient.from_env(transport=cloud.transport())` reads from the environment.

        Args:
            credentials: Which of them: ``token``, ``password`` or ``aksk``.
        """
        return environment_of(ADDRESS, self.settings, credentials)

    def transport(self) -> Transport:
        """Make a transport that carries requests here, whatever their address; one for each client."""
        return transport_to(self._witness)

    def client(self, *, auth: Auth | None = None, **options: Unpack[ClientOptions]) -> BmsClient:
        """Make a client of this cloud, to be opened with ``async with``.

        Its waits between tries are drawn from the cloud's `seed`: on a virtual clock, a run is the same each time.

        Args:
            auth: The credentials; by default the cloud's token. `password_auth` and `access_key_auth` make others.
            **options: The other arguments of `BmsClient`, but for its addresses and its project: `limits` (by default
                the documented ones, whatever this cloud's are, which its clients
                share), `timeout`, `total_timeout`, `max_wait`, `retry`, `check`, `hooks`, `max_response_bytes`, and
                `transport`, such as one around that of `transport()`.
        """
        if options.get("limits") is None:
            options["limits"] = self._limits
        return client_of(self._witness, auth, self._draw_random(), **options)

    def password_auth(self) -> PasswordAuth:
        """Make the credentials of the cloud's user, whose tokens end and are renewed."""
        settings = self.settings
        return PasswordAuth(
            auth_url=f"{ADDRESS}/v3",
            username=settings.username,
            password=settings.password,
            user_domain_name=settings.user_domain_name,
            project_id=settings.project_id,
            random=self._draw_random(),
        )

    def access_key_auth(self) -> AkSkAuth:
        """Make the credentials that sign each request."""
        settings = self.settings
        return AkSkAuth(settings.access_key, settings.secret_key, settings.security_token or None)

    def now(self) -> float:
        """Return the cloud's time, in seconds since its beginning."""
        return self._witness.now()

    @property
    def ids(self) -> list[str]:
        """The ids of all bare-metal servers, the oldest first."""
        return list(self._witness.servers)

    @property
    def on(self) -> list[str]:
        """The ids of those that are on."""
        return [server.id for server in self._witness.servers.values() if server.powered]

    @property
    def off(self) -> list[str]:
        """The ids of those that are off."""
        return [server.id for server in self._witness.servers.values() if not server.powered]

    def statuses(self) -> dict[str, int]:
        """Return how many servers have which status, such as ``{"ACTIVE": 9, "SHUTOFF": 1, "HARD_REBOOT": 0}``."""
        return self._witness.count_servers()

    def server(self, server_id: str) -> Server:
        """Return a server as it is now: its `status`, whether it is `powered`, how many `stops` really happened.

        Raises:
            ValueError: There is none with this id.
        """
        server = self._witness.servers.get(server_id)
        if server is None:
            raise ValueError(f"server_id={server_id!r}: this cloud has no such server; `ids` lists them")
        return server

    @property
    def jobs(self) -> list[SimulatedJob]:
        """The power jobs that the cloud has accepted, the oldest first, also those whose answer was lost."""
        return self._witness.power_jobs()

    @property
    def calls(self) -> list[ArrivedCall]:
        """The calls that came, in their order, also those that were refused or cut."""
        return self._witness.calls

    def arrived(self, operation: str) -> int:
        """Return how many calls of an operation came, also those that were refused or cut.

        Raises:
            ValueError: No operation is called so.
        """
        check_operation(operation)
        counter = self._witness.call_counts().operations.get(operation)
        return counter.arrived if counter else 0

    def refused(self, operation: str | None = None) -> int:
        """Return how many calls the cloud's limits have refused with 429; planned faults do not count.

        Args:
            operation: Only those of one operation.

        Raises:
            ValueError: No operation is called so.
        """
        counts = self._witness.call_counts()
        if operation is None:
            return counts.refused
        check_operation(operation)
        counter = counts.operations.get(operation)
        return counter.refused if counter else 0

    def turn_on(self, *server_ids: str) -> None:
        """Have servers be on, as if somebody had pressed the button: no job, no call, nothing counted.

        What the cloud is doing to a server right now goes on, and has the last word.

        Raises:
            ValueError: There is none with such an id; so for all that change servers.
        """
        for server in self._each(server_ids):
            self._witness.force_action(server, "start")

    def turn_off(self, *server_ids: str) -> None:
        """Have servers be off, as if somebody had pressed the button; see `turn_on`."""
        for server in self._each(server_ids):
            self._witness.force_action(server, "stop")

    def remove(self, *server_ids: str) -> None:
        """Have servers be gone at once, as if somebody had returned them to the cloud."""
        for server in self._each(server_ids):
            self._witness.remove(server)

    def rename(self, server_id: str, name: str) -> None:
        """Have a server be called otherwise."""
        self._witness.change(self.server(server_id)).name = name

    def lock(self, *server_ids: str) -> None:
        """Have servers refuse power operations (BMS.0006) until they are unlocked."""
        for server in self._each(server_ids):
            server.locked = True

    def unlock(self, *server_ids: str) -> None:
        """Have servers take power operations again."""
        for server in self._each(server_ids):
            server.locked = False

    def break_down(self, *server_ids: str) -> None:
        """Have every job that begins from now on fail on these servers."""
        for server in self._each(server_ids):
            server.faulty = True

    def repair(self, *server_ids: str) -> None:
        """Have jobs that begin from now on succeed on these servers."""
        for server in self._each(server_ids):
            server.faulty = False

    def revoke_tokens(self) -> int:
        """Refuse all tokens that are good now, also the one of the settings; returns how many that were."""
        accepted = self._witness.tokens
        revoked = len(accepted) + self._witness.revoke_tokens()
        accepted.clear()
        return revoked

    def accept_token(self, token: str) -> None:
        """Accept a token from now on, for the project of the servers."""
        self._witness.tokens.add(token)

    def _draw_random(self) -> Random:
        # Each client waits otherwise, and in each run the same.
        return Random(self._random.random())

    def _each(self, server_ids: tuple[str, ...]) -> list[Server]:
        # All are found before the first is changed.
        return [self.server(server_id) for server_id in server_ids]
