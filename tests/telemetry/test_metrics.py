"""What metrics count, in the units of the conventions, and by attributes of which none is an id."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint

from bms_async import Limits, NotFoundError, OutcomeRecorded
from bms_async.simulator import Answer, Throttled
from tests.hooks._helpers import first, hooked, password_auth
from tests.support.virtual_clock import run_virtually
from tests.telemetry._helpers import Recorder

MISSING = "616fb98f-46ca-475e-917e-2563e5a8cd19"
GET = ("bms.operation", "servers.get")


def test_requests_are_measured_by_the_http_conventions() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1, latency=(0.2, 0.2)) as sim:
            sim.cloud.faults.append(first("servers.get", Answer(status=503)))
            await sim.bms.servers.get(sim.ids[0])
            with pytest.raises(NotFoundError):
                await sim.bms.servers.get(MISSING)

    run_virtually(main)
    place = (
        ("http.request.method", "GET"),
        ("server.address", "localhost"),
        ("server.port", 80),
        ("url.template", "/v1/{project_id}/baremetalservers/{server_id}"),
    )

    def key(status: int, error: str | None = None) -> tuple[tuple[str, object], ...]:
        answer = [("http.response.status_code", status), *([("error.type", error)] if error else [])]
        return tuple(sorted([*place, *answer]))

    assert recorder.values("http.client.request.duration") == {key(503, "503"): 1, key(404, "404"): 1, key(200): 1}
    metric = recorder.metric("http.client.request.duration")
    assert metric.unit == "s"
    assert isinstance(metric.data, Histogram)
    good = [point for point in metric.data.data_points if "error.type" not in (point.attributes or {})]
    assert good[0].sum == pytest.approx(0.2, abs=0.01)
    assert good[0].explicit_bounds[0] == 0.005
    calls = recorder.values("bms.call.duration")
    assert calls == {(GET,): 1, (GET, ("error.type", "NotFoundError")): 1}
    assert recorder.values("bms.call.retries") == {(GET, ("error.type", "ServerError")): 1}


def test_calls_under_way_are_counted_and_none_is_left_over() -> None:
    recorder = Recorder()
    seen: dict[str, object] = {}

    async def main() -> None:
        latency = (5.0, 5.0)
        async with hooked(recorder.telemetry, servers=10, latency=latency) as sim, anyio.create_task_group() as group:
            for server_id in sim.ids:
                group.start_soon(sim.bms.servers.get, server_id)
            await anyio.sleep(1.0)
            seen["at once"] = recorder.values("bms.call.active")
            await anyio.sleep(10.0)
            seen["afterwards"] = recorder.values("bms.call.active")

    run_virtually(main)
    assert seen == {"at once": {(GET,): 10}, "afterwards": {(GET,): 0}}


def test_waits_slots_and_refusals_are_told_by_operation() -> None:
    recorder = Recorder()

    async def main() -> None:
        limits = Limits({"servers.get": 4})
        async with hooked(recorder.telemetry, servers=1, limits=limits) as sim:
            sim.cloud.faults.append(first("servers.get", Throttled(retry_after=1)))
            for _ in range(5):
                await sim.bms.servers.get(sim.ids[0])

    run_virtually(main)
    assert recorder.values("bms.slot.wait") == {(GET,): 6}
    (point,) = recorder.metric("bms.slot.wait").data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert point.max == pytest.approx(60.0, abs=2.0)
    assert recorder.values("bms.call.refusals") == {(GET,): 1}
    assert 1 <= recorder.values("bms.slot.used")[(GET,)] <= recorder.values("bms.slot.limit")[(GET,)] <= 4


def test_outcomes_jobs_polls_and_runs_are_told_by_action_and_state() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=300, fail_share=0.1) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            action = ("bms.action", "servers.stop")
            outcomes = {
                (action, ("bms.state", state.value)): count for state, count in report.by_state.items() if count
            }
            assert recorder.values("bms.fleet.outcomes") == outcomes
            assert recorder.values("bms.fleet.run.duration") == {(action,): 1}
            assert recorder.values("bms.job.duration") == {(action, ("bms.status", "FAIL")): 1}
            assert recorder.values("bms.job.polls") == {(action,): sim.arrived("jobs.get")}

    run_virtually(main)


def test_a_poll_that_tells_of_a_thousand_servers_does_not_call_the_sdk_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    added: list[tuple[float, str]] = []

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1000, job_seconds=(30.0, 30.0)) as sim:
            await sim.bms.fleet.stop(sim.ids)

    counter = recorder.telemetry._handlers[OutcomeRecorded][0].__self__._outcomes  # type: ignore[attr-defined]
    monkeypatch.setattr(counter, "add", lambda number, attributes: added.append((number, attributes["bms.state"])))
    run_virtually(main)
    assert added == [(1000, "SUCCEEDED")]


def test_renewals_of_credentials_are_counted() -> None:
    recorder = Recorder()

    async def main() -> None:
        auth = password_auth()
        async with hooked(recorder.telemetry, servers=1, auth=auth) as sim:
            await sim.bms.servers.get(sim.ids[0])

    run_virtually(main)
    assert recorder.values("bms.credentials.renewals") == {(("bms.credentials", "PasswordAuth"),): 1}
