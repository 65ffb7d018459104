"""What a user's type checker says of the public surface; mypy reads this file as a part of `make lint`.

Each `assert_type` is a promise. Each `type: ignore` is a mistake that must be found: mypy is strict, so one that is not
needed any more is an error here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import assert_type

import bms_async
from bms_async import (
    BmsClient,
    ClientView,
    CreationJob,
    EventGap,
    FleetReport,
    FleetRun,
    Job,
    JobChanged,
    JobEnded,
    JobHandle,
    JobLost,
    JobStarted,
    KeyPair,
    Limits,
    Outcome,
    OutcomeState,
    RetryPolicy,
    Server,
    ServerStatus,
    StaticToken,
    SubJob,
    SubJobEnded,
    auth,
    config,
    limits,
    telemetry,
    testing,
)


async def servers(bms: BmsClient, server_id: str) -> None:
    server = await bms.servers.get(server_id)
    assert_type(server, Server)
    assert_type(server.status, ServerStatus | None)
    assert_type(server.created, datetime | None)
    assert_type([each async for each in bms.servers.list(tags="rack-7")], list[Server])
    assert_type(await bms.servers.stop([server_id]), JobHandle)
    assert_type(await bms.nova.servers.get(server_id), Server)
    assert_type(await bms.nova.metadata.get(server_id), Mapping[str, str])
    assert_type(await bms.nova.keypairs.list(), tuple[KeyPair, ...])

    await bms.servers.get(7)  # type: ignore[arg-type]  # an id is a text
    bms.servers.list(tag="rack-7")  # type: ignore[call-arg]  # the filter is called tags
    await bms.servers.reboot([server_id], type="SOFT")  # type: ignore[arg-type]  # only HARD works


async def jobs(bms: BmsClient, job: JobHandle, server_id: str) -> None:
    assert_type(await job, Job)
    assert_type(await job.result(timeout=5.0), Job)
    assert_type(job.sub_job(server_id), asyncio.Future[SubJob])
    assert_type(await job.sub_job(server_id), SubJob)
    assert_type(job.to_json(), str)
    assert_type(bms.jobs.watch("job", keep_polling=True), JobHandle)
    async with bms.jobs.events(max_buffer_size=100) as events:
        async for event in events:
            assert_type(event, JobStarted | JobChanged | SubJobEnded | JobEnded | JobLost | EventGap)


async def fleets(bms: BmsClient, ids: list[str]) -> None:
    async def slowly() -> AsyncIterator[str]:
        yield ids[0]

    run = bms.fleet.reboot(slowly(), wave_size=200, abort_above=0.02, verify=True, total_timeout=60.0)
    assert_type(run, FleetRun)
    async for outcome in run:
        assert_type(outcome, Outcome)
        assert_type(outcome.state, OutcomeState)
        assert_type(outcome.state.is_success, bool)
    assert_type(await run, FleetReport)
    run.cancel(detach=True)

    bms.fleet.stop(ids, wave=200)  # type: ignore[call-arg]  # the option is called wave_size
    bms.fleet.stop(ids, wave_size="200")  # type: ignore[arg-type]  # a number
    bms.fleet.stop(7)  # type: ignore[arg-type]  # ids are iterable


async def creation(bms: BmsClient, job: CreationJob) -> None:
    assert_type(await job, Job)
    assert_type(job.server_ids, tuple[str, ...])


def clients() -> None:
    bms = BmsClient(
        endpoint="https://bms.example.com",
        project_id="p",
        auth=StaticToken("t"),
        limits=Limits({"servers.stop": 20}),
        retry=RetryPolicy(attempts=2, initial_delay=0.1, max_delay=1.0, rate_limit_attempts=0),
        total_timeout=60.0,
    )
    assert_type(bms.with_options(max_wait=2.0), ClientView)
    BmsClient.from_env(total_timeout=5.0)
    BmsClient.from_env(deadline=5.0)  # type: ignore[call-arg]  # a duration is a timeout
    BmsClient(endpoint="https://bms.example.com")  # type: ignore[call-arg]  # credentials are missing


def names_that_are_missing() -> list[object]:
    assert_type(bms_async.Limits, type[Limits])
    return [
        bms_async.Nothing,  # type: ignore[attr-defined]  # no such name, though names come on demand
        auth.Nothing,  # type: ignore[attr-defined]
        config.Nothing,  # type: ignore[attr-defined]
        limits.Nothing,  # type: ignore[attr-defined]
        telemetry.Nothing,  # type: ignore[attr-defined]
        testing.Nothing,  # type: ignore[attr-defined]
    ]
