"""R5: no event that a hook gets, no span that is made of it and no fault of a hook that is logged shows a secret."""

from __future__ import annotations

import asyncio
from itertools import cycle

import msgspec
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bms_async import BmsError, HookEvent, Telemetry
from tests.secrets._search import Eye, watching
from tests.secrets.calls import CALLS, SERVER
from tests.secrets.clouds import CREDENTIALS, Cloud, client_of
from tests.secrets.failures import FAILURES, Behaviour
from tests.secrets.test_jobs_and_fleets import Jobs
from tests.support.virtual_clock import run_virtually


class RecordingCloud:
    """A hook that inspects each event, and then raises."""

    def __init__(self, eye: Eye) -> None:
        self._eye = eye
        self.seen: set[str] = set()

    def __call__(self, event: HookEvent) -> None:
        name = type(event).__name__
        self._eye.look(name, event)
        self._eye.search(f"{name}: JSON", msgspec.json.encode(event))
        if name not in self.seen:
            self.seen.add(name)
            raise LookupError(name)


class Traces:
    """A `Telemetry`, and all that it has recorded in the SDK."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.telemetry = Telemetry(tracers, MeterProvider([self._reader], shutdown_on_exit=False))

    def show(self, eye: Eye) -> None:
        spans = self._spans.get_finished_spans()
        assert spans
        for span in spans:
            eye.search(f"span {span.name}", span.to_json(indent=None))
        data = self._reader.get_metrics_data()
        assert data is not None
        eye.search("metrics", data.to_json(indent=None))


# Each failure with one kind of credentials: all pairs are tried where errors and logs are looked at.
@pytest.mark.parametrize(("failure", "credentials"), list(zip(FAILURES.values(), cycle(CREDENTIALS))), ids=FAILURES)
def test_r5_no_secret_shows_in_what_is_told_of_calls(failure: Behaviour, credentials: str) -> None:
    traces = Traces()

    async def use(eye: Eye) -> None:
        cloud, witness = Cloud(eye, failure), RecordingCloud(eye)
        hooks = [witness, traces.telemetry]
        async with client_of(eye, cloud, CREDENTIALS[credentials](), hooks=hooks) as bms:
            for call in CALLS.values():
                cloud.carries = call.carries
                try:
                    await call.make(bms)
                except (BmsError, asyncio.CancelledError):
                    continue
        assert {"CallStarted", "RequestSent", "AttemptEnded", "CallEnded"} <= witness.seen

    with watching() as eye:
        run_virtually(lambda: use(eye))
    traces.show(eye)
    assert eye.found == {}


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_shows_in_what_is_told_of_jobs_and_runs_whose_cloud_echoes(credentials: str) -> None:
    traces = Traces()

    async def use(eye: Eye) -> None:
        witness = RecordingCloud(eye)
        hooks = [witness, traces.telemetry]
        async with client_of(eye, Cloud(eye, Jobs("FAIL", "FAIL")), CREDENTIALS[credentials](), hooks=hooks) as bms:
            await bms.fleet.stop([SERVER, "no/id"])
        assert {"JobPolled", "JobFinished", "RunStarted", "OutcomeRecorded", "RunEnded"} <= witness.seen

    with watching() as eye:
        run_virtually(lambda: use(eye))
    traces.show(eye)
    assert eye.found == {}
