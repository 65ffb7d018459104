"""Plays a scenario on the virtual clock, and keeps all that is needed to judge it afterwards."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import aiolimiter  # noqa: F401 - opening a client imports it in a thread, and no thread moves a virtual clock
import anyio
import httpx
from starlette.types import ASGIApp

from bms_async import AkSkAuth, Auth, BmsClient, HttpxTransport, Limits, PasswordAuth, Patience, Runs, StaticToken
from bms_async.fleet import plan
from bms_async.reconcile import wish_queue
from bms_async.runs import options as run_options
from bms_async.runs import rollouts as rollouts_module
from bms_async.runs import run as run_module
from bms_async.runs import worker as worker_module
from bms_async.simulator import CloudSettings, create_app
from bms_async.simulator.core.servers import Server as Machine
from tests.simulation.actors import Deeds, Done
from tests.simulation.foreign import RaisingAuth, raisers
from tests.simulation.ledger import Exchange, Ledger, RecordingCloud, Troubles
from tests.simulation.network import NETWORK_TROUBLES, DirectTransport, Network, Wire
from tests.simulation.rollouts import answering
from tests.simulation.scenario import Deed, RunFleet, Scenario
from tests.simulation.workers import Workers
from tests.simulation.world_time import world_time
from tests.support.virtual_clock import PatientLoop

ADDRESS = "http://localhost"
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
HORIZON = 24 * 3600.0
"""Virtual seconds after which a scenario counts as one that never ends."""

_MAX_PASSES = 3_000_000
_WINDOW = 62.0
_LOOKS = 5.0


class Endless(Exception):  # noqa: N818 - the loop never comes to rest
    """The loop has turned far too often."""


class CountingLoop(PatientLoop):
    """A virtual clock's loop that ends what would spin for ever.

    Args:
        epoch: The time of day when it begins; None for the machine's.
    """

    def __init__(self, epoch: datetime | None = None) -> None:
        super().__init__()
        self._epoch = epoch
        self.passes = 0
        self.complaints: list[str] = []
        self.set_exception_handler(self._complain)

    def _run_once(self) -> None:
        self.passes += 1
        if self.passes > _MAX_PASSES:
            raise Endless(f"{self.passes} passes of the loop, at {self.time():.3f} s")
        super()._run_once()

    def wall_time(self) -> float:
        """Return the time of day, which is the cloud's too where a scenario names one."""
        if self._epoch is None:
            return super().wall_time()
        return self._epoch.timestamp() + self.time() + self.suspended

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")


@dataclass(slots=True)
class Played:
    """What came of a scenario.

    Attributes:
        ledger: What really happened.
        cloud: Where it happened.
        machines: Its servers, as they were left.
        done: What users did, and what they were told.
        polls_at_once: Jobs that had more than one poll under way, and when.
        closed_at: When the client began to be closed.
        ended_at: When everybody had been told all he waited for.
        left: What was left of the client after it was closed, by what it is.
        complaints: What the loop and the SDK's own log complained of.
        troubled: When a worker was killed, or stood still.
    """

    scenario: Scenario
    ledger: Ledger
    done: Done
    cloud: RecordingCloud
    closed_at: float = 0.0
    ended_at: float = 0.0
    refused: int = 0
    most_tasks: int = 0
    most_open: int = 0
    passes: int = 0
    left: dict[str, int] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    before_close: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    troubled: list[tuple[float, float]] = field(default_factory=list)

    @property
    def exchanges(self) -> list[Exchange]:
        return self.ledger.exchanges


def play(scenario: Scenario) -> Played:
    """Play a scenario to its end.

    Raises:
        Exception: It has no end, or the harness itself broke.
    """
    loops: list[CountingLoop] = []

    def make_loop() -> CountingLoop:
        loops.append(CountingLoop(scenario.epoch))
        return loops[-1]

    with (
        small_batches(scenario.batch),
        few_looks(),
        listening() as complaints,
        asyncio.Runner(loop_factory=make_loop) as runner,
    ):
        played = runner.run(_play(scenario))
    played.passes = loops[0].passes
    played.complaints += [each for each in (*loops[0].complaints, *complaints) if not _is_of_foreign_code(each)]
    return played


def _is_of_foreign_code(complaint: str) -> bool:
    """Whether it is told whose fault it is: what foreign code raises may be logged as an error."""
    return (
        complaint.startswith("bms_async.hooks: ")
        or "ForeignFault" in complaint
        or "ForeignCodeError" in complaint
        or "SystemExit" in complaint
        # Who is killed says so for as long as it takes to be gone.
        or "ClientClosedError('killed')" in complaint
        # A rollout whose servers could not be read, and nobody waits for it.
        or ("was never retrieved" in complaint and ("servers.list" in complaint or "servers.get" in complaint))
    )


@contextmanager
def small_batches(size: int) -> Iterator[None]:
    """Have fleet runs cut their servers into batches of this size, so that few servers make many batches."""
    places = vars(plan), vars(run_options), vars(wish_queue)
    before = places[0]["MAX_BATCH_SIZE"]
    for names in places:
        names["MAX_BATCH_SIZE"] = size
    try:
        yield
    finally:
        for names in places:
            names["MAX_BATCH_SIZE"] = before


@contextmanager
def few_looks() -> Iterator[None]:
    """Have durable runs looked at seldom: the hours that some scenarios take would be hours of looks."""
    changed = [(vars(module), "_LOOK_EVERY") for module in (run_module, worker_module, rollouts_module)]
    before = [names[name] for names, name in changed]
    for names, name in changed:
        names[name] = _LOOKS
    try:
        yield
    finally:
        for (names, name), value in zip(changed, before, strict=True):
            names[name] = value


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what the SDK logs as a fault of its own."""
    complaints: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            what = "" if record.exc_info is None else f": {record.exc_info[1]!r}"
            complaints.append(f"{record.name}: {record.getMessage()}{what}")

    logger, handler = logging.getLogger("bms_async"), Handler(logging.ERROR)
    propagates, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        yield complaints
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
        logger.setLevel(level)


def settings_of(scenario: Scenario) -> CloudSettings:
    kept = scenario.job_kept_seconds
    limits = {name: max(1, int(limit * scenario.others)) for name, limit in scenario.limits.items()}
    if scenario.shared_power_budget and "servers.stop" in limits:
        limits["servers.action"] = limits["servers.stop"]
    return CloudSettings(
        servers=scenario.servers,
        seed=scenario.seed,
        throttle=scenario.throttle,
        limits=limits,
        shared_power_budget=scenario.shared_power_budget,
        retry_after=scenario.retry_after,
        fail_share=scenario.fail_share,
        stopped_share=scenario.stopped_share,
        job_seconds=scenario.job_seconds,
        refuse_batches=scenario.refuse_batches,
        shuffle_sub_jobs=scenario.shuffle_sub_jobs,
        anonymous_failures=scenario.anonymous_failures,
        job_hidden_seconds=scenario.job_hidden_seconds,
        token_lifetime=scenario.token_lifetime,
        clock_skew=scenario.clock_skew,
        job_kept_seconds=math.inf if kept is None else kept,
        early_failures=scenario.early_failures,
        stuck_share=scenario.stuck_share,
        stillborn_share=scenario.stillborn_share,
        reason_place=scenario.reason_place,
        page_cap=scenario.page_cap,
        list_count=scenario.list_count,
        rack_size=scenario.rack_size,
        boot_seconds=scenario.boot_seconds,
        never_back_share=scenario.never_back_share,
        epoch=scenario.epoch or EPOCH,
        state_lag_seconds=scenario.state_lag,
        native_error_share=scenario.native_error_share,
        native_ignored_share=scenario.native_ignored_share,
        native_slow_share=scenario.native_slow_share,
        native_vanish_share=scenario.native_vanish_share,
    )


def make_client(
    scenario: Scenario, cloud: RecordingCloud, network: Network, limits: Limits, runs: Runs | None = None
) -> BmsClient:
    settings = cloud.settings
    foreign = raisers(scenario)
    auth: Auth = RaisingAuth(StaticToken(settings.token), foreign["credentials"])
    if scenario.auth == "password":
        auth = PasswordAuth(
            auth_url=f"{ADDRESS}/v3",
            username=settings.username,
            password=settings.password,
            user_domain_name=settings.user_domain_name,
            project_id=settings.project_id,
            margin=scenario.margin,
            random=Random(f"auth {scenario.seed}"),
        )
    elif scenario.auth == "keys":
        born, epoch = world_time(), settings.epoch
        auth = AkSkAuth(
            settings.access_key,
            settings.secret_key,
            clock=lambda: epoch + timedelta(seconds=world_time() - born),
        )
    transport: Any = DirectTransport(network, foreign["transport"])
    if scenario.carrier == "httpx":
        transport = HttpxTransport(httpx.AsyncClient(transport=Wire(network), trust_env=False))
    client = BmsClient(
        endpoint=ADDRESS,
        project_id=settings.project_id,
        auth=auth,
        transport=transport,
        limits=limits,
        runs=runs,
        timeout=scenario.timeout,
        patience=Patience(no_news=scenario.no_news),
        wish_window=scenario.wish_window,
        hooks=(lambda _: foreign["hook"].call()) if any(each.where == "hook" for each in scenario.foreign) else None,
    )
    client._core.random = Random(f"retries {scenario.seed}")
    return client


async def _play(scenario: Scenario) -> Played:
    troubles = Troubles(scenario, lambda trouble: not isinstance(trouble, NETWORK_TROUBLES))
    cloud = RecordingCloud(settings_of(scenario), world_time, troubles, locked_share=scenario.locked_share)
    app: ASGIApp = create_app(cloud)
    network = Network(app, cloud.ledger, scenario)
    limits = Limits(scenario.limits, shared_power_budget=scenario.shared_power_budget)
    bms = make_client(scenario, cloud, network, limits)
    mine = {asyncio.current_task()}
    make = partial(make_client, scenario, cloud, network, limits)
    workers = Workers(scenario, make) if scenario.workers else None
    deeds = Deeds(scenario, cloud, bms, network, workers, make)
    played = Played(scenario, cloud.ledger, deeds.done, cloud)
    stack = ExitStack()
    stack.enter_context(answering(cloud) if any(map(_asks_ports, scenario.deeds)) else nullcontext())
    await bms.__aenter__()
    if workers is not None:
        await workers.open()
    try:
        with anyio.move_on_after(HORIZON):
            await deeds.do_all()
            played.ended_at = world_time()
            if deeds.done.closed_at is None:
                # A request whose caller has left may still be under way.
                await anyio.sleep(scenario.timeout + 1)
                played.before_close = {name: size for name, size in _sizes(bms).items() if size}
                if workers is not None:
                    for client in workers.clients:
                        played.before_close |= {name: size for name, size in _sizes(client).items() if size}
    finally:
        played.closed_at = world_time() if deeds.done.closed_at is None else deeds.done.closed_at
        await bms.aclose()
        if workers is not None:
            await workers.close()
            played.troubled = workers.troubled
        stack.close()
    played.most_tasks, played.most_open = deeds.most_tasks, network.most_open
    tasks = asyncio.all_tasks() - mine
    played.left = {name: size for name, size in _sizes(bms).items() if size}
    others = [client for one in deeds.done.reconciled for client in one.clients]
    for client in (*others, *(() if workers is None else workers.clients)):
        played.left |= {name: size for name, size in _sizes(client).items() if size}
    await network.settle()
    if left := [task for task in tasks if not task.done()]:
        await asyncio.sleep(0)
        if left := [task for task in left if not task.done()]:
            played.left["tasks"] = len(left)
    # Every slot is cooling at most, and in a minute there is none.
    await anyio.sleep(_WINDOW)
    for name, limiter in bms.limits._limiters.items():
        told = limiter.statistics()
        for what, number in (("used", told.used), ("waiting", told.waiting_bulk + told.waiting_interactive)):
            if number:
                played.left[f"{what} slots of {name}"] = number
    # Brought up to date by this.
    assert cloud.servers.keys() <= cloud.born_with.keys()
    played.machines = cloud.born_with
    played.refused = cloud.call_counts().refused
    return played


def _asks_ports(deed: Deed) -> bool:
    return isinstance(deed, RunFleet) and deed.durable is not None and deed.walk is not None and deed.walk.ready


def _sizes(bms: BmsClient) -> dict[str, int]:
    """How much the parts of a client hold, as far as they tell themselves."""
    told = bms.statistics()
    sizes = {
        "open calls": told.session.open_calls,
        "live jobs": told.watcher.polled,
        "polls in flight": told.watcher.in_flight,
        "due polls": len(getattr(bms._watcher, "_due", ())),
        "records": len(getattr(bms._watcher, "_records", ())),
    }
    queue: Any = bms._core.transport
    carried = queue.statistics()
    return {**sizes, "requests in flight": carried.in_flight, "requests waiting": carried.queued}
