"""Answers that the cloud gives in part, or jobs that it tells in a way that no client would like."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bms_async.simulator import GarbledJob, HalfBody, Script, ScriptedFault
from bms_async.simulator.core.faults import Fault, Garbling
from tests.simulator._helpers import World, Worlds

SERVERS = 12


async def ask(world: World, fault: Fault) -> dict[str, Any]:
    """Stop all servers, and read the job when it has ended, once as it is and once with a fault."""
    accepted = await world.bms.post(
        "/baremetalservers/action",
        json={"os-stop": {"type": "HARD", "servers": [{"id": server_id} for server_id in world.ids]}},
    )
    world.cloud.faults.append(Script([ScriptedFault(operation="jobs.get", nth=2, fault=fault)]))
    whole = await world.finish(accepted)
    assert Counter(sub["status"] for sub in whole["entities"]["sub_jobs"]) == {"SUCCESS": SERVERS}
    answer = await world.bms.get(f"/jobs/{accepted.json()['job_id']}")
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    assert {**told, "entities": None} == {**whole, "entities": None}
    assert told["entities"]["sub_jobs_total"] == SERVERS
    return told


def subs(job: dict[str, Any]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = job["entities"]["sub_jobs"]
    return told


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
async def test_half_a_body_is_the_beginning_of_what_there_is_to_say(world: Worlds, share: float) -> None:
    opened = world(servers=SERVERS)
    whole = await opened.bms.get("/baremetalservers/detail")
    opened.cloud.faults.append(Script([ScriptedFault(operation="servers.list", nth=2, fault=HalfBody(share=share))]))
    half = await opened.bms.get("/baremetalservers/detail")
    assert half.status_code == 200
    assert half.content == whole.content[: int(len(whole.content) * share)]
    assert half.headers["Content-Type"] == "application/json"


async def test_what_is_answered_with_half_a_body_was_done(world: Worlds) -> None:
    opened = world(servers=1)
    opened.cloud.faults.append(Script([ScriptedFault(operation="servers.stop", nth=1, fault=HalfBody())]))
    await opened.bms.post("/baremetalservers/action", json={"os-stop": {"servers": [{"id": opened.ids[0]}]}})
    opened.hand.now += 1000
    assert opened.cloud.servers[opened.ids[0]].stops == 1


@pytest.mark.parametrize("how", [("twice",), ("nameless",), ("backwards",), ("missing",), ("shuffled",)])
async def test_a_garbled_job_is_garbled_in_the_way_that_was_asked_for(world: Worlds, how: tuple[Garbling, ...]) -> None:
    opened = world(servers=SERVERS)
    told = subs(await ask(opened, GarbledJob(how=how, seed=3)))
    named = [sub["entities"].get("server_id") for sub in told]
    if how == ("twice",):
        assert SERVERS < len(told) < 2 * SERVERS
        assert set(named) == set(opened.ids)
    elif how == ("nameless",):
        assert 0 < named.count(None) < SERVERS == len(told)
    elif how == ("backwards",):
        states = Counter(sub["status"] for sub in told)
        assert states.keys() == {"SUCCESS", "RUNNING"}
        assert all((sub["end_time"] is None) is (sub["status"] == "RUNNING") for sub in told)
    elif how == ("missing",):
        assert 0 < len(told) < SERVERS
    else:
        assert sorted(named) == sorted(opened.ids)
        assert named != opened.ids


async def test_a_garbled_job_is_the_same_for_the_same_seed(world: Worlds) -> None:
    how: tuple[Garbling, ...] = ("shuffled", "twice", "nameless", "backwards", "missing")
    first = await ask(world(servers=SERVERS), GarbledJob(how=how, seed=3))
    second = await ask(world(servers=SERVERS), GarbledJob(how=how, seed=3))
    other = await ask(world(servers=SERVERS), GarbledJob(how=how, seed=4))
    assert first == second != other


async def test_what_is_no_job_with_sub_jobs_is_not_garbled(world: Worlds) -> None:
    opened = world(servers=1)
    everything = GarbledJob(how=("missing",), share=1.0)
    opened.cloud.faults.append(Script([ScriptedFault(operation="servers.get", nth=1, fault=everything)]))
    assert (await opened.bms.get(f"/baremetalservers/{opened.ids[0]}")).json()["server"]["id"] == opened.ids[0]
