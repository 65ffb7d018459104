"""Every call of code that is not this package's: whatever it raises, a run ends with one outcome for each server (R2).

A row is a place where foreign code is called. What is added to the package and calls some gets a row here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from bms_async import (
    AkSkAuth,
    BmsClient,
    FleetRun,
    HookEvent,
    HttpRequest,
    HttpResponse,
    JobHandle,
    Outcome,
    OutcomeState,
    Secret,
    StaticToken,
)
from bms_async.simulator import Answer, Unauthorized
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.transport.base import OwningTransport
from tests.fleet._helpers import assert_one_outcome_each
from tests.support.virtual_clock import run_virtually


class Breaks:
    """Foreign code that raises at each of its first calls, and is mended then."""

    def __init__(self, raised: type[BaseException], times: int = 3) -> None:
        self.raised = raised
        self.left = times
        self.calls = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.raised("of the application")


@dataclass
class Setup:
    """A client and a run with foreign code somewhere in them.

    Attributes:
        ids: The run's servers; None for all of the cloud's.
        client: Options of the client.
        made: The client, where options do not do.
        run: Options of the run.
        reaches_caller: Whether the code's error reaches the caller of the run; else an outcome or the log has it.
    """

    ids: Any = None
    client: dict[str, Any] = field(default_factory=dict)
    made: BmsClient | None = None
    run: dict[str, Any] = field(default_factory=dict)
    reaches_caller: bool = True


Place = Callable[[Breaks, SimulatedCloud], Setup]


def on_job(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    return Setup(run={"on_job": breaks})


def on_job_that_waits(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    async def save(job: JobHandle) -> None:
        await anyio.sleep(0.1)
        breaks()

    return Setup(run={"on_job": save})


def on_job_that_awaits_what_was_cancelled(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    async def save(job: JobHandle) -> None:
        try:
            breaks()
        except asyncio.CancelledError:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    return Setup(run={"on_job": save})


def on_outcome(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    return Setup(run={"on_outcome": breaks})


def on_outcome_that_waits(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    async def hear(outcome: Outcome) -> None:
        await anyio.sleep(0.1)
        breaks()

    return Setup(run={"on_outcome": hear})


def a_source(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    def ids() -> Iterator[str]:
        yield from cloud.ids
        breaks()

    return Setup(ids=ids())


def a_source_that_waits(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    async def ids() -> AsyncIterator[str]:
        for server_id in cloud.ids:
            yield server_id
        await anyio.sleep(0.1)
        breaks()

    return Setup(ids=ids())


def a_hook(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    def hook(event: HookEvent) -> None:
        breaks()

    return Setup(client={"hooks": hook}, reaches_caller=False)


class Credentials:
    """Credentials of the application's own, around those of the cloud; one of their methods breaks."""

    def __init__(self, cloud: SimulatedCloud, breaks: Breaks, place: str) -> None:
        self._inner = StaticToken(cloud.settings.token)
        self._breaks = breaks
        self._place = place

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        self._come_to("headers")
        return await self._inner.headers(request)

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        self._come_to("renew")
        return True

    def redact(self, text: str) -> str:
        self._come_to("redact")
        return text

    def _come_to(self, place: str) -> None:
        if place == self._place:
            self._breaks()


def headers_of_credentials(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    return Setup(client={"auth": Credentials(cloud, breaks, "headers")})


def headers_of_credentials_once_jobs_are_polled(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    class Late(Credentials):
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            if request.operation == "jobs.get":
                breaks()
            return await self._inner.headers(request)

    return Setup(client={"auth": Late(cloud, breaks, "")}, reaches_caller=False)


def headers_of_credentials_once_states_are_read(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    class Late(Credentials):
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            if request.operation == "servers.get":
                breaks()
            return await self._inner.headers(request)

    return Setup(client={"auth": Late(cloud, breaks, "")}, run={"verify": True})


def renewal_of_credentials(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    cloud.faults.add("servers.stop", Unauthorized())
    return Setup(client={"auth": Credentials(cloud, breaks, "renew")})


def redaction_of_credentials(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    cloud.faults.add("servers.stop", Answer(status=400))
    # What it raises may hold what it was to redact, so that its type alone is logged.
    return Setup(client={"auth": Credentials(cloud, breaks, "redact")}, reaches_caller=False)


def a_search_for_the_project(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    class Scoped(Credentials):
        async def find_project_id(self) -> str | None:
            breaks()
            return cloud.project_id

    client = BmsClient(endpoint=cloud.address, auth=Scoped(cloud, breaks, ""), transport=cloud.transport())
    return Setup(made=client)


def a_clock_of_credentials(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    def clock() -> datetime:
        breaks()
        return datetime.fromtimestamp(cloud.cloud.unix_now(), UTC)

    # It is asked once when the credentials are made.
    times, breaks.left = breaks.left, 0
    auth = AkSkAuth(cloud.settings.access_key, cloud.settings.secret_key, clock=clock)
    breaks.left = times
    return Setup(client={"auth": auth})


def a_provider_of_keys(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    async def provider() -> tuple[str, Secret, None]:
        breaks()
        return cloud.settings.access_key, Secret(cloud.settings.secret_key), None

    return Setup(client={"auth": AkSkAuth(provider=provider)}, reaches_caller=False)


def a_transport(breaks: Breaks, cloud: SimulatedCloud) -> Setup:
    inner = cloud.transport()
    assert isinstance(inner, OwningTransport)
    carries: OwningTransport = inner

    class Own:
        is_open = False

        async def send(self, request: HttpRequest) -> HttpResponse:
            breaks()
            if not self.is_open:
                self.is_open = True
                await carries.open()
            return await carries.send(request)

    return Setup(client={"transport": Own()}, reaches_caller=False)


PLACES: list[Place] = [
    on_job,
    on_job_that_waits,
    on_job_that_awaits_what_was_cancelled,
    on_outcome,
    on_outcome_that_waits,
    a_source,
    a_source_that_waits,
    a_hook,
    headers_of_credentials,
    headers_of_credentials_once_jobs_are_polled,
    headers_of_credentials_once_states_are_read,
    renewal_of_credentials,
    redaction_of_credentials,
    a_search_for_the_project,
    a_clock_of_credentials,
    a_provider_of_keys,
    a_transport,
]


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, RuntimeError, KeyError])
@pytest.mark.parametrize("place", PLACES)
def test_what_foreign_code_raises_ends_no_run_no_batch_and_no_watcher_and_is_not_lost(
    place: Place, raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=5, job_seconds=(5, 20)))
        breaks = Breaks(raised)
        setup = place(breaks, cloud)
        async with setup.made or cloud.client(**setup.client) as bms:
            run = bms.fleet.stop(cloud.ids if setup.ids is None else setup.ids, **setup.run)
            error = await end_of(run)
            assert breaks.calls
            assert run.report is not None
            assert not run.report.cancelled
            assert_one_outcome_each(cloud.ids, run.report.outcomes)
            outcomes = run.report.outcomes
            if setup.reaches_caller:
                assert is_of_the_application(error, raised)
            else:
                # It is logged, or is why an outcome is not good, or has not harmed any.
                assert "of the application" in caplog.text or all(
                    each.state.is_success or is_of_the_application(each.error, raised) for each in outcomes
                )
            breaks.left = 0
            await assert_works(bms, cloud)

    run_virtually(main)


async def end_of(run: FleetRun) -> BaseException | None:
    with anyio.fail_after(7200):
        try:
            await run
        except Exception as error:  # noqa: BLE001 - what the foreign code raised, whatever that is
            return error
    return None


def is_of_the_application(error: BaseException | None, raised: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, raised) and "of the application" in str(error):
            return True
        error = error.__cause__
    # A cancelled future does not say why.
    return raised is asyncio.CancelledError


async def assert_works(bms: BmsClient, cloud: SimulatedCloud) -> None:
    """The client polls and asks as ever."""
    with anyio.fail_after(7200):
        report = await bms.fleet.start(cloud.ids)
    assert_one_outcome_each(cloud.ids, report.outcomes)
    assert {outcome.state for outcome in report.outcomes} <= {OutcomeState.SUCCEEDED, OutcomeState.UNCHANGED}
