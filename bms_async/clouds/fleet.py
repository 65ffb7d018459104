"""Power actions on servers of many clouds: ``clouds.fleet``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.client import BmsClient
from bms_async.errors import ClientClosedError, InvalidRequestError
from bms_async.fleet.options import RunOptions
from bms_async.fleet.run import FleetRun
from bms_async.fleet.source import Servers

from .options import CloudsEachOptions, CloudsFleetOptions, OptionsOfClouds
from .run import CloudsRun
from .unopened import make_skipping_run

if TYPE_CHECKING:
    from .members import Members

CallInCloud: TypeAlias = Callable[[BmsClient, str], Awaitable[object]]
"""A coroutine function of a cloud's client and a server's id."""

_Begin: TypeAlias = Callable[[BmsClient, Servers, dict[str, Any]], FleetRun]


class CloudsFleet:
    """Power actions on servers of many clouds at once, in each as fast as its limits allow: ``clouds.fleet``.

    Each method takes a mapping from the names of clouds to servers, which are what ``bms.fleet`` of that cloud takes:
    an iterable or an async iterable of ids or servers. The clouds know nothing of each other: each has its own limits,
    its own batches, and its own part of the report. A cloud that is dead, refuses the credentials or could not be
    opened costs only its own servers their success; each of them has its outcome, with the reason.
    """

    def __init__(self, members: Members) -> None:
        self._members = members

    def start(self, servers: Mapping[str, Servers], **options: Unpack[CloudsFleetOptions]) -> CloudsRun:
        """Start servers.

        Args:
            servers: The servers of each cloud, as described at `CloudsFleet`.
            **options: See `CloudsFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not a mapping of clouds to servers, there is no such cloud, or an option
                is invalid; nothing was sent anywhere.
            ClientClosedError: The clouds are not open.
        """
        return self._run(START.name, servers, options, lambda bms, ids, own: bms.fleet.start(ids, **own))

    def stop(self, servers: Mapping[str, Servers], **options: Unpack[CloudsFleetOptions]) -> CloudsRun:
        """Stop servers by cutting their power.

        Args:
            servers: The servers of each cloud, as described at `CloudsFleet`.
            **options: See `CloudsFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not a mapping of clouds to servers, there is no such cloud, or an option
                is invalid; nothing was sent anywhere.
            ClientClosedError: The clouds are not open.
        """
        return self._run(STOP.name, servers, options, lambda bms, ids, own: bms.fleet.stop(ids, **own))

    def reboot(self, servers: Mapping[str, Servers], **options: Unpack[CloudsFleetOptions]) -> CloudsRun:
        """Restart servers; a server that may have been restarted is never sent again.

        Args:
            servers: The servers of each cloud, as described at `CloudsFleet`.
            **options: See `CloudsFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not a mapping of clouds to servers, there is no such cloud, or an option
                is invalid; nothing was sent anywhere.
            ClientClosedError: The clouds are not open.
        """
        return self._run(REBOOT.name, servers, options, lambda bms, ids, own: bms.fleet.reboot(ids, **own))

    def each(
        self, servers: Mapping[str, Servers], call: CallInCloud, **options: Unpack[CloudsEachOptions]
    ) -> CloudsRun:
        """Call a function for each server, with the outcomes, retries, progress and report of a power run.

        ::

            await clouds.fleet.each(servers, lambda bms, id: bms.servers.rename(id, names[id]))

        Args:
            servers: The servers of each cloud, as described at `CloudsFleet`.
            call: A coroutine function of the cloud's client and a server's id; see `Fleet.each`.
            **options: See `CloudsEachOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not a mapping of clouds to servers, there is no such cloud, `call` is no
                function, or an option is invalid; nothing was sent anywhere.
            ClientClosedError: The clouds are not open.
        """
        if not callable(call):
            raise InvalidRequestError("call", call, "expected a coroutine function of a client and a server's id")

        def begin(bms: BmsClient, ids: Servers, own: dict[str, Any]) -> FleetRun:
            return bms.fleet.each(ids, lambda server_id: call(bms, server_id), **own)

        return self._begin(str(options.get("action", "each")), servers, OptionsOfClouds(options, ()), begin)

    def _run(
        self, action: str, servers: Mapping[str, Servers], options: CloudsFleetOptions, begin: _Begin
    ) -> CloudsRun:
        names = tuple(servers) if isinstance(servers, Mapping) else ()
        own = OptionsOfClouds(options, names)
        for name in names:
            # Of all clouds before anything is sent in the first one.
            RunOptions(**own.of(name)).check(action)
        return self._begin(action, servers, own, begin)

    def _begin(self, action: str, servers: Mapping[str, Servers], options: OptionsOfClouds, begin: _Begin) -> CloudsRun:
        members = self._members
        members.check_open()
        sources = _check_servers(servers, members.names)
        runs: dict[str, FleetRun] = {}
        try:
            for name, source in sources.items():
                try:
                    runs[name] = begin(members.client(name), source, options.of(name))
                except ClientClosedError as error:
                    run = make_skipping_run(action, source, error, options.on_outcome(name))
                    members.start(run.run, name=f"bms_async clouds {action}")
                    runs[name] = run
        except BaseException:
            # Nothing was sent yet: a run begins to send once this has returned.
            for run in runs.values():
                run.cancel(detach=True)
            raise
        return CloudsRun(action, runs)


def _check_servers(servers: Mapping[str, Servers], names: Iterable[str]) -> dict[str, Servers]:
    """Return the servers of each cloud.

    Raises:
        InvalidRequestError: That is not what they are.
    """
    if not isinstance(servers, Mapping):
        raise InvalidRequestError("servers", servers, 'expected a mapping of clouds to servers, such as {"eu": ids}')
    sources = dict(servers)
    known = tuple(names)
    for name, source in sources.items():
        if name not in known:
            raise InvalidRequestError("servers", name, f"expected one of the clouds {', '.join(map(repr, known))}")
        if isinstance(source, str | bytes) or not isinstance(source, Iterable | AsyncIterable):
            raise InvalidRequestError(f"servers[{name!r}]", source, "expected an iterable or async iterable of servers")
    return sources
