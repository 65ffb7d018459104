"""The steps of a batch for somebody else's engine, with a journal and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from bms_async import (
    BatchResult,
    BmsClient,
    InvalidRequestError,
    NextBatch,
    OutcomeState,
    Runs,
    SentBatch,
    SentState,
)
from bms_async.simulator import Delay, Fault
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.virtual_clock import run_patiently

SETTINGS = CloudSettings(servers=60, seed=3, job_seconds=(2.0, 9.0))


class World:
    """A cloud, and clients that share a journal if there is one."""

    def __init__(self, settings: CloudSettings, journal: Path | None) -> None:
        self.cloud = SimulatedCloud(settings)
        self.ids = list(self.cloud.cloud.servers)
        self._journal = journal

    @asynccontextmanager
    async def client(self) -> AsyncIterator[BmsClient]:
        runs = None if self._journal is None else Runs(f"sqlite://{self._journal}")
        async with self.cloud.client(runs=runs) as bms:
            yield bms

    def sent(self, operation: str) -> int:
        book = self.cloud.cloud.call_counts().operations.get(operation)
        return book.arrived if book else 0

    @property
    def most_reboots(self) -> int:
        return max(server.reboots for server in self.cloud.cloud.servers.values())

    def lose_answer(self, operation: str) -> anyio.Event:
        """Have the cloud act, and answer later than anybody waits; return what is set when the call is there."""
        arrived = anyio.Event()

        def late(called: str, *_: object) -> Fault | None:
            if called != operation or arrived.is_set():
                return None
            arrived.set()
            return Delay(seconds=100_000.0)

        self.cloud.cloud.faults.append(late)
        return arrived


def play(
    main: Callable[[World], Awaitable[None]], *, journal: Path | None = None, settings: CloudSettings = SETTINGS
) -> None:
    async def play_it() -> None:
        await main(World(settings, journal))

    run_patiently(play_it)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def states_of(result: BatchResult) -> dict[str, OutcomeState]:
    outcomes = result.outcomes
    states = {outcome.server_id: outcome.state for outcome in outcomes}
    assert len(states) == len(outcomes), "a server has two outcomes"
    return states


async def to_its_end(bms: BmsClient, action: str, first: BatchResult) -> dict[str, OutcomeState]:
    """Send again what is to be sent again, as an engine does, until every server has its outcome."""
    states = states_of(first)
    waiting, number = list(first.again), 0
    while waiting:
        each = NextBatch.from_json(waiting.pop(0).to_json())
        await anyio.sleep(each.delay)
        number += 1
        result = await bms.runs.watch_job(await bms.runs.send_batch(action, each, key=f"again {number}"))
        assert not states.keys() & states_of(result).keys()
        states |= states_of(result)
        waiting += result.again
    return states


@pytest.mark.parametrize("with_journal", [False, True])
def test_each_step_may_be_taken_by_another_process(journal: Path, with_journal: bool) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            text = (await bms.runs.send_batch("reboot", world.ids, key="a")).to_json()
        assert SentBatch.from_json(text).state is SentState.ACCEPTED
        async with world.client() as bms:
            result = BatchResult.from_json((await bms.runs.watch_job(text)).to_json())
        assert states_of(result) == dict.fromkeys(world.ids, OutcomeState.SUCCEEDED)
        assert result.counts.succeeded == len(world.ids)
        assert {outcome.attempts for outcome in result.outcomes} == {1}
        assert world.sent("servers.reboot") == 1

    play(main, journal=journal if with_journal else None)


@pytest.mark.parametrize("with_journal", [False, True])
def test_busy_servers_and_refused_batches_end_in_one_outcome_each(journal: Path, with_journal: bool) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            busy = await bms.servers.stop(world.ids[:3])
            sent = await bms.runs.send_batch("start", world.ids, key="a")
            states = await to_its_end(bms, "start", await bms.runs.watch_job(sent))
            await busy
        assert states.keys() == set(world.ids)
        assert not set(states.values()) - {OutcomeState.SUCCEEDED, OutcomeState.UNCHANGED}

    settings = CloudSettings(servers=60, seed=3, job_seconds=(2.0, 9.0), refuse_batches=True)
    play(main, journal=journal if with_journal else None, settings=settings)


@pytest.mark.parametrize("with_journal", [False, True])
def test_ids_that_are_none_get_their_outcome_too(journal: Path, with_journal: bool) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            sent = await bms.runs.send_batch("stop", ["no id", *world.ids[:2]], key="a")
            states = states_of(await bms.runs.watch_job(sent))
        assert states.pop("no id") is OutcomeState.SKIPPED
        assert states == dict.fromkeys(world.ids[:2], OutcomeState.SUCCEEDED)

    play(main, journal=journal if with_journal else None)


@pytest.mark.parametrize("was_sent", [True, False])
def test_a_lost_batch_with_ids_that_are_none_is_settled_like_any_other(journal: Path, was_sent: bool) -> None:
    async def main(world: World) -> None:
        ids = [*world.ids[:4], "no id!", "\udcff"]
        async with world.client() as bms:
            if was_sent:
                await bms.runs.send_batch("reboot", ids, key="k")
            result = await bms.runs.settle_batch(SentBatch.lost("reboot", ids, key="k"))
        states = {outcome.server_id: outcome.state.value for outcome in result.outcomes}
        assert states == {**dict.fromkeys(ids, "SKIPPED"), **dict.fromkeys(ids[:4], "SUCCEEDED")}
        assert world.sent("servers.reboot") == world.most_reboots == 1

    play(main, journal=journal)


def test_a_lost_reboot_is_settled_by_states_and_not_sent_again() -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            await bms.runs.send_batch("reboot", world.ids, key="a")
            lost = SentBatch.lost("reboot", world.ids, key="a").to_json()
            result = await bms.runs.settle_batch(lost)
        assert states_of(result).keys() == set(world.ids)
        assert not result.again
        assert world.sent("servers.reboot") == world.most_reboots == 1

    play(main)


def test_a_reboot_that_never_left_is_unknown_where_nothing_remembers_it() -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            result = await bms.runs.settle_batch(SentBatch.lost("reboot", world.ids, key="a"))
        assert states_of(result) == dict.fromkeys(world.ids, OutcomeState.UNKNOWN)
        assert {outcome.attempts for outcome in result.outcomes} == {1}
        assert world.sent("servers.reboot") == 0

    play(main)


@pytest.mark.parametrize("was_sent", [False, True])
def test_a_lost_stop_is_settled_and_asked_for_again(was_sent: bool) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            if was_sent:
                await bms.runs.send_batch("stop", world.ids, key="a")
            result = await bms.runs.settle_batch(SentBatch.lost("stop", world.ids, key="a"))
            states = await to_its_end(bms, "stop", result)
        assert states.keys() == set(world.ids)
        assert all(state.is_success for state in states.values())

    play(main)


def test_an_engine_that_sends_a_reboot_again_reboots_twice_without_a_journal() -> None:
    """The control: this is what `maximum_attempts=1` and `SentBatch.lost` are for."""

    async def main(world: World) -> None:
        async with world.client() as bms:
            for _ in range(2):
                await bms.runs.watch_job(await bms.runs.send_batch("reboot", world.ids, key="a"))
        assert world.most_reboots == 2

    play(main)


def test_with_a_journal_the_same_key_is_sent_once_whoever_asks(journal: Path) -> None:
    async def main(world: World) -> None:
        async with world.client() as first, world.client() as second:
            answers: list[SentBatch] = []

            async def send(bms: BmsClient) -> None:
                answers.append(await bms.runs.send_batch("reboot", world.ids, key="a"))

            async with anyio.create_task_group() as tasks:
                for bms in (first, second, first):
                    tasks.start_soon(send, bms)
            assert len({answer.job for answer in answers}) == 1
            await second.runs.watch_job(answers[0])
            again = await second.runs.send_batch("reboot", world.ids, key="a")
            assert again.job == answers[0].job
            assert again.result is not None
            assert again.result.counts.succeeded == len(world.ids)
        assert world.sent("servers.reboot") == world.most_reboots == 1

    play(main, journal=journal)


def test_the_key_of_another_batch_is_refused(journal: Path) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            await bms.runs.send_batch("stop", world.ids, key="a")
            with pytest.raises(InvalidRequestError, match="the same servers"):
                await bms.runs.send_batch("stop", world.ids[1:], key="a")
            with pytest.raises(InvalidRequestError, match=r"expected a new one for servers\.reboot"):
                await bms.runs.send_batch("reboot", world.ids, key="a")

    play(main, journal=journal)


@pytest.mark.parametrize("action", ["reboot", "stop"])
def test_a_batch_found_sending_after_a_death_is_unknown_and_settled(journal: Path, action: str) -> None:
    async def main(world: World) -> None:
        arrived = world.lose_answer(f"servers.{action}")
        async with world.client() as dying, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(dying.runs.send_batch, action, world.ids, key="a"))
            await arrived.wait()
            tasks.cancel_scope.cancel()
        async with world.client() as bms:
            sent = await bms.runs.send_batch(action, world.ids, key="a")
            assert sent.state is SentState.UNKNOWN
            states = states_of(await bms.runs.settle_batch(sent))
            late = await bms.runs.send_batch(action, world.ids, key="a")
        assert states.keys() == set(world.ids)
        assert late.result is not None
        if action == "reboot":
            assert world.sent("servers.reboot") == world.most_reboots == 1
        else:
            assert all(state.is_success for state in states.values())

    play(main, journal=journal)


def test_a_batch_that_was_never_written_down_is_sent_when_it_is_settled(journal: Path) -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            result = await bms.runs.settle_batch(SentBatch.lost("reboot", world.ids, key="a"))
            late = await bms.runs.send_batch("reboot", world.ids, key="a")
        assert states_of(result) == dict.fromkeys(world.ids, OutcomeState.SUCCEEDED)
        assert late.result is not None
        assert world.sent("servers.reboot") == 1

    play(main, journal=journal)


def test_the_sign_of_life_is_the_job_and_a_fault_in_it_ends_nothing() -> None:
    async def main(world: World) -> None:
        signs: list[str] = []

        def note(text: str) -> None:
            signs.append(text)
            raise RuntimeError("the caller's own fault")

        async with world.client() as bms:
            sent = await bms.runs.send_batch("stop", world.ids)
            result = await bms.runs.watch_job(sent, on_progress=note)
            assert len(signs) > 1
            assert {bms.jobs.restore(sign).id for sign in signs} == {sent.job}
        assert result.counts.succeeded == len(world.ids)

    play(main)


def test_more_than_a_call_takes_is_refused() -> None:
    async def main(world: World) -> None:
        async with world.client() as bms:
            with pytest.raises(InvalidRequestError, match="at most 1000"):
                await bms.runs.send_batch("stop", world.ids)
            with pytest.raises(InvalidRequestError, match="'start', 'stop' or 'reboot'"):
                await bms.runs.send_batch("delete", world.ids[:1])
        assert world.sent("servers.stop") == 0

    play(main, settings=CloudSettings(servers=1001))


def test_json_of_a_later_version_is_refused_with_what_to_do() -> None:
    text = SentBatch.lost("stop", [], key="a").to_json().replace('"version":1', '"version":2')
    with pytest.raises(InvalidRequestError, match="update bms_async"):
        SentBatch.from_json(text)
    with pytest.raises(InvalidRequestError, match=r"what NextBatch\.to_json"):
        NextBatch.from_json("[]")
