"""Workers: what one leaves another one finishes, each server once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import (
    AuthenticationError,
    BmsClient,
    ClientClosedError,
    FleetReport,
    JournalError,
    Limits,
    OutcomeState,
    Runs,
    StaticToken,
)
from bms_async.fleet.durable import DurableBatch
from bms_async.journal import BatchState, Step
from bms_async.journal.statements import ask
from bms_async.journal.transactions import claims, steps
from bms_async.runs import worker as worker_module
from bms_async.runs.worker import look_pause
from bms_async.simulator import Answer, CutAfter
from tests.support.virtual_clock import advance

from ._virtual import Site, at_a_site, kill


def counted(report: FleetReport) -> dict[str, int]:
    return {state.value: count for state, count in report.by_state.items() if count}


@pytest.mark.parametrize("action", ["stop", "reboot"])
@pytest.mark.parametrize("when", ["while its batch waits", "while it watches", "when outcomes are partly written"])
def test_what_a_worker_that_was_killed_leaves_another_one_finishes(tmp_path: Path, action: str, when: str) -> None:
    async def main(site: Site) -> None:
        limit = 1 if when == "while its batch waits" else 50
        first = await site.client(limits=Limits({f"servers.{action}": limit}))
        run = await getattr(first.runs, action)(site.ids, key="k", wave_size=40)
        await anyio.sleep({"while its batch waits": 1, "while it watches": 1}.get(when, 6))
        if when == "when outcomes are partly written":
            assert 0 < (await run.refresh()).progress.done < 30
        # Not earlier: the batches may be any worker's that is there.
        second = await site.worker()
        await kill(first)
        killed_at = anyio.current_time()
        report = await (await second.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 30}
        assert len({outcome.server_id for outcome in report.outcomes}) == 30
        assert site.calls(f"servers.{action}") == 3
        assert anyio.current_time() - killed_at < claims.LEASE + 5 + 10

    at_a_site(tmp_path, main)


@pytest.mark.parametrize(("action", "ends"), [("stop", "SUCCEEDED"), ("reboot", "UNKNOWN")])
def test_a_batch_found_as_sent_is_not_sent_again_if_it_is_a_reboot(tmp_path: Path, action: str, ends: str) -> None:
    async def main(site: Site) -> None:
        first = await site.client()
        await getattr(first.runs, action)(site.ids, key="k")
        # The request is on its way, and never comes.
        await anyio.sleep(0.2)
        await kill(first)
        # Not earlier: the batch may be any worker's that is there.
        second = await site.worker()
        report = await (await second.runs.get("k"))
        assert counted(report) == {ends: 30}
        acted = [call for call in site.cloud.calls if call.operation == f"servers.{action}"]
        assert len(acted) == (action == "stop")

    at_a_site(tmp_path, main, latency=(2, 2))


@pytest.mark.parametrize("guarded", [True, False])
def test_a_reboot_whose_worker_died_before_the_response_came_is_none_twice_but_without_the_guard(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = DurableBatch.run

    async def sending_again(self: DurableBatch, state: BatchState, job: Any = None) -> None:
        await honest(self, BatchState.WAITING if state is BatchState.SENDING else state, job)

    if not guarded:
        monkeypatch.setattr(DurableBatch, "run", sending_again)

    async def main(site: Site) -> None:
        first = await site.client()
        await first.runs.reboot(site.ids, key="k")
        while not site.calls("servers.reboot"):
            await advance(0.1)
        await kill(first)
        # Not earlier: the batch may be any worker's that is there.
        second = await site.worker()
        report = await (await second.runs.get("k"))
        assert len(report) == 30
        assert site.calls("servers.reboot") == (1 if guarded else 2)

    at_a_site(tmp_path, main, latency=(2, 2), job_seconds=(40, 60))


def test_a_worker_that_is_closed_hands_back_what_it_has_and_nothing_is_unknown(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        limits = Limits({"servers.reboot": 2})
        first, second = await site.client(limits=limits), await site.client(limits=limits)
        await first.runs.reboot(site.ids, key="k", wave_size=40)
        # Two batches are on their way, and the third waits for its slot.
        await anyio.sleep(0.5)
        await first.aclose()
        closed_at = anyio.current_time()
        async with second.runs.work() as worker:
            await anyio.sleep(worker_module._TAKE_OVER_EVERY + 0.5)
            assert worker.statistics().held >= 2
            report = await (await second.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 30}
        assert site.calls("servers.reboot") == 3
        assert closed_at < 5

    at_a_site(tmp_path, main, latency=(2, 2), limits={"servers.reboot": 2})


def test_a_worker_that_ends_while_it_watches_a_batch_has_nothing_to_complain_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="k", detach=True)
        async with client.runs.work() as worker:
            while not (await run.refresh()).progress.submitted:  # noqa: ASYNC110 - another clock of the journal
                await anyio.sleep(0.5)
            assert worker.statistics().held
        assert not (await run.refresh()).held

    at_a_site(tmp_path, main)
    assert not [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


def test_closing_leaves_no_task_and_no_thread_and_waiters_are_told(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        mine, threads = asyncio.all_tasks(), threading.active_count()
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k", wave_size=8)
        told: list[BaseException] = []

        async def wait() -> None:
            try:
                await run
            except ClientClosedError as error:
                told.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(3)
            await client.aclose()
        assert len(told) == 1
        assert asyncio.all_tasks() <= mine
        assert threading.active_count() == threads

    at_a_site(tmp_path, main)


class ClosingAuth(StaticToken):
    """Credentials that close the client that asks for them."""

    client: BmsClient | None = None

    async def headers(self, request: Any) -> Any:
        client, self.client = self.client, None
        if client is not None:
            await client.aclose()
        return super().headers(request)


def test_a_client_may_be_closed_by_what_its_worker_calls(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        auth = ClosingAuth(site.cloud.settings.token)
        client, other = await site.client(auth=auth), await site.client()
        run = await client.runs.reboot(site.ids, key="k", detach=True)
        auth.client = client
        with pytest.raises(ClientClosedError):
            async with client.runs.work():
                await run
        async with other.runs.work():
            assert counted(await (await other.runs.get("k"))) == {"SUCCEEDED": 30}

    at_a_site(tmp_path, main)


class Mistake(Exception):  # noqa: N818 - the application's
    """A mistake in the block."""


def test_what_the_block_of_a_worker_raises_is_what_its_caller_gets(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k", detach=True)

        async def work() -> None:
            async with client.runs.work():
                await anyio.sleep(1)
                raise Mistake

        with pytest.raises(Mistake):
            await work()
        assert (await run.refresh()).held == 0
        async with client.runs.work() as worker:
            await run
            assert worker.statistics().finished == 1
            assert worker.owner in repr(worker)

    at_a_site(tmp_path, main)


def test_a_client_that_is_not_open_is_no_worker(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = site.cloud.client(runs=Runs(f"sqlite://{tmp_path}/other.db"))
        with pytest.raises(ClientClosedError):
            async with client.runs.work():
                raise AssertionError

    at_a_site(tmp_path, main)


def broken_for(journal: Any, seconds: float, only: Callable[..., Any] | None = None) -> None:
    """Have a journal fail for some seconds, for one transaction or for all."""
    run = journal.run
    until = anyio.current_time() + seconds

    async def fail(transaction: Any, *args: Any, **named: Any) -> Any:
        if anyio.current_time() < until and only in (None, transaction):
            raise JournalError("it cannot be reached")
        return await run(transaction, *args, **named)

    journal.run = fail


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_a_journal_that_is_away_for_a_minute_delays_a_run_and_loses_nothing(
    tmp_path: Path, after: float, action: str
) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await getattr(client.runs, action)(site.ids, key="k", wave_size=20)
        await anyio.sleep(after)
        runs: Any = client.runs
        broken_for(runs._runs.journal, 60)
        await anyio.sleep(61)
        report = await run
        assert counted(report) == {"SUCCEEDED": 30}
        assert site.calls(f"servers.{action}") == 6

    at_a_site(tmp_path, main)


def test_what_was_taken_over_is_carried_on_though_nothing_can_be_skipped_just_then(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = await site.client(), await site.client()
        await first.runs.stop(site.ids, key="k")
        await anyio.sleep(1)
        await kill(first)
        runs: Any = second.runs
        broken_for(runs._runs.journal, 300, only=claims.claim_unsendable)
        async with second.runs.work():
            with anyio.fail_after(60):
                await (await second.runs.get("k"))

    at_a_site(tmp_path, main)


def test_a_batch_that_was_claimed_without_an_answer_is_handed_back(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        runs: Any = client.runs
        journal = runs._runs.journal
        run, lost = journal.run, 0

        async def lose(transaction: Any, *args: Any, **named: Any) -> Any:
            nonlocal lost
            result = await run(transaction, *args, **named)
            if transaction is claims.claim_waiting and result and lost < 2:
                lost += 1
                # As after a commit that was not confirmed: the next claim gets another batch.
                return await run(transaction, *args, **named)
            return result

        journal.run = lose
        a_run = await client.runs.stop(site.ids, key="k", wave_size=40)
        with anyio.fail_after(60):
            assert counted(await a_run) == {"SUCCEEDED": 30}
        assert lost == 2

    at_a_site(tmp_path, main)


def test_a_batch_that_cannot_be_read_is_tried_again_once_its_lease_is_over_and_all_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k", wave_size=40, detach=True)
        runs: Any = client.runs
        journal = runs._runs.journal

        def write(ids: bytes) -> Any:
            def transaction() -> Any:
                rows = yield from ask("SELECT ids FROM bms_async_batches WHERE number = 1")
                yield from ask("UPDATE bms_async_batches SET ids = $1 WHERE number = 1", ids)
                return rows[0][0]

            return journal.run(transaction)

        good = await write(b"\x07of a later version")
        async with client.runs.work():
            await anyio.sleep(100)
            assert (await run.refresh()).progress.done == 20
            assert site.calls("servers.stop") == 2
            await write(good)
            assert counted(await run) == {"SUCCEEDED": 30}
        complaints = [record for record in caplog.records if "cannot be carried on" in record.getMessage()]
        # Once a lease and no more often.
        assert 2 <= len(complaints) <= 10

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_a_worker_that_stands_still_for_longer_than_its_lease_loses_its_batch_and_does_no_harm(
    tmp_path: Path, action: str
) -> None:
    async def main(site: Site) -> None:
        first = await site.client()
        run = await getattr(first.runs, action)(site.ids, key="k")
        await anyio.sleep(1)
        second = await site.worker()
        runs: Any = first.runs
        journal = runs._runs.journal
        real, until = journal.run, anyio.current_time() + claims.LEASE + 5

        async def late(*args: Any, **named: Any) -> Any:
            await anyio.sleep_until(until)
            return await real(*args, **named)

        journal.run = late
        report = await (await second.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 30}
        await anyio.sleep(60)
        assert counted(await run) == {"SUCCEEDED": 30}
        assert site.calls(f"servers.{action}") == 1
        assert not runs._workers

    at_a_site(tmp_path, main, job_seconds=(25, 40))


class BrokenAuth(StaticToken):
    """Credentials that are refused until a time."""

    until = 0.0
    asked = 0

    def headers(self, request: Any) -> Any:
        self.asked += 1
        if anyio.current_time() < self.until:
            raise AuthenticationError(operation=request.operation, status=401, message="wrong password")
        return super().headers(request)


@pytest.mark.parametrize(("seconds", "ends"), [(100, "SUCCEEDED"), (10_000, "SKIPPED")])
def test_a_batch_that_no_token_is_there_for_is_tried_again_for_ten_minutes(
    tmp_path: Path, seconds: float, ends: str
) -> None:
    async def main(site: Site) -> None:
        auth = BrokenAuth(site.cloud.settings.token)
        auth.until = seconds
        client = await site.client(auth=auth)
        report = await (await client.runs.reboot(site.ids, key="k"))
        assert counted(report) == {ends: 30}
        assert auth.asked < 200
        if ends == "SKIPPED":
            assert {outcome.reason for outcome in report.outcomes} == {"AuthenticationError"}
            assert 600 < anyio.current_time() < 700
            assert site.calls("servers.reboot") == 0

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, ValueError])
def test_what_foreign_code_raises_ends_no_worker(tmp_path: Path, kind: type[BaseException]) -> None:
    async def main(site: Site) -> None:
        class Raising(StaticToken):
            left = 3

            def headers(self, request: Any) -> Any:
                self.left -= 1
                if self.left in (0, 1):
                    raise kind
                return super().headers(request)

        client = await site.client(auth=Raising(site.cloud.settings.token))
        async with client.runs.work():
            run = await client.runs.stop(site.ids, key="k", detach=True, wave_size=40)
            with anyio.fail_after(300):
                assert counted(await run) == {"SUCCEEDED": 30}

    at_a_site(tmp_path, main)


def test_a_worker_that_dies_while_it_finds_out_why_a_batch_was_refused_leaves_no_server_unknown(
    tmp_path: Path,
) -> None:
    async def main(site: Site) -> None:
        refusal = Answer(status=400, body=b'{"error": {"code": "BMS.0040", "message": "one of them"}}')
        site.cloud.faults.add("servers.reboot", refusal)
        first = await site.client()
        await first.runs.reboot(site.ids, key="k")
        # States are being read.
        await anyio.sleep(2.5)
        assert site.calls("servers.reboot") == 1
        second = await site.worker()
        await kill(first)
        assert counted(await (await second.runs.get("k"))) == {"SUCCEEDED": 30}

    at_a_site(tmp_path, main, latency=(2, 2))


def test_that_an_earlier_response_was_lost_is_not_forgotten_with_the_worker_that_sent_again(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", CutAfter())
        first = await site.client()
        await first.runs.stop(site.ids, key="k", retry_transient=False)
        await anyio.sleep(4)
        # The cloud has accepted both, and each server objects to the second.
        assert site.calls("servers.stop") == 2
        second = await site.worker()
        await kill(first)
        report = await (await second.runs.get("k"))
        assert counted(report) == {"UNKNOWN": 30}
        assert {outcome.attempts for outcome in report.outcomes} == {2}

    at_a_site(tmp_path, main, job_seconds=(20, 30))


def test_a_worker_with_nothing_to_do_looks_at_the_journal_a_few_times_a_second_at_most(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        runs: Any = client.runs
        journal = runs._runs.journal
        run, asked = journal.run, 0

        async def count(*args: Any, **named: Any) -> Any:
            nonlocal asked
            asked += 1
            return await run(*args, **named)

        async with client.runs.work():
            paused = await client.runs.stop(site.ids, key="k", detach=True, wave_size=4)
            await anyio.sleep(1)
            await paused.pause()
            await anyio.sleep(60)
            journal.run = count
            await anyio.sleep(100)
        assert asked <= 250

    at_a_site(tmp_path, main)


def test_a_step_that_another_worker_has_overtaken_is_lost(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        await client.runs.stop(site.ids, key="k", detach=True)
        runs: Any = client.runs
        journal = runs._runs.journal
        place = await client.runs._place()
        (kept,) = await journal.run(claims.claim_waiting, place, ["servers.stop"], "one")
        await anyio.sleep(claims.LEASE + 1)
        await journal.run(claims.take_over, place, "another", 5)
        (again,) = await journal.run(claims.claim_waiting, place, ["servers.stop"], "one")
        assert again.claim.fence > kept.claim.fence
        assert await journal.run(steps.mark_watching, kept.claim, "job") is Step.LOST

    at_a_site(tmp_path, main)


def test_a_reboot_whose_response_is_lost_is_proved_by_states_whoever_settles_it(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.reboot", CutAfter())
        first = await site.client()
        await first.runs.reboot(site.ids, key="k")
        await anyio.sleep(1)
        second = await site.worker()
        await kill(first)
        report = await (await second.runs.get("k"))
        assert report.by_state[OutcomeState.SUCCEEDED] == 30
        assert site.calls("servers.reboot") == 1

    at_a_site(tmp_path, main, job_seconds=(40, 60))


@pytest.mark.parametrize(("took", "pause"), [(0.0, 1.0), (0.005, 1.0), (0.05, 2.5), (3.0, 5.0)])
def test_a_journal_that_takes_long_to_look_through_is_looked_at_less_often(took: float, pause: float) -> None:
    assert look_pause(took) == pytest.approx(pause)
