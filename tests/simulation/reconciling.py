"""Reconcilers: what is desired when, who disturbs them, and what they said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from bms_async import Backoff, BmsClient, BmsError, ClientClosedError, NotSyncedError, Reconciler, Rollout, Runs
from tests.simulation.bounds import is_hopeless, misfortune, tight
from tests.simulation.ledger import RecordingCloud
from tests.simulation.replicas import Replicas, written
from tests.simulation.scenario import Scenario
from tests.simulation.wants import Loss, Reconcile, Want, WishMany
from tests.simulation.wishing import Wished, wish_many
from tests.simulation.world_time import world_time

_A_MOMENT, _A_WHILE = 0.5, 600.0


@dataclass(slots=True)
class Reconciled:
    """A reconciler, and what was seen of it.

    Attributes:
        servers: The deed's servers.
        desired: What was desired of which server from when on, in order.
        absent: When nobody was there, between two lives.
        lost: When a replica was killed or closed, or from when to when its journal did not answer.
        clients: The clients of its replicas.
        wished: What others wished for its servers.
        conditions: What it said of its servers in the end, and when that was.
        not_synced: What was not as desired in time.
        last_told: The last change of each server that a subscriber read in its last life.
        told_then: The same when that was.
    """

    deed: Reconcile
    servers: list[str]
    began: float
    desired: list[tuple[float, str, str | None]] = field(default_factory=list)
    absent: list[tuple[float, float]] = field(default_factory=list)
    lost: list[tuple[float, float]] = field(default_factory=list)
    clients: list[BmsClient] = field(default_factory=list)
    wished: list[Wished] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    looked_at: float | None = None
    not_synced: str | None = None
    was_closed: bool = False
    last_told: dict[str, Any] = field(default_factory=dict)
    told_then: dict[str, Any] = field(default_factory=dict)

    @property
    def now_desired(self) -> dict[str, str]:
        """What is desired in the end."""
        last = {server_id: status for _, server_id, status in self.desired}
        return {server_id: status for server_id, status in last.items() if status is not None}


async def reconcile(
    scenario: Scenario,
    deed: Reconcile,
    bms: BmsClient,
    cloud: RecordingCloud,
    servers: list[str],
    reconciled: list[Reconciled],
    make: Callable[[Runs], BmsClient],
) -> None:
    """Have a reconciler do what its deed says, and wait until all is as desired.

    Args:
        scenario: All of it.
        deed: The reconciler.
        bms: The client.
        cloud: Where its servers are.
        servers: The deed's servers.
        reconciled: Where it is written down.
        make: Makes the client of a replica.
    """
    one = Reconciled(deed, servers, world_time())
    reconciled.append(one)
    cloud.drifting.plan([(each.after, servers[each.server], each.status, each.seconds) for each in deed.drifts])
    async with anyio.create_task_group() as users:
        if deed.wishes:
            wishes = WishMany(0.0, 0, deed.count, deed.wishes)
            users.start_soon(wish_many, bms, wishes, servers, one.wished)
        if deed.replicas:
            await _live_durably(scenario, one, cloud, make)
            return
        try:
            await _live(scenario, one, bms, cloud)
        except* ClientClosedError:
            one.was_closed = True


async def _live(scenario: Scenario, one: Reconciled, bms: BmsClient, cloud: RecordingCloud) -> None:
    begins = 0.0
    for number, (ends, gap) in enumerate((*one.deed.restarts, (None, 0.0))):
        power = _make(one.deed, bms, number)
        async with power:
            # Whoever begins anew says again what is desired.
            power.replace(one.now_desired)
            async with anyio.create_task_group() as users:
                users.start_soon(_listen, power, one)
                for want in one.deed.wants:
                    if begins <= want.after and (ends is None or want.after < ends):
                        await _sleep_until(one.began + want.after)
                        _want(power, one, want)
                await _sleep_until(one.began + (one.deed.last_word if ends is None else ends))
                if ends is None:
                    await _end(scenario, one, power, cloud)
                users.cancel_scope.cancel()
        if ends is not None:
            left = world_time()
            await anyio.sleep(gap)
            one.absent.append((left, world_time()))
            begins = ends


async def _live_durably(
    scenario: Scenario, one: Reconciled, cloud: RecordingCloud, make: Callable[[Runs], BmsClient]
) -> None:
    deed = one.deed
    # Whoever begins anew says again what is desired: what had not been written down is lost.
    replicas = Replicas(deed, make, on_life=lambda power: power.replace(one.now_desired))
    one.clients = replicas.clients
    try:
        async with anyio.create_task_group() as tasks:
            for number in range(deed.replicas):
                await replicas.open(number, tasks)
            await _say_all(replicas, one, tasks)
            replica = replicas.any
            assert replica is not None
            async with anyio.create_task_group() as users:
                users.start_soon(_listen, replica.power, one)
                await _end(scenario, one, replica.power, cloud)
                users.cancel_scope.cancel()
            await replicas.close()
    finally:
        with anyio.CancelScope(shield=True):
            await replicas.close()


async def _say_all(replicas: Replicas, one: Reconciled, tasks: TaskGroup) -> None:
    """Say what is desired to one that is there, and lose some of them meanwhile."""
    async with anyio.create_task_group() as users:
        for loss in one.deed.losses:
            users.start_soon(_lose, replicas, one, loss, tasks)
        for want in one.deed.wants:
            await _sleep_until(one.began + want.after)
            async with replicas.saying:
                replica = replicas.any
                if replica is not None:
                    _want(replica.power, one, want)
                    await written(replica.power)
    await _sleep_until(one.began + one.deed.last_word)


async def _lose(replicas: Replicas, one: Reconciled, loss: Loss, tasks: TaskGroup) -> None:
    await _sleep_until(one.began + loss.after)
    began = world_time()
    await replicas.lose(loss, tasks)
    one.lost.append((began, world_time() if loss.kind == "stalls" else began))


def _make(deed: Reconcile, bms: BmsClient, number: int) -> Reconciler:
    base, cap = deed.backoff
    return bms.reconciler(
        resync=deed.resync,
        backoff=Backoff(base, cap),
        wave_size=deed.wave_size,
        rollout=None if deed.room is None else Rollout(max_unavailable=deed.room),
        name=f"life {number}",
    )


def _want(power: Reconciler, one: Reconciled, want: Want) -> None:
    servers = one.servers[want.first : want.first + want.count]
    if want.replace:
        named = servers if want.status is not None else []
        power.replace(dict.fromkeys(named, want.status or "ACTIVE"))
        others = [server_id for server_id in one.now_desired if server_id not in named]
        one.desired += [(world_time(), server_id, None) for server_id in others]
    elif want.status is None:
        power.forget(servers)
    else:
        power.want(want.status, servers)
    one.desired += [(world_time(), server_id, want.status) for server_id in servers]


async def _end(scenario: Scenario, one: Reconciled, power: Reconciler, cloud: RecordingCloud) -> None:
    """Wait until all that can be is as desired, stay for a while, and look."""
    machines = cloud.servers
    healthy = [
        server_id
        for server_id in one.now_desired
        if not machines[server_id].faulty and not machines[server_id].locked and machines[server_id].status != "ERROR"
    ]
    try:
        patience = _A_WHILE if is_hopeless(scenario) else misfortune(scenario)
        await power.synced(healthy, timeout=tight(scenario, one.deed) + patience)
        await anyio.sleep(one.deed.stays)
    except NotSyncedError as error:
        one.not_synced = str(error)
    # Who subscribed is told a moment later.
    await anyio.sleep(_A_MOMENT)
    one.conditions, one.told_then = dict(power.conditions()), dict(one.last_told)
    one.looked_at = world_time()


async def _listen(power: Reconciler, one: Reconciled) -> None:
    one.last_told = {}
    try:
        async for change in power.changes():
            one.last_told[change.server_id] = change
    except BmsError:
        # It is closed, as the reconciler's user is told, too.
        return


async def _sleep_until(at: float) -> None:
    await anyio.sleep(max(0.0, at - world_time()))
