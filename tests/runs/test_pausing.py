"""Pausing, resuming and cancelling a run from anywhere, whatever its batches do just then."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from bms_async import DurableRun, Limits, OutcomeState, Rollout, RunStatus
from bms_async.simulator import Answer, CutAfter, Throttled

from ._virtual import Site, at_a_site, kill


@pytest.mark.parametrize("workers", [1, 2])
def test_once_a_pause_has_returned_nothing_is_sent_until_it_is_over(tmp_path: Path, workers: int) -> None:
    async def main(site: Site) -> None:
        limits = Limits({"servers.stop": 2})
        beginner, elsewhere = await site.client(limits=limits), await site.client(limits=limits)
        for _ in range(workers - 1):
            await site.worker(limits=limits)
        run = await beginner.runs.stop(site.ids, key="k", wave_size=20)
        # One batch of five waits for its slot.
        await anyio.sleep(30)
        assert site.calls("servers.stop") == 2
        await (await elsewhere.runs.get("k")).pause()
        await anyio.sleep(300)
        assert site.calls("servers.stop") == 2
        assert (await run.refresh()).status is RunStatus.PAUSED
        assert run.held == 0
        assert run.progress.done == 10
        await run.resume()
        report = await run
        assert report.by_state[OutcomeState.SUCCEEDED] == 30
        assert site.calls("servers.stop") == 6

    at_a_site(tmp_path, main, limits={"servers.stop": 2})


def test_a_stop_whose_response_was_lost_is_not_sent_again_in_a_pause(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", CutAfter())
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k")
        await anyio.sleep(0.01)
        await run.pause()
        await anyio.sleep(200)
        assert site.calls("servers.stop") == 1
        await run.resume()
        report = await run
        assert report.by_state[OutcomeState.SUCCEEDED] + report.by_state[OutcomeState.UNCHANGED] == 30

    at_a_site(tmp_path, main, latency=(0.5, 0.5))


@pytest.mark.parametrize("state", ["waits for its slot", "was refused and is split", "is held by nobody"])
def test_a_cancelled_run_ends_with_every_server_accounted_for_though_a_batch(tmp_path: Path, state: str) -> None:
    async def main(site: Site) -> None:
        limits = Limits({"servers.stop": 1})
        client = await site.client(limits=limits)
        if state == "was refused and is split":
            busy = Answer(status=400, body=b'{"error": {"code": "BMS.0212", "message": "busy"}}')
            site.cloud.cloud.faults.append(lambda operation, nth, path: busy if operation == "servers.stop" else None)
        run = await client.runs.stop(site.ids, key="k", wave_size=40, detach=state == "is held by nobody")
        await anyio.sleep(20)
        await run.cancel()
        with anyio.fail_after(120):
            report = await run
        assert report.cancelled
        assert len(report) == 30
        sent = site.calls("servers.stop")
        await anyio.sleep(600)
        assert site.calls("servers.stop") == sent <= 1
        expected = {
            "is held by nobody": (0, 30, 0),
            "was refused and is split": (0, 30, 0),
            "waits for its slot": (10, 20, 0),
        }
        by_state = report.by_state
        found = by_state[OutcomeState.SUCCEEDED], by_state[OutcomeState.SKIPPED], by_state[OutcomeState.FAILED]
        assert found == expected[state]

    at_a_site(tmp_path, main, limits={"servers.stop": 1})


def test_a_run_is_cancelled_by_a_process_while_the_worker_that_has_it_is_dead(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        beginner, elsewhere = await site.client(limits=Limits({"servers.stop": 1})), await site.client()
        await beginner.runs.stop(site.ids, key="k", wave_size=40)
        await anyio.sleep(20)
        await kill(beginner)
        run = await elsewhere.runs.get("k")
        await run.cancel()
        async with elsewhere.runs.work():
            with anyio.fail_after(60):
                report = await run
        assert report.by_state[OutcomeState.SUCCEEDED] == 10
        assert report.by_state[OutcomeState.SKIPPED] == 20

    at_a_site(tmp_path, main, limits={"servers.stop": 1})


def test_what_has_ended_is_neither_paused_nor_cancelled(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        run = await (await site.client()).runs.stop(site.ids, key="k")
        await run
        await run.cancel()
        await run.pause()
        assert run.status is RunStatus.OPEN
        assert not (await (await (await site.client()).runs.get("k"))).cancelled

    at_a_site(tmp_path, main)


def test_no_more_servers_are_in_flight_over_all_workers_than_the_wave_has_room_for(tmp_path: Path) -> None:
    async def main(site: Site) -> int:
        busiest = 0
        clients = [await site.client() for _ in range(3)]
        for client in clients:
            await site.works(client)
        run = await clients[0].runs.stop(site.ids, key="k", wave_size=10, detach=True)

        async def look() -> None:
            nonlocal busiest
            while True:
                busy = sum(server.work is not None for server in site.cloud.cloud.servers.values())
                busiest = max(busiest, busy)
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            assert len(await run) == 60
            tasks.cancel_scope.cancel()
        return busiest

    assert 6 <= at_a_site(tmp_path, main, servers=60, fail_share=0.2) <= 10


def test_a_cancelled_run_needs_no_worker_for_what_a_dead_one_had_not_sent(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        dying = await site.client(limits=Limits({"servers.reboot": 1}))
        other = await site.client()
        await (await dying.runs.reboot(site.ids[:1], key="takes the slot"))
        await dying.runs.reboot(site.ids, key="k")
        await anyio.sleep(1)
        run = await other.runs.get("k")
        assert (await run.refresh()).held == 1
        await kill(dying)
        await run.cancel()
        assert run.ended is not None
        assert (await run).by_state[OutcomeState.SKIPPED] == len(site.ids)

    at_a_site(tmp_path, main)


REFUSED = Throttled(retry_after=60)


async def until_nobody_holds(run: DurableRun) -> None:
    while (await run.refresh()).held:  # noqa: ASYNC110 - the journal is another process's, too
        await anyio.sleep(0.05)


@pytest.mark.parametrize("how", ["paused", "cancelled"])
def test_a_batch_that_the_cloud_refused_is_withdrawn_as_soon_as_its_run_is(tmp_path: Path, how: str) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", REFUSED)
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k")
        await anyio.sleep(6)
        assert site.calls("servers.stop") == 1
        await (run.pause() if how == "paused" else run.cancel())
        with anyio.fail_after(1):
            await until_nobody_holds(run)
        assert run.under_way == 0
        if how == "paused":
            await anyio.sleep(300)
            assert site.calls("servers.stop") == 1
            await run.resume()
        report = await run
        # It was refused, so what is asked for once more is asked for once.
        assert site.calls("servers.stop") == (2 if how == "paused" else 1)
        state = OutcomeState.SUCCEEDED if how == "paused" else OutcomeState.SKIPPED
        assert report.by_state[state] == 30

    at_a_site(tmp_path, main)


def test_a_refused_batch_of_a_run_that_another_process_pauses_is_withdrawn_with_the_next_lease(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", REFUSED)
        client, elsewhere = await site.client(), await site.client()
        await client.runs.stop(site.ids, key="k")
        await anyio.sleep(6)
        run = await elsewhere.runs.get("k")
        await run.pause()
        with anyio.fail_after(8):
            await until_nobody_holds(run)

    at_a_site(tmp_path, main)


def test_what_was_refused_in_a_paused_rollout_is_not_under_way(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.reboot", REFUSED)
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="k", rollout=Rollout(max_unavailable=5))
        await anyio.sleep(6)
        await run.pause()
        await anyio.sleep(1)
        # The plan itself stays with its worker.
        assert (await run.refresh()).held == 1
        assert run.under_way == 0
        assert run.progress.in_flight == 5

    at_a_site(tmp_path, main)


def test_a_withdrawn_call_gives_its_slot_back_and_spends_none(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", REFUSED)
        limits = Limits({"servers.stop": 2})
        client = await site.client(limits=limits)
        run = await client.runs.stop(site.ids, key="k")
        await anyio.sleep(6)
        await run.pause()
        await anyio.sleep(200)
        await run.resume()
        await run
        await anyio.sleep(60)
        statistics = limits["servers.stop"].statistics()
        assert statistics.calls == site.calls("servers.stop") == 2
        assert statistics.free == statistics.capacity

    at_a_site(tmp_path, main, limits={"servers.stop": 2})


def test_only_a_batch_with_no_answer_yet_is_waited_for(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="k")
        await anyio.sleep(0.6)
        assert site.calls("servers.reboot") == 1
        await run.pause()
        await anyio.sleep(0.2)
        assert (await run.refresh()).under_way == 30
        report = await run
        assert report.by_state[OutcomeState.SUCCEEDED] == 30
        assert site.calls("servers.reboot") == 1

    at_a_site(tmp_path, main, latency=(0.5, 0.5))


def test_without_the_look_at_a_change_of_status_a_refused_batch_stays_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what is withdrawn at once is withdrawn by this look."""

    async def only_sleep(_: object, since: int, timeout: float) -> int:
        await anyio.sleep(timeout)
        return since

    monkeypatch.setattr("bms_async.journal.Journal.wait_for_status", only_sleep)

    async def main(site: Site) -> None:
        site.cloud.faults.add("servers.stop", REFUSED)
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k")
        await anyio.sleep(6)
        await run.pause()
        await anyio.sleep(1)
        assert (await run.refresh()).held == 1

    at_a_site(tmp_path, main)
