"""The rollout that a run of a scenario is given, and what it calls for each server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec

from bms_async import BmsClient, Rollout, Window, tcp_open
from bms_async.fleet.rollout import readiness
from bms_async.fleet.rollout.probes import addresses_of
from bms_async.models import Server
from bms_async.simulator import Cloud
from bms_async.simulator.core.attributes import KEY_NAME, flavor_of, zone_of
from bms_async.simulator.core.servers import Server as Machine
from bms_async.simulator.http.documents import server_document
from tests.simulation.ledger import RecordingCloud
from tests.simulation.scenario import RunFleet
from tests.simulation.walk import Walk

if TYPE_CHECKING:
    from tests.simulation.actors import RanFleet

TAG = "checked"

_GROUP_BY = {"rack": "tag:rack", "zone": "availability_zone", "flavor": "flavor", None: None}


def rollout_of(walk: Walk, deed: RunFleet, ran: RanFleet, cloud: RecordingCloud) -> Rollout:
    """Return the rollout of a run; a part of it that is the application's raises what was drawn."""
    breaks = None if deed.foreign is None else deed.foreign.where

    async def is_well(server: Server) -> bool:
        if breaks == "ready":
            ran.raiser.call()
        return cloud.is_reachable(server.id) is (deed.action != "stop")

    def group(server: Server) -> str:
        ran.raiser.call()
        return group_of(walk, cloud, cloud.born_with.get(server.id))

    def order(server: Server) -> str:
        if breaks == "order_by":
            ran.raiser.call()
        return server.id

    return Rollout(
        canary=walk.canary,
        group_by=group if breaks == "group_by" else _GROUP_BY[walk.group],
        max_unavailable=walk.max_unavailable,
        max_groups=walk.max_groups,
        # What any process can ask is a port, which `answering` has the servers answer.
        ready=None if not walk.ready else is_well if deed.durable is None else tcp_open(22),
        ready_timeout=walk.ready_timeout,
        settle=walk.settle,
        window=Window(walk.window, zone=walk.zone) if walk.hours else None,
        abort_above=deed.options.abort_above,
        abort_sample=deed.options.abort_sample or 1,
        order_by=order if walk.order_by else None,
    )


@contextmanager
def answering(cloud: RecordingCloud) -> Iterator[None]:
    """Have the servers' ports answer: on the virtual clock nothing can be asked of a socket."""
    by_address = {address: each for each in cloud.born_with for address in _addresses(cloud, each)}

    async def ask_tcp(address: str, *_: object) -> str | None:
        return None if cloud.is_reachable(by_address[address]) else "connection refused"

    with patch.object(readiness, "ask_tcp", ask_tcp):
        yield


def _addresses(cloud: RecordingCloud, server_id: str) -> list[str]:
    return addresses_of(as_listed(cloud, server_id), "any", None)


def as_listed(cloud: RecordingCloud, server_id: str) -> Server:
    """Return a server as a list shows it, whose reader has taken it out of the way of all faults."""
    machine = cloud.born_with[server_id]
    document = server_document(machine, cloud.attributes_of(machine), cloud.view, full=False)
    return msgspec.json.decode(document, type=Server, strict=False)


def group_of(walk: Walk, cloud: Cloud, server: Machine | None) -> str:
    """Return the group of a server, as the cloud has it."""
    if server is None or walk.group is None:
        return ""
    if walk.group == "rack":
        return str(server.rack)
    extra = cloud.attributes_of(server)
    return zone_of(server, extra) if walk.group == "zone" else flavor_of(server, extra).name


def name_for(server_id: str) -> str:
    """Return the name that a run gives a server."""
    return f"named-{server_id[-6:]}"


def make_call(bms: BmsClient, deed: RunFleet, ran: RanFleet) -> Callable[[str], Awaitable[Any]]:
    """Return what a run calls for each server: notes what it returns, and raises what was drawn, before or after it."""
    foreign = deed.foreign if deed.foreign is not None and deed.foreign.where == "call" else None
    is_late = foreign is not None and foreign.nth % 2 == 0

    async def call(server_id: str) -> Any:
        if foreign is not None and not is_late:
            ran.raiser.call()
        result: Any = None
        match deed.action:
            case "rename":
                result = await bms.servers.rename(server_id, name_for(server_id))
            case "tag":
                await bms.nova.tags.add(server_id, TAG)
            case _:
                result = await bms.servers.reinstall_os(server_id, key_name=KEY_NAME)
        if is_late:
            ran.raiser.call()
        ran.returned[server_id] = result
        return result

    return call
