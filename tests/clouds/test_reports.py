"""The report of many clouds: what each cloud's report says, and what they say together."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from bms_async import CloudOutcome, Clouds, CloudsProgress, CloudsReport, Outcome, OutcomeState
from tests.clouds._helpers import Unopened as Away
from tests.clouds._helpers import assert_one_each, client_over, cloud_of
from tests.support.virtual_clock import run_virtually

S = OutcomeState
WAYS: list[Callable[[Any], Any]] = [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy]


@pytest.fixture(scope="module")
def ended() -> tuple[dict[str, list[str]], CloudsReport, CloudsProgress]:
    async def main() -> tuple[dict[str, list[str]], CloudsReport, CloudsProgress]:
        eu, us = cloud_of("eu", 30, fail_share=0.3), cloud_of("us")
        ids = {"eu": eu.ids, "us": us.ids, "a\"way'": ["server-1", "server-2"]}
        clients = {"eu": eu.client(), "us": us.client(), "a\"way'": client_over(Away())}
        async with Clouds(clients) as clouds:
            run = clouds.fleet.stop(ids)
            return ids, await run, run.progress

    return run_virtually(main)


def test_the_counts_are_the_sums_of_those_of_the_clouds(ended: Any) -> None:
    ids, report, _ = ended
    failed = report.by_cloud["eu"].by_state[S.FAILED]
    assert list(report.by_state.items()) == [
        (S.SUCCEEDED, 50 - failed), (S.UNCHANGED, 0), (S.FAILED, failed), (S.UNKNOWN, 0), (S.SKIPPED, 2),
    ]  # fmt: skip
    assert list(report.by_code.values()) == sorted(report.by_code.values(), reverse=True)
    assert report.by_code == report.by_cloud["eu"].by_code | {"ClientClosedError": 2}
    assert report.measures == report.by_cloud["eu"].measures
    assert (len(report), report.batches, report.timed_out, report.cancelled, report.aborted) == (
        52,
        2,
        False,
        False,
        {},
    )
    assert report.extra_calls == 0
    assert report.seconds == max(each.seconds for each in report.by_cloud.values())
    assert_one_each(ids, report)
    assert repr(report).startswith("<CloudsReport servers.stop of 52 servers in 3 clouds: ")


def test_the_report_and_the_progress_can_be_pickled_and_copied(ended: Any) -> None:
    _, report, progress = ended
    for way in WAYS:
        again = way(report)
        assert (again.by_state, again.by_code, len(again)) == (report.by_state, report.by_code, len(report))
        assert [(each.cloud, each.server_id, each.code) for each in again] == [
            (each.cloud, each.server_id, each.code) for each in report
        ]
        assert way(progress) == progress


def test_the_json_has_the_sums_and_the_whole_report_of_each_cloud(ended: Any) -> None:
    _, report, _ = ended
    tree = json.loads(report.to_json())
    assert (tree["version"], tree["action"], tree["by_state"]["SKIPPED"]) == (1, "servers.stop", 2)
    assert tree["by_cloud"] == {name: json.loads(each.to_json()) for name, each in report.by_cloud.items()}
    assert tree["measures"] == report.measures


def test_what_cannot_be_changed_cannot_be_changed(ended: Any) -> None:
    _, report, progress = ended
    for counts in (report.by_cloud, report.by_state, report.by_code, report.aborted, progress.by_cloud):
        with pytest.raises(TypeError, match="immutable"):
            counts.clear()


def test_an_outcome_that_names_its_cloud_is_an_outcome(ended: Any) -> None:
    _, report, _ = ended
    outcome = next(each for each in report if each.state is S.FAILED)
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome, CloudOutcome)
    assert (outcome.reason, outcome.code) == ("BMS.0006", "BMS.0006")
    assert repr(outcome).startswith("CloudOutcome(")
    assert "cloud='eu'" in repr(outcome)
    same = next(each for each in report if each.server_id == outcome.server_id)
    assert (outcome == same, hash(outcome) == hash(same)) == (True, True)
    elsewhere = CloudOutcome(**{name: getattr(outcome, name) for name in Outcome.__struct_fields__}, cloud="us")
    plain = report.by_cloud["eu"].outcomes
    assert outcome != elsewhere
    assert outcome not in list(plain)
    assert all(each != outcome for each in plain)
