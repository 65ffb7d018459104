"""Variants of the SDK that are broken on purpose: the harness is worth what it catches of them.

Each is a patch for as long as a `with` block lasts. `concerns` tells which scenarios can show it at all, so that the
others need not be played.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import bms_async.client
import bms_async.session.call
from bms_async import OutcomeState, Patience, TransportError
from bms_async.api.bms import power
from bms_async.auth._token_renewal import TokenSource
from bms_async.errors import CallError, ClientClosedError
from bms_async.fleet import options as fleet_options
from bms_async.fleet import proving, sending
from bms_async.fleet.batch import Batch
from bms_async.fleet.evidence import Evidence
from bms_async.fleet.plan import AbortRule, Intake, WaveLimit
from bms_async.fleet.run import FleetRun
from bms_async.jobs import record
from bms_async.jobs.record import JobRecord
from bms_async.jobs.watcher import Watcher
from bms_async.models import JobStatus, SubJob, SubJobEntities
from bms_async.simulator import Answer, CutAfter
from bms_async.transport import PendingRequest
from tests.simulation.scenario import Call, Close, LostBack, Mishap, Revoke, RunFleet, Scenario, Torn

Concerns = Callable[[Scenario], bool]


class Mutant(NamedTuple):
    """A broken variant.

    Attributes:
        rule: What it breaks, as a verdict begins that catches it.
        patch: Breaks it.
        concerns: Which scenarios may show it.
        draw: Draws these, from a number; None for scenarios of all kinds.
    """

    name: str
    rule: str
    patch: Callable[[], AbstractContextManager[None]]
    concerns: Concerns
    draw: Callable[[int], Scenario] | None = None


@contextmanager
def patched(owner: object, **values: object) -> Iterator[None]:
    """Replace attributes for a while; one that is not there is an error, so that no mutant is without effect."""
    before = {name: vars(owner)[name] for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def _a_reboot_sent_twice() -> Iterator[None]:
    honest = power.send_power_action

    async def send_power_action(*args: Any, **options: Any) -> Any:
        try:
            return await honest(*args, **options)
        except TransportError:
            return await honest(*args, **options)

    # Both modules that call it.
    with patched(power, send_power_action=send_power_action), patched(sending, send_power_action=send_power_action):
        yield


def _an_unsafe_call_repeated_after_a_lost_answer() -> AbstractContextManager[None]:
    return patched(bms_async.session.call, may_retry=lambda *_: True)


def _a_slot_freed_at_send() -> AbstractContextManager[None]:
    def on_end(self: PendingRequest, call: Callable[[Any], None]) -> None:
        call(SimpleNamespace(sent=False))

    return patched(PendingRequest, add_done_callback=on_end)


def _a_slot_that_cools_from_the_sending_on() -> AbstractContextManager[None]:
    def on_end(self: PendingRequest, call: Callable[[Any], None]) -> None:
        call(SimpleNamespace(sent=True))

    return patched(PendingRequest, add_done_callback=on_end)


def _a_future_dropped_on_close() -> AbstractContextManager[None]:
    honest = JobRecord.fail

    def fail(self: JobRecord, error: Any) -> None:
        if isinstance(error, ClientClosedError):
            self._futures.clear()
        honest(self, error)

    return patched(JobRecord, fail=fail)


def _a_change_taken_for_a_reboot() -> AbstractContextManager[None]:
    return patched(proving, evidence_of=lambda *_: Evidence.IN_PROGRESS)


def _a_bound_that_is_not_kept() -> AbstractContextManager[None]:
    return patched(FleetRun, _end_in_time=lambda _: None)


def _an_id_lost_when_a_batch_is_cut() -> AbstractContextManager[None]:
    honest = Intake.pop_batch

    def pop_batch(self: Intake, *args: Any, **options: Any) -> Any:
        ids = honest(self, *args, **options)
        return ids[:-1] if len(ids) > 1 else ids

    return patched(Intake, pop_batch=pop_batch)


def _an_id_lost_when_a_refused_batch_is_parted() -> AbstractContextManager[None]:
    honest = Batch.split_off

    def part(self: Batch, ids: Iterable[str], **options: Any) -> Batch:
        wanted = tuple(ids)
        self.moved.update(wanted)
        return honest(self, wanted[:-1] if len(wanted) > 1 else wanted, **options)

    return patched(Batch, split_off=part)


def _a_wave_without_bound() -> AbstractContextManager[None]:
    return patched(WaveLimit, room=lambda self, in_flight: self.size)


def _a_wave_that_ignores_the_threshold() -> AbstractContextManager[None]:
    return patched(fleet_options, find_wave=lambda wave_size, _above, _servers: wave_size)


def _a_share_that_counts_from_the_twentieth_on() -> AbstractContextManager[None]:
    honest = AbortRule.__init__

    def init(self: AbortRule, above: float | None, sample: int) -> None:
        honest(self, above, max(20, sample))

    return patched(AbortRule, __init__=init)


def _a_poll_started_twice() -> AbstractContextManager[None]:
    honest: Callable[..., Awaitable[Any]] = vars(bms_async.client)["poll_job"]

    async def poll_job(*args: Any) -> Any:
        second = asyncio.ensure_future(_ignoring(honest, *args))
        try:
            return await honest(*args)
        finally:
            second.cancel()
            await asyncio.wait({second})

    return patched(bms_async.client, poll_job=poll_job)


async def _ignoring(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    with suppress(CallError, ClientClosedError):
        await call(*args)


def _a_404_believed_at_once() -> AbstractContextManager[None]:
    honest = Watcher.__init__

    def init(self: Watcher, *args: Any, **options: Any) -> None:
        honest(self, *args, **{**options, "patience": Patience(not_found=0.0)})

    return patched(Watcher, __init__=init)


def _a_token_renewed_by_each_caller() -> AbstractContextManager[None]:
    async def replace(self: TokenSource, refused: Any, refusal: Any) -> bool:
        self._token = None
        await self.get()
        return True

    return patched(TokenSource, renew=replace)


def _unknown_reported_as_succeeded() -> AbstractContextManager[None]:
    honest: Any = Batch.default_state

    def fate(self: Batch) -> OutcomeState:
        state = honest.fget(self)
        return OutcomeState.SUCCEEDED if state is OutcomeState.UNKNOWN else OutcomeState(state)

    return patched(Batch, default_state=property(fate))


def _unknown_reported_as_skipped() -> AbstractContextManager[None]:
    return patched(Batch, default_state=property(lambda self: OutcomeState.SKIPPED))


def _a_lost_answer_taken_for_a_refusal() -> AbstractContextManager[None]:
    return patched(CallError, maybe_done=property(lambda self: False))


def _one_future_for_all_who_ask() -> AbstractContextManager[None]:
    honest = JobRecord.sub_job

    def sub_job(self: JobRecord, server_id: str) -> asyncio.Future[SubJob]:
        futures = self._futures.get(server_id)
        return futures[0] if futures else honest(self, server_id)

    return patched(JobRecord, sub_job=sub_job)


def _nameless_failures_taken_for_successes() -> AbstractContextManager[None]:
    def attribute_unnamed(job: Any, untold: list[str], nameless: list[SubJob], **_: Any) -> Iterator[SubJob]:
        for server_id in untold:
            yield SubJob(status=JobStatus.SUCCESS, about=SubJobEntities(server_id=server_id))

    return patched(record, attribute_unnamed=attribute_unnamed)


def _a_watcher_that_outlives_its_client() -> AbstractContextManager[None]:
    async def aclose(self: Watcher) -> None:
        return

    return patched(Watcher, aclose=aclose)


def _doubts(mishap: Mishap) -> bool:
    """Whether a mishap loses the answer to something that was done, early on."""
    trouble = mishap.trouble
    lost = isinstance(trouble, LostBack | Torn | CutAfter) or (isinstance(trouble, Answer) and trouble.acted)
    return lost and mishap.first <= 2


def _reboots_in_doubt(scenario: Scenario) -> bool:
    return any(isinstance(deed, RunFleet | Call) and deed.action == "reboot" for deed in scenario.deeds) and any(
        mishap.operation == "servers.reboot" and _doubts(mishap) for mishap in scenario.mishaps
    )


def _powers_in_doubt(scenario: Scenario) -> bool:
    return any(
        isinstance(deed, RunFleet) and mishap.operation == f"servers.{deed.action}" and _doubts(mishap)
        for deed in scenario.deeds
        for mishap in scenario.mishaps
    )


def _runs_are_left(scenario: Scenario) -> bool:
    """Whether runs end before their servers do."""
    return any(isinstance(deed, Close) and deed.at > 5 for deed in scenario.deeds) and scenario.latency[1] > 1


def _tokens_are_revoked(scenario: Scenario) -> bool:
    """Whether a token is taken back while calls are surely under way."""
    return (
        scenario.auth == "password"
        and scenario.token_lifetime > 100
        and scenario.latency[1] > 1
        and any(isinstance(deed, Revoke) and deed.at > 10 for deed in scenario.deeds)
    )


def _is_crowded(scenario: Scenario) -> bool:
    """Whether some limit is surely reached, by calls whose way takes long."""
    limit = scenario.limits.get("servers.stop", 50)
    batches = [-(deed.count // -scenario.batch) for deed in scenario.deeds if isinstance(deed, RunFleet)]
    return max(batches, default=0) > limit and scenario.latency[1] > 1


def _has_waiters_at_the_end(scenario: Scenario) -> bool:
    return any(isinstance(deed, Close) for deed in scenario.deeds) and any(
        isinstance(deed, Call) and deed.asked for deed in scenario.deeds
    )


def _has_leavers(scenario: Scenario) -> bool:
    return any(
        isinstance(deed, Call)
        and deed.asked
        and len(deed.waiters) > 1
        and any(waiter.leaves_after is not None for waiter in deed.waiters)
        for deed in scenario.deeds
    )


def _is_parted(scenario: Scenario) -> bool:
    """Whether a whole batch is refused for one of its servers."""
    return scenario.batch > 1 and any(isinstance(deed, RunFleet) and deed.unknown for deed in scenario.deeds)


def _has_bounds(scenario: Scenario) -> bool:
    return any(isinstance(deed, RunFleet) and deed.options.total_timeout is not None for deed in scenario.deeds)


def _has_waves(scenario: Scenario) -> bool:
    return any(
        isinstance(deed, RunFleet)
        and deed.consumers
        and deed.source == "list"
        and deed.durable is None
        and deed.options.wave_size is not None
        and 2 * deed.options.wave_size < deed.count // deed.step
        for deed in scenario.deeds
    )


def _may_be_stopped(scenario: Scenario) -> bool:
    """Whether a run without a wave may be aborted, and has many more servers than may fail."""
    return any(
        isinstance(deed, RunFleet)
        and deed.consumers
        and deed.source == "list"
        and deed.durable is None
        and deed.walk is None
        and deed.options.wave_size is None
        and deed.options.abort_above is not None
        and deed.count > 1
        for deed in scenario.deeds
    )


def _may_be_stopped_at_once(scenario: Scenario) -> bool:
    """Whether a run may be aborted that has so many waves that those after the first failure are seen."""
    return (scenario.fail_share > 0 or scenario.locked_share > 0) and any(
        isinstance(deed, RunFleet)
        and deed.durable is None
        and deed.options.abort_above is not None
        and deed.options.abort_sample is None
        and not deed.options.verify
        and (deed.options.wave_size or 1) * 3 < deed.count
        for deed in scenario.deeds
    )


def _any(scenario: Scenario) -> bool:
    return True


MUTANTS = (
    Mutant("a reboot sent twice", "R3", _a_reboot_sent_twice, _reboots_in_doubt),
    Mutant(
        "an unsafe call repeated after a lost answer",
        "R3",
        _an_unsafe_call_repeated_after_a_lost_answer,
        _reboots_in_doubt,
    ),
    Mutant("a change taken for a reboot", "R2", _a_change_taken_for_a_reboot, _reboots_in_doubt),
    Mutant("a bound that is not kept", "R2", _a_bound_that_is_not_kept, _has_bounds),
    Mutant("a slot freed at send", "R1", _a_slot_freed_at_send, _is_crowded),
    Mutant("a slot that cools from the sending on", "R1", _a_slot_that_cools_from_the_sending_on, _is_crowded),
    Mutant("a future dropped on close", "R4", _a_future_dropped_on_close, _has_waiters_at_the_end),
    Mutant("an id lost when a batch is cut", "R2", _an_id_lost_when_a_batch_is_cut, _any),
    Mutant("an id lost when a refused batch is parted", "R2", _an_id_lost_when_a_refused_batch_is_parted, _is_parted),
    Mutant("a wave without bound", "R2", _a_wave_without_bound, _has_waves),
    Mutant("a wave that ignores the threshold", "R2", _a_wave_that_ignores_the_threshold, _may_be_stopped),
    Mutant(
        "a share that counts from the twentieth on",
        "R2",
        _a_share_that_counts_from_the_twentieth_on,
        _may_be_stopped_at_once,
    ),
    Mutant("a poll started twice", "R6", _a_poll_started_twice, _any),
    Mutant("a 404 believed at once", "R2", _a_404_believed_at_once, lambda scenario: scenario.job_hidden_seconds > 0),
    Mutant(
        "a token renewed by each caller",
        "R8",
        _a_token_renewed_by_each_caller,
        _tokens_are_revoked,
    ),
    Mutant("UNKNOWN reported as SUCCEEDED", "R2", _unknown_reported_as_succeeded, _runs_are_left),
    Mutant("UNKNOWN reported as SKIPPED", "R2", _unknown_reported_as_skipped, _runs_are_left),
    Mutant("a lost answer taken for a refusal", "R2", _a_lost_answer_taken_for_a_refusal, _powers_in_doubt),
    Mutant("one future for all who ask", "R4", _one_future_for_all_who_ask, _has_leavers),
    Mutant(
        "nameless failures taken for successes",
        "R2",
        _nameless_failures_taken_for_successes,
        lambda scenario: scenario.anonymous_failures,
    ),
    Mutant("a watcher that outlives its client", "R4", _a_watcher_that_outlives_its_client, _any),
)
