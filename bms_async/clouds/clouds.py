"""Many projects and regions in one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

from bms_async import config
from bms_async.client import BmsClient, ClientOptions
from bms_async.errors import BmsError, ConfigurationError
from bms_async.fleet.frozen import FrozenDict

from .fleet import CloudsFleet
from .members import Members

T = TypeVar("T")


class Clouds(Mapping[str, BmsClient]):
    """Many projects and regions in one object: named clients that are opened and closed together.

    ::

        async with Clouds.from_clouds("eu", "us") as clouds:  # or Clouds({"eu": BmsClient(...), "us": BmsClient(...)})
            run = clouds.fleet.stop({"eu": eu_ids, "us": us_ids})
            async for outcome in run:
                print(outcome.cloud, outcome.server_id, outcome.state)

    ``clouds["eu"]`` is a client, for every other call. Each client keeps the limits of its own account, which those of
    one account share.

    One cloud that is down costs only its own. A cloud that cannot be opened, for example because its journal is away,
    stops no other from being opened: it is logged, `failures` has the reason, its servers are SKIPPED with a
    `ClientClosedError` in any run, ``clouds["eu"]`` raises that error, whose cause is the reason, and it is not among
    the clouds that this mapping has. Opening raises for no cloud, not even if all of them fail. It waits for all of
    them, up to half a minute for a journal that does not respond.

    Args:
        clients: A client for each name, not opened yet.

    Attributes:
        fleet: Power actions on servers of many clouds.

    Raises:
        ConfigurationError: It is not a mapping of names to clients, or a client is in it twice.
    """

    fleet: CloudsFleet

    def __init__(self, clients: Mapping[str, BmsClient]) -> None:
        if not isinstance(clients, Mapping) or not clients:
            raise ConfigurationError('expected a mapping of names to clients, such as {"eu": BmsClient(...)}')
        names: dict[int, str] = {}
        for name, client in clients.items():
            if not isinstance(name, str) or not name:
                raise ConfigurationError(f"expected a name for each cloud, got {name!r}")
            if not isinstance(client, BmsClient):
                raise ConfigurationError(f"cloud {name!r}: expected a BmsClient, got {type(client).__name__}")
            if (first := names.setdefault(id(client), name)) != name:
                raise ConfigurationError(f"cloud {name!r}: it has the client of {first!r}; make one for each cloud")
        self._members = Members(clients)
        self.fleet = CloudsFleet(self._members)

    @classmethod
    def from_clouds(cls, *names: str, **options: Unpack[ClientOptions]) -> Self:
        """Make a client for each of some clouds of ``clouds.yaml``; `BmsClient.from_cloud` says what is in that file.

        This blocks the event loop while it reads small files, once for each cloud. In an event loop that has work
        already, call it in a thread: ``clouds = await anyio.to_thread.run_sync(Clouds.from_clouds, "eu", "us")``.

        Args:
            *names: The clouds, each once; all of the file by default. ``OS_CLOUD`` is ignored.
            **options: The options of `BmsClient.from_cloud`, for every client. A `transport` belongs to one client, and
                is refused. A `Limits` counts the calls of all clouds together; without it, each account has its own.

        Raises:
            ConfigurationError: A file cannot be read, there is no such cloud, or the settings of some are invalid; the
                text has all that is wrong.
        """
        if options.get("transport") is not None:
            raise ConfigurationError("transport: expected none, for it belongs to one client; make clients of your own")
        chosen = names or config.read_cloud_names()
        if not chosen:
            raise ConfigurationError("expected a cloud in clouds.yaml; there is none")
        if len(set(chosen)) != len(chosen):
            raise ConfigurationError(f"expected each cloud once, got {', '.join(map(repr, chosen))}")
        clients: dict[str, BmsClient] = {}
        problems: list[str] = []
        for name in chosen:
            try:
                clients[name] = BmsClient.from_cloud(name, **options)
            except ConfigurationError as error:
                # All at once, so that ten mistakes need not be found one by one.
                problems.append(str(error))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return cls(clients)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all clouds, those included that could not be opened."""
        return self._members.names

    @property
    def failures(self) -> Mapping[str, BmsError]:
        """Why the clouds that could not be opened could not."""
        return FrozenDict(self._members.failures)

    async def aclose(self) -> None:
        """Close all clients at once, which ends what they do; see `BmsClient.aclose`.

        Raises:
            ExceptionGroup: Closing some of them failed; the others are closed.
            ClientClosedError: They are open on another event loop, and stay open there.
        """
        await self._members.aclose()

    async def __aenter__(self) -> Self:
        await self._members.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __getitem__(self, name: str) -> BmsClient:
        """Return the client of a cloud.

        Raises:
            InvalidRequestError: There is no such cloud; the text names those that there are.
            ClientClosedError: It could not be opened; its cause says why.
        """
        return self._members.client(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._members.clients if name not in self._members.failures)

    def __len__(self) -> int:
        return len(self._members.clients) - len(self._members.failures)

    def __contains__(self, name: object) -> bool:
        return name in self._members.clients and name not in self._members.failures

    @overload
    def get(self, key: str, /) -> BmsClient | None: ...

    @overload
    def get(self, key: str, /, default: BmsClient | T) -> BmsClient | T: ...

    def get(self, key: str, /, default: BmsClient | T | None = None) -> BmsClient | T | None:
        """Return the client of a cloud, or something else where there is none or it could not be opened.

        Args:
            key: The name of the cloud.
            default: What is returned then.
        """
        if key not in self:
            return default
        return self._members.client(key)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        state = "open" if self._members.is_open else "closed"
        failed = f"; could not be opened: {', '.join(self.failures)}" if self.failures else ""
        return f"<Clouds {state}: {', '.join(self) or 'none'}{failed}>"
