"""What traces show: a call, its tries, a run, and polls that link to what started their job."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context

import anyio
import pytest
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from bms_async import BmsError, CallEnded, CallStarted, NotFoundError, RetryPolicy, Telemetry
from bms_async.simulator import Answer, CutBefore, Delay, Throttled
from bms_async.telemetry import spans as spans_module
from tests.hooks._helpers import first, hooked, password_auth
from tests.support.virtual_clock import run_virtually
from tests.telemetry._helpers import Recorder, attributes, context_of, id_of

MISSING = "616fb98f-46ca-475e-917e-2563e5a8cd19"
SERVER = "/v1/{project_id}/baremetalservers/{server_id}"
ACTION = "/v1/{project_id}/baremetalservers/action"


def test_a_call_is_a_span_with_a_client_span_of_the_http_conventions_below_it() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            (server_id,) = sim.ids
            with recorder.tracers.get_tracer("mine").start_as_current_span("mine"):
                await sim.bms.servers.get(server_id)
        (mine,) = recorder.named("mine")
        (call,) = recorder.below(mine)
        (tried,) = recorder.below(call)
        assert len(recorder.spans) == 3
        assert (call.name, call.kind, call.status.status_code) == ("servers.get", SpanKind.INTERNAL, StatusCode.UNSET)
        found = attributes(call)
        assert found.pop("bms.request_id")
        project_id = sim.cloud.settings.project_id
        assert found == {
            "bms.operation": "servers.get",
            "bms.lane": "interactive",
            "bms.project_id": project_id,
            "bms.server_id": server_id,
            "bms.attempts": 1,
        }
        assert (tried.name, tried.kind, tried.status.status_code) == (
            f"GET {SERVER}",
            SpanKind.CLIENT,
            StatusCode.UNSET,
        )
        found = attributes(tried)
        assert found.pop("bms.request_id") == attributes(call)["bms.request_id"]
        assert found == {
            "http.request.method": "GET",
            "url.template": SERVER,
            "url.full": f"http://localhost/v1/{project_id}/baremetalservers/{server_id}",
            "server.address": "localhost",
            "server.port": 80,
            "http.response.status_code": 200,
            "bms.slot.wait": 0.0,
        }
        scope = call.instrumentation_scope
        assert scope is not None
        assert scope.name == "bms_async"
        assert scope.version

    run_virtually(main)


def test_no_query_is_in_a_span_and_a_call_by_its_path_is_named_by_its_method() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            await sim.bms.request("GET", "/v1/{project_id}/baremetalservers/detail", query={"name": "needle"})
        tried, call = recorder.spans
        assert (tried.name, call.name) == ("GET", "servers.list")
        assert "url.template" not in attributes(tried)
        assert all("needle" not in span.to_json() for span in recorder.spans)

    run_virtually(main)


def test_each_try_is_a_span_and_tells_that_it_is_not_the_first() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            sim.cloud.faults.append(first("servers.get", Answer(status=503), CutBefore(), Throttled(retry_after=5)))
            await sim.bms.servers.get(sim.ids[0])
        (call,) = recorder.named("servers.get")
        tries = recorder.below(call)
        assert [
            (
                attributes(each).get("http.request.resend_count"),
                attributes(each).get("http.response.status_code"),
                attributes(each).get("error.type"),
                each.status.status_code,
            )
            for each in tries
        ] == [
            (None, 503, "503", StatusCode.ERROR),
            (1, None, "TransportError", StatusCode.ERROR),
            (2, 429, "429", StatusCode.ERROR),
            (3, 200, None, StatusCode.UNSET),
        ]
        assert [event.name for event in call.events] == [*["bms.retry"] * 2, "bms.rate_limited", "bms.retry"]
        (limited,) = [event for event in call.events if event.name == "bms.rate_limited"]
        assert dict(limited.attributes or {}) == {"bms.retry_after": 5.0, "bms.slot.limit": 800}
        assert attributes(tries[3])["bms.slot.wait"] == pytest.approx(5.0, abs=0.1)
        # It went well in the end.
        assert (call.status.status_code, attributes(call)["bms.attempts"]) == (StatusCode.UNSET, 4)

    run_virtually(main)


def test_a_call_that_fails_is_an_error_with_the_clouds_code_and_no_exception_in_it() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            with pytest.raises(NotFoundError) as caught:
                await sim.bms.servers.get(MISSING)
        tried, call = recorder.spans
        for span, error in ((tried, "404"), (call, "NotFoundError")):
            assert span.status.status_code is StatusCode.ERROR
            assert attributes(span)["error.type"] == error
            assert attributes(span)["bms.code"] == caught.value.code
            assert attributes(span)["bms.request_id"] == caught.value.request_id
            assert span.events == ()

    run_virtually(main)


def test_many_calls_at_once_each_have_their_own_span_below_the_callers() -> None:
    recorder = Recorder()

    async def main() -> None:
        tracer = recorder.tracers.get_tracer("mine")
        async with (
            hooked(recorder.telemetry, servers=50, latency=(0.0, 3.0)) as sim,
            anyio.create_task_group() as group,
        ):

            async def caller(server_id: str) -> None:
                with tracer.start_as_current_span(server_id) as mine:
                    await sim.bms.servers.get(server_id)
                    assert get_current_span() is mine

            for server_id in sim.ids:
                group.start_soon(caller, server_id)
        assert len(recorder.spans) == 150
        for server_id in sim.ids:
            (mine,) = recorder.named(server_id)
            (call,) = recorder.below(mine)
            assert attributes(call)["bms.server_id"] == server_id
            (tried,) = recorder.below(call)
            assert attributes(tried)["url.full"].endswith(server_id)

    run_virtually(main)


@pytest.mark.parametrize("leaving", ["cancelled", "timeout", "closed"])
def test_a_call_that_is_left_ends_its_spans_and_leaves_the_callers_context_as_it_was(
    leaving: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            sim.cloud.faults.append(first("servers.get", Delay(seconds=50.0)))

            async def call() -> None:
                before = get_current()
                try:
                    async with asyncio.timeout(2.0 if leaving == "timeout" else None):
                        await sim.bms.servers.get(sim.ids[0])
                finally:
                    assert get_current() is before

            task = asyncio.get_running_loop().create_task(call())
            await anyio.sleep(1.0)
            if leaving == "cancelled":
                task.cancel()
            elif leaving == "closed":
                await sim.bms.aclose()
            await asyncio.wait({task})
            assert task.cancelled() or isinstance(task.exception(), TimeoutError | BmsError)
        tried, span = recorder.spans
        assert span.name == "servers.get"
        assert tried.parent is not None
        assert tried.parent.span_id == id_of(span)
        assert (attributes(tried)["error.type"], tried.status.status_code) == ("CancelledError", StatusCode.UNSET)
        by_closing = ("ClientClosedError", StatusCode.ERROR)
        found = (attributes(span)["error.type"], span.status.status_code)
        assert found == (by_closing if leaving == "closed" else ("CancelledError", StatusCode.UNSET))
        assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"

    run_virtually(main)
    assert caplog.records == []


def test_two_telemetries_nest_and_leave_the_callers_context_as_it_was() -> None:
    outer, inner = Recorder(), Recorder()

    async def main() -> None:
        before = get_current()
        async with hooked([outer.telemetry, inner.telemetry], servers=2) as sim:
            await sim.bms.servers.get(sim.ids[0])
            await sim.bms.fleet.stop(sim.ids)
            assert get_current() is before
        for name in ("servers.get", "fleet.stop"):
            (round_,), (below,) = outer.named(name), inner.named(name)
            assert round_.parent is None
            assert below.parent is not None
            assert below.parent.span_id == id_of(round_)

    run_virtually(main)


def test_a_call_whose_end_is_told_in_another_context_leaves_that_one_alone(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    started = CallStarted(
        call=1, operation="servers.get", method="GET", template=None, parameters={}, project_id=None,
        host="localhost", port=80, lane="bulk", is_poll=False, run=None,
    )  # fmt: skip
    ended = CallEnded(
        call=1, operation="servers.get", seconds=1.0, attempts=0, status=None, code=None, request_id=None,
        error="GeneratorExit", job_id=None, is_poll=False, run=None,
    )  # fmt: skip
    copy_context().run(recorder.telemetry, started)
    with recorder.tracers.get_tracer("mine").start_as_current_span("mine") as mine:
        recorder.telemetry(ended)
        assert get_current_span() is mine
    assert [span.name for span in recorder.spans] == ["servers.get", "mine"]
    # Told twice, or of what nobody has heard the beginning of, it does nothing.
    recorder.telemetry(ended)
    assert len(recorder.spans) == 2
    assert caplog.records == []


def test_a_processor_and_a_meter_that_raise_harm_neither_the_call_nor_the_callers_context(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise LookupError(span.name)

    recorder = Recorder()
    recorder.tracers.add_span_processor(Broken())
    counter = recorder.telemetry._handlers[CallEnded][0].__self__._active  # type: ignore[attr-defined]

    def refuse(number: int, attributes: object) -> None:
        raise OSError("the meter broke")

    monkeypatch.setattr(counter, "add", refuse)

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=3) as sim:
            before = get_current()
            await sim.bms.servers.get(sim.ids[0])
            assert len(await sim.bms.fleet.stop(sim.ids)) == 3
            assert get_current() is before

    run_virtually(main)
    assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"
    assert recorder.named("servers.get")
    assert recorder.named("fleet.stop")
    assert {record.name for record in caplog.records if record.levelno == logging.ERROR} == {"bms_async.hooks"}


def test_lines_that_are_logged_meanwhile_belong_to_the_calls_span() -> None:
    recorder = Recorder()
    seen: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(get_current_span().get_span_context().span_id)

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            await sim.bms.servers.get(sim.ids[0])

    logger, handler = logging.getLogger("bms_async.session"), Handler()
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        run_virtually(main)
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
    assert seen == [id_of(recorder.named("servers.get")[0])]


def test_polls_have_traces_of_their_own_that_link_to_the_call_that_started_the_job() -> None:
    recorder = Recorder()

    async def main() -> None:
        tracer = recorder.tracers.get_tracer("mine")
        # The watcher's task is born in this span, which ends long before the polls.
        with tracer.start_as_current_span("opening"):
            opened = hooked(recorder.telemetry, servers=5)
            sim = await opened.__aenter__()
        with tracer.start_as_current_span("mine"):
            job = await sim.bms.servers.stop(sim.ids)
            other = await sim.bms.servers.start(sim.ids)
        for each in (job, other):
            with pytest.raises(BmsError) if each is other else _nothing():
                await each
        await opened.__aexit__(None, None, None)
        stop, start = recorder.named("servers.stop")[0], recorder.named("servers.start")[0]
        assert attributes(stop)["bms.job_id"] == job.id
        polls = recorder.named("jobs.get")
        assert len(polls) == sim.arrived("jobs.get") > 2
        for poll in polls:
            assert poll.parent is None
            (link,) = poll.links
            starter = stop if attributes(poll)["bms.job_id"] == job.id else start
            assert link.context == starter.get_span_context()
            (tried,) = recorder.below(poll)
            assert tried.name == "GET /v1/{project_id}/jobs/{job_id}"
        assert len({context_of(poll).trace_id for poll in polls}) == len(polls)
        assert recorder.below(recorder.named("opening")[0]) == []
        # Nothing is kept of jobs that have ended.
        assert recorder.telemetry._handlers[spans_module.JobFinished][-1].__self__._jobs == {}  # type: ignore[attr-defined]

    run_virtually(main)


class _nothing:  # noqa: N801 - used as contextlib.nullcontext is
    def __enter__(self) -> None: ...

    def __exit__(self, *given: object) -> None: ...


def test_what_is_remembered_of_jobs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "_MAX_LINKED_JOBS", 2)
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=3) as sim:
            jobs = [await sim.bms.servers.stop([server_id]) for server_id in sim.ids]
            for job in jobs:
                await job
        links = {str(attributes(poll)["bms.job_id"]): len(poll.links) for poll in recorder.named("jobs.get")}
        assert links == {jobs[0].id: 0, jobs[1].id: 1, jobs[2].id: 1}

    run_virtually(main)


def test_a_poll_of_a_server_is_no_child_of_whoever_waited_first() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=1) as sim:
            with recorder.tracers.get_tracer("mine").start_as_current_span("mine"):
                await sim.bms.nova.servers.wait_for(sim.ids[0], "ACTIVE")
        assert recorder.below(recorder.named("mine")[0]) == []
        assert [span.parent for span in recorder.named("nova.servers.get")] == [None]

    run_virtually(main)


def test_a_fleet_run_is_a_span_round_its_batches() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=2500, fail_share=0.01) as sim:
            with recorder.tracers.get_tracer("mine").start_as_current_span("mine"):
                run = sim.bms.fleet.stop(sim.ids)
            report = await run
            assert get_current_span().get_span_context().span_id == 0
        (mine,) = recorder.named("mine")
        (fleet,) = recorder.below(mine)
        assert (fleet.name, fleet.kind, fleet.status.status_code) == (
            "fleet.stop",
            SpanKind.INTERNAL,
            StatusCode.UNSET,
        )
        batches = recorder.below(fleet)
        assert [span.name for span in batches] == ["servers.stop"] * 3
        assert all(recorder.below(batch)[0].name == f"POST {ACTION}" for batch in batches)
        found = attributes(fleet)
        assert found["bms.action"] == "servers.stop"
        assert found["bms.batches"] == 3
        for state, count in report.by_state.items():
            assert found[f"bms.outcomes.{state.value.lower()}"] == count
        assert {link.context.span_id for poll in recorder.named("jobs.get") for link in poll.links} == {
            id_of(batch) for batch in batches
        }
        assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"

    run_virtually(main)


def test_runs_at_once_keep_their_batches_apart() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=20) as sim:
            for run in [sim.bms.fleet.stop(sim.ids[:10]), sim.bms.fleet.reboot(sim.ids[10:])]:
                await run
        for name in ("stop", "reboot"):
            (fleet,) = recorder.named(f"fleet.{name}")
            assert fleet.parent is None
            assert [span.name for span in recorder.below(fleet)] == [f"servers.{name}"]

    run_virtually(main)


@pytest.mark.parametrize("ending", ["aborted", "cancelled", "closed"])
def test_a_run_that_ends_before_its_end_ends_its_span(ending: str) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with hooked(recorder.telemetry, servers=100, fail_share=0.5 if ending == "aborted" else 0.0) as sim:
            run = sim.bms.fleet.stop(sim.ids, wave_size=20, abort_above=0.1 if ending == "aborted" else None)
            await anyio.sleep(1.0)
            if ending == "cancelled":
                run.cancel()
            elif ending == "closed":
                await sim.bms.aclose()
            report = await run
        (fleet,) = recorder.named("fleet.stop")
        if ending == "aborted":
            assert (fleet.status.status_code, fleet.status.description) == (StatusCode.ERROR, report.aborted)
        else:
            assert fleet.status.status_code is StatusCode.UNSET
            assert attributes(fleet)["bms.cancelled"] is True
        assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"

    run_virtually(main)


def test_the_call_for_a_token_is_below_the_call_that_needs_it() -> None:
    recorder = Recorder()

    async def main() -> None:
        auth = password_auth()
        async with hooked(recorder.telemetry, servers=1, auth=auth) as sim:
            await sim.bms.servers.get(sim.ids[0])
        (call,) = recorder.named("servers.get")
        assert [span.name for span in recorder.below(call)] == ["identity.create_token", f"GET {SERVER}"]
        (token,) = recorder.named("identity.create_token")
        (tried,) = recorder.below(token)
        assert tried.name == "POST /v3/auth/tokens"
        assert all("simulated-password" not in span.to_json() for span in recorder.spans)

    run_virtually(main)


def test_a_sampler_that_wants_nothing_costs_no_job_its_memory() -> None:
    telemetry = Telemetry(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))

    async def main() -> None:
        async with hooked(telemetry, servers=3, retry=RetryPolicy(attempts=2)) as sim:
            await sim.bms.fleet.stop(sim.ids)
        assert repr(telemetry) == "<Telemetry: 0 spans open>"

    run_virtually(main)
