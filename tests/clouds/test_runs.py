"""A run over many clouds: one outcome for every server of every cloud, whatever becomes of any cloud."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from bms_async import (
    AuthenticationError,
    BmsClient,
    ClientClosedError,
    CloudOutcome,
    Clouds,
    CloudsRun,
    FleetError,
    ForeignCodeError,
    InvalidRequestError,
    Outcome,
    OutcomeState,
    PasswordAuth,
    Rollout,
    TransportError,
)
from bms_async.clouds.options import CloudsEachOptions, CloudsFleetOptions, OptionsOfClouds
from bms_async.clouds.outcome import name_cloud
from bms_async.fleet import EachOptions, FleetOptions
from bms_async.fleet.tracker import YIELD_EVERY
from bms_async.testing import SimulatedCloud
from tests.clouds._helpers import Dead, Unopened, assert_one_each, client_over, cloud_of, counted
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


class Two:
    """Two clouds that are well, and what is to be done in them."""

    def __init__(self, servers: int = 20, **settings: Any) -> None:
        self.eu, self.us = cloud_of("eu", servers, **settings), cloud_of("us", servers, **settings)

    @property
    def ids(self) -> dict[str, list[str]]:
        return {"eu": self.eu.ids, "us": self.us.ids}

    @property
    def clouds(self) -> Clouds:
        return Clouds({"eu": self.eu.client(), "us": self.us.client()})


def test_servers_of_all_clouds_are_stopped_by_one_run_with_one_stream_and_one_report() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            outcomes = [outcome async for outcome in run]
            report = await run
        assert_one_each(two.ids, outcomes)
        assert counted(outcomes) == {("eu", S.SUCCEEDED): 20, ("us", S.SUCCEEDED): 20}
        assert (two.eu.on, two.us.on) == ([], [])
        assert counted(report) == counted(outcomes)
        assert (report.action, len(report), report.batches) == ("servers.stop", 40, 2)
        assert run.report is report

    run_virtually(main)


def test_a_cloud_that_is_dead_or_slow_or_refuses_the_password_or_cannot_be_opened_costs_only_its_own() -> None:
    async def main() -> None:
        good, slow, locked = (
            cloud_of("good", 30, fail_share=0.2),
            cloud_of("slow", job_seconds=(300, 400)),
            cloud_of("locked"),
        )
        ids = {"good": good.ids, "dead": cloud_of("d").ids, "locked": locked.ids, "slow": slow.ids, "away": good.ids}
        clients = {
            "good": good.client(),
            "dead": client_over(Dead(), "dead"),
            "locked": locked.client(auth=wrong_password(locked)),
            "slow": slow.client(),
            "away": client_over(Unopened(), "away"),
        }
        async with Clouds(clients) as clouds:
            run = clouds.fleet.stop(ids)
            outcomes = [outcome async for outcome in run]
            report = await run
        assert_one_each(ids, outcomes)
        failed = len(good.on)
        assert 0 < failed < 30
        assert counted(outcomes) == {
            ("good", S.SUCCEEDED): 30 - failed,
            ("good", S.FAILED): failed,
            ("dead", S.FAILED): 20,
            ("locked", S.SKIPPED): 20,
            ("slow", S.SUCCEEDED): 20,
            ("away", S.SKIPPED): 30,
        }
        assert outcomes[-1].cloud == "slow"
        errors = {name: {type(each.error) for each in each_report.outcomes if each.error}
                  for name, each_report in report.by_cloud.items()}  # fmt: skip
        assert errors["dead"] == {TransportError}
        assert errors["locked"] == {AuthenticationError}
        assert errors["away"] == {ClientClosedError}
        with pytest.raises(ExceptionGroup, match="of 120 servers are not as asked, in 4 of 5 clouds") as caught:
            report.raise_for_failures()
        names = [group.message.partition(":")[0] for group in cast("Any", caught.value.exceptions)]
        assert names == ["cloud 'good'", "cloud 'dead'", "cloud 'locked'", "cloud 'away'"]
        fleet_errors = caught.value.subgroup(FleetError)
        assert fleet_errors is not None

    run_virtually(main)


def wrong_password(cloud: SimulatedCloud) -> PasswordAuth:
    settings = cloud.settings
    return PasswordAuth(
        auth_url=f"{cloud.address}/v3",
        username=settings.username,
        password="not-the-password",
        user_domain_name=settings.user_domain_name,
        project_id=cloud.project_id,
    )


def test_servers_may_come_from_lists_and_from_the_clouds_themselves() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            report = await clouds.fleet.reboot({name: bms.servers.list() for name, bms in clouds.items()})
            again = await clouds.fleet.start({"eu": (server for server in two.eu.ids), "us": []})
        assert counted(report) == {("eu", S.SUCCEEDED): 20, ("us", S.SUCCEEDED): 20}
        assert counted(again) == {("eu", S.UNCHANGED): 20}
        assert list(again.by_cloud) == ["eu", "us"]

    run_virtually(main)


def test_a_function_is_called_for_each_server_with_the_client_of_its_cloud() -> None:
    async def main() -> None:
        two = Two(5)

        async def read(bms: BmsClient, server_id: str) -> str | None:
            return (await bms.servers.get(server_id)).tenant_id

        async with two.clouds as clouds:
            report = await clouds.fleet.each(two.ids, read, action="read", max_workers=2)
        assert report.action == "read"
        assert {(outcome.cloud, outcome.result) for outcome in report} == {("eu", "eu"), ("us", "us")}

    run_virtually(main)


def test_several_readers_have_all_outcomes_also_one_that_comes_late() -> None:
    async def main() -> None:
        two = Two(600)
        seen: list[list[CloudOutcome]] = [[], [], []]

        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            async with anyio.create_task_group() as readers:
                for into in seen[:2]:
                    readers.start_soon(read_into, into, run)
            await read_into(seen[2], run)
        for outcomes in seen:
            assert_one_each(two.ids, outcomes)
            for name, report in (await run).by_cloud.items():
                mine = [outcome.server_id for outcome in outcomes if outcome.cloud == name]
                assert mine == [outcome.server_id for outcome in report.outcomes]
        # The clouds take turns for a reader that has all before it.
        assert {outcome.cloud for outcome in seen[2][:1000]} == {"eu", "us"}

    run_virtually(main)


def test_a_reader_that_leaves_ends_nothing() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            async for _ in run:
                break
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(aiter_all(run), 0.001)
            assert len(await run) == 40
            assert two.eu.on == []

    run_virtually(main)


async def read_into(outcomes: list[CloudOutcome], run: CloudsRun) -> None:
    async for outcome in run:
        outcomes.append(outcome)  # noqa: PERF401 - what came before an error counts


async def aiter_all(run: CloudsRun) -> list[CloudOutcome]:
    return [outcome async for outcome in run]


def test_a_cancelled_run_skips_what_was_not_sent_and_follows_the_rest() -> None:
    async def main() -> None:
        two = Two(40)
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids, wave_size=10)
            async for _ in run:
                break
            run.cancel()
            report = await run
        assert_one_each(two.ids, report)
        assert report.cancelled
        assert report.by_state[S.SUCCEEDED] == len(two.eu.off) + len(two.us.off) < 80
        assert report.by_state[S.SKIPPED] == len(two.eu.on) + len(two.us.on)

    run_virtually(main)


def test_a_run_that_is_let_go_says_that_it_does_not_know() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            await advance(1)
            run.cancel(detach=True)
            report = await run
        assert counted(report) == {("eu", S.UNKNOWN): 20, ("us", S.UNKNOWN): 20}

    run_virtually(main)


def test_one_cloud_can_be_cancelled_by_itself() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            run.by_cloud["eu"].cancel(detach=True)
            report = await run
        assert counted(report) == {("eu", S.SKIPPED): 20, ("us", S.SUCCEEDED): 20}

    run_virtually(main)


def test_nothing_begins_in_any_cloud_while_the_run_is_paused() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            run.pause()
            await advance(300)
            assert (two.eu.off, two.us.off) == ([], [])
            progress = run.progress
            assert (progress.submitted, progress.done, progress.total) == (0, 0, 40)
            assert progress.waits_for == "the run is paused"
            run.resume()
            assert run.progress.waits_for is None
            assert counted(await run) == {("eu", S.SUCCEEDED): 20, ("us", S.SUCCEEDED): 20}

    run_virtually(main)


def test_the_progress_is_the_sum_and_that_of_each_cloud() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            run.by_cloud["us"].pause()
            await advance(400)
            progress = run.progress
            assert (progress.total, progress.done) == (40, 20)
            assert {name: each.done for name, each in progress.by_cloud.items()} == {"eu": 20, "us": 0}
            assert progress.waits_for == "the run is paused"
            assert repr(run) == f"<CloudsRun servers.stop running: {progress.submitted} submitted, 20 done in eu, us>"
            run.by_cloud["us"].resume()
            await run
            assert run.progress.by_state[S.SUCCEEDED] == 40
            assert "ended" in repr(run)

    run_virtually(main)


def test_a_total_is_not_known_before_all_sources_are_read() -> None:
    async def main() -> None:
        two = Two()
        more = anyio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield two.us.ids[0]
            await more.wait()

        async with two.clouds as clouds:
            run = clouds.fleet.stop({"eu": two.eu.ids, "us": slowly()})
            await advance(60)
            assert run.progress.total is None
            more.set()
            await run
            assert run.progress.total == 21

    run_virtually(main)


def test_too_many_failures_abort_one_cloud_and_not_another() -> None:
    async def main() -> None:
        eu, us = cloud_of("eu", fail_share=1.0), cloud_of("us")
        async with Clouds({"eu": eu.client(), "us": us.client()}) as clouds:
            report = await clouds.fleet.stop({"eu": eu.ids, "us": us.ids}, abort_above=0.1)
        assert list(report.aborted) == ["eu"]
        assert report.by_cloud["eu"].wave_size == 2
        assert report.by_cloud["eu"].by_state[S.FAILED] in (1, 2)
        assert report.by_cloud["eu"].by_state[S.FAILED] + report.by_cloud["eu"].by_state[S.SKIPPED] == 20
        assert report.by_cloud["us"].by_state[S.SUCCEEDED] == 20

    run_virtually(main)


def test_a_rollout_walks_through_each_cloud_by_itself() -> None:
    async def main() -> None:
        two = Two()
        two.eu.break_down(*two.eu.ids)
        async with two.clouds as clouds:
            report = await clouds.fleet.reboot(two.ids, rollout=Rollout(canary=2))
        assert report.by_cloud["eu"].by_state[S.FAILED] == 2
        assert report.by_cloud["eu"].by_state[S.SKIPPED] == 18
        assert report.by_cloud["us"].by_state[S.SUCCEEDED] == 20
        assert all(each.rollout is not None for each in report.by_cloud.values())

    run_virtually(main)


def test_every_outcome_is_handed_to_a_function_one_at_a_time_and_names_its_cloud() -> None:
    async def main() -> None:
        two = Two()
        seen: list[CloudOutcome] = []
        under_way = 0

        async def note(outcome: CloudOutcome) -> None:
            nonlocal under_way
            under_way += 1
            assert under_way == 1
            await anyio.sleep(0.1)
            seen.append(outcome)
            under_way -= 1

        clients = {"eu": two.eu.client(), "us": two.us.client(), "away": client_over(Unopened())}
        async with Clouds(clients) as clouds:
            ids = two.ids | {"away": ["away-1", "away-2"]}
            await clouds.fleet.stop(ids, on_outcome=note)
        assert_one_each(ids, seen)

    run_virtually(main)


def without_a_lock(self: OptionsOfClouds, name: str) -> Callable[[Outcome], Any]:
    function: Any = self._on_outcome
    return lambda outcome: function(name_cloud(name, outcome))


def test_without_the_lock_outcomes_of_two_clouds_are_handed_out_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> int:
        two = Two(5)
        under_way = most = 0

        async def note(outcome: CloudOutcome) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await anyio.sleep(100)
            under_way -= 1

        async with two.clouds as clouds:
            await clouds.fleet.stop(two.ids, on_outcome=note)
        return most

    assert run_virtually(main) == 1
    monkeypatch.setattr(OptionsOfClouds, "on_outcome", without_a_lock)
    assert run_virtually(main) == 2


def test_a_run_over_many_clouds_has_every_option_of_a_run() -> None:
    assert CloudsFleetOptions.__annotations__.keys() == FleetOptions.__annotations__.keys()
    assert CloudsEachOptions.__annotations__.keys() == EachOptions.__annotations__.keys()


@pytest.mark.parametrize("error", [ValueError("their own mistake"), SystemExit(3), asyncio.CancelledError()])
def test_a_function_that_raises_is_the_runs_error_once_all_servers_have_ended(error: BaseException) -> None:
    async def main() -> None:
        two = Two()

        def note(outcome: CloudOutcome) -> None:
            if outcome.cloud == "us":
                raise error

        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids, on_outcome=note)
            for _ in range(3):
                outcomes: list[CloudOutcome] = []
                with pytest.raises(ValueError if isinstance(error, ValueError) else ForeignCodeError) as caught:
                    await read_into(outcomes, run)
            assert caught.value.__notes__ == ["in the cloud 'us'"]
        assert_one_each(two.ids, outcomes)
        assert run.report is not None
        assert len(run.report) == 40
        assert len(await run.by_cloud["eu"]) == 20

    run_virtually(main)


def test_the_error_of_a_source_comes_at_the_end_and_of_two_one_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        two = Two()

        def broken(ids: list[str], text: str) -> Iterator[str]:
            yield from ids
            raise ValueError(text)

        async with two.clouds as clouds:
            run = clouds.fleet.stop({"eu": broken(two.eu.ids, "first"), "us": broken(two.us.ids, "second")})
            with pytest.raises(ValueError, match="first"):
                await run
        assert run.report is not None
        assert run.report.by_state[S.SUCCEEDED] == 40

    with caplog.at_level(logging.ERROR, "bms_async.fleet"):
        run_virtually(main)
    assert [type(each.exc_info[1]).__name__ + str(each.exc_info[1]) for each in caplog.records if each.exc_info] == [
        "ValueErrorsecond"
    ]


def test_whoever_waits_for_the_end_alone_has_the_report_and_all_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        eu = cloud_of("eu")
        async with Clouds({"eu": eu.client(), "dead": client_over(Dead())}) as clouds:
            run = clouds.fleet.stop({name: bms.servers.list() for name, bms in clouds.items()})
            assert run.errors == {}
            report = await run.wait()
            assert counted(report) == {("eu", S.SUCCEEDED): 20}
            # A run of no server has ended too.
            assert [repr(each).split()[2] for each in run.by_cloud.values()] == ["ended:", "ended:"]
        assert {name: type(error) for name, error in run.errors.items()} == {"dead": TransportError}
        with pytest.raises(TransportError):
            await run

    with caplog.at_level(logging.ERROR, "bms_async"):
        run_virtually(main)
    assert caplog.records == []


def test_jobs_are_handed_out_with_their_cloud_and_taken_up_again() -> None:
    async def main() -> None:
        two = Two()
        accepted: dict[str, str] = {}
        async with two.clouds as clouds:
            run = clouds.fleet.reboot(two.ids, on_job=lambda name, job: accepted.update({name: job.to_json()}))
            await advance(1)
            run.cancel(detach=True)
            assert (await run).by_state[S.UNKNOWN] == 40
            handles = {name: [clouds[name].jobs.restore(text)] for name, text in accepted.items()}
            report = await clouds.fleet.reboot(two.ids, jobs=handles)
        assert report.by_state[S.SUCCEEDED] == 40
        assert (two.eu.arrived("servers.reboot"), two.us.arrived("servers.reboot")) == (1, 1)

    run_virtually(main)


def test_a_run_ends_with_its_block() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            async with clouds.fleet.stop(two.ids, wave_size=5) as run:
                pass
            assert run.report is not None
            assert run.report.by_state[S.SKIPPED] == 40
            with pytest.raises(LookupError):
                await _leave_by_an_error(run := clouds.fleet.stop(two.ids, wave_size=5))
            report = run.report
            assert report is not None
            assert_one_each(two.ids, report)
            assert report.by_state[S.UNKNOWN] > 0

    run_virtually(main)


async def _leave_by_an_error(run: CloudsRun) -> None:
    async with run:
        await advance(1)
        raise LookupError


def test_what_cannot_be_meant_is_refused_before_anything_is_sent_anywhere() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            eu = two.eu.ids
            stop: Any = clouds.fleet.stop
            each: Any = clouds.fleet.each
            refused: list[tuple[Callable[[], object], str]] = [
                (lambda: stop({"asia": eu}), "expected one of the clouds 'eu', 'us'"),
                (lambda: stop(eu), "expected a mapping of clouds to servers"),
                (lambda: stop({"eu": eu, "us": "server"}), r"servers\['us'\]"),
                (lambda: stop({"eu": eu, "us": 7}), r"servers\['us'\]"),
                (lambda: stop({"eu": eu}, wave_size=0), "wave_size=0"),
                (lambda: stop({"eu": eu}, on_outcome=7), "expected a function"),
                (lambda: stop({"eu": eu}, on_job=7), "expected a function"),
                (lambda: stop({"eu": eu}, jobs=[]), "expected a mapping of clouds to job handles"),
                (lambda: stop({"eu": eu}, jobs={"us": []}), "expected a cloud of this run"),
                (lambda: stop({"eu": eu, "us": eu}, jobs={"us": ["text"]}), "expected a job handle"),
                (lambda: each({"eu": eu}, 7), "expected a coroutine function"),
                (lambda: each({"eu": eu}, each, action=""), "action"),
            ]
            for begin, rule in refused:
                with pytest.raises(InvalidRequestError, match=rule):
                    begin()
            with pytest.raises(TypeError):
                stop({"eu": eu}, no_such_option=1)
            await advance(60)
            assert two.eu.calls == two.us.calls == []

    run_virtually(main)


def test_a_run_of_no_cloud_and_one_of_no_server_end_at_once() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            assert len(await clouds.fleet.stop({})) == 0
            assert [outcome async for outcome in clouds.fleet.stop({})] == []
            report = await clouds.fleet.stop({"eu": []})
            assert (len(report), list(report.by_cloud), list(report)) == (0, ["eu"], [])
            report.raise_for_failures()

    run_virtually(main)


def test_what_only_the_report_has_is_said_to_be_there() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run: Any = clouds.fleet.stop(two.ids)
            with pytest.raises(AttributeError, match="the report has it: report = await run"):
                _ = run.by_code
            with pytest.raises(TypeError, match="use `async for`"):
                iter(run)
            await run

    run_virtually(main)


def test_the_stream_is_not_a_second_copy_of_the_outcomes() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(each) is CloudOutcome for each in gc.get_objects())

    async def main() -> None:
        two = Two(300, fail_share=0.5)
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            before = alive()
            assert len(await aiter_all(run)) == 600
            report = await run
            assert sum(1 for _ in report) == 600
            assert alive() <= before
            assert report.by_cloud["eu"] is run.by_cloud["eu"].report

    run_virtually(main)


def test_a_run_that_ended_refers_to_nothing_that_it_needs_no_more() -> None:
    async def main() -> None:
        two = Two()
        async with two.clouds as clouds:
            run = clouds.fleet.stop(two.ids)
            await run
            trackers = [each._tracker for each in run.by_cloud.values()]
        assert [tracker.on_change for tracker in trackers] == [None, None]

    run_virtually(main)


def test_a_reader_that_is_behind_lets_others_run_meanwhile() -> None:
    async def main() -> None:
        many = {str(number): cloud_of(str(number), 400) for number in range(4)}
        async with Clouds({name: cloud.client() for name, cloud in many.items()}) as clouds:
            run = clouds.fleet.stop({name: cloud.ids for name, cloud in many.items()})
            await run
            passes = 0

            async def count() -> None:
                nonlocal passes
                while True:
                    passes += 1
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(count)
                assert len(await aiter_all(run)) == 1600
                tasks.cancel_scope.cancel()
        assert passes >= 1600 // YIELD_EVERY

    run_virtually(main)
