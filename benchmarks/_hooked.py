"""The CPU of a call of clients with and without hooks; `benchmarks.hooks` runs it in processes of their own.

    python -m benchmarks._hooked

The transport answers at once and from memory, so that the figures are the SDK's own part of a call, without sockets.
All kinds take turns in one process, in short stretches, so that other load on the machine affects each alike.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Unpack

from benchmarks._samples import JOB_ID, PROJECT, RESPONSE_HEADERS, TOKEN, job_document
from bms_async import BmsClient, Hook, HookEvent, HttpRequest, HttpResponse, Lane, Limits, StaticToken
from bms_async.session import Session
from bms_async.session.arguments import CallArguments, CallKeywords
from bms_async.session.call import Call
from bms_async.wire import Operation

CALLS, ROUNDS = 400, 60
ANSWER = HttpResponse(status=200, headers=RESPONSE_HEADERS, body=job_document(1, running=True))


class AtOnce:
    """A transport whose responses come from memory."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the same response to every request."""
        del request
        return ANSWER


class Plain(Session):
    """Makes calls as before there were hooks: without the check for them."""

    def call(
        self, operation: Operation[Any], *, lane: Lane = Lane.INTERACTIVE, **arguments: Unpack[CallKeywords]
    ) -> Any:
        """Make a call."""
        return Call(self._core, operation, CallArguments(**arguments), self.options, lane=lane).run()


def nothing() -> None:
    """No hooks, as by default."""


def empty() -> Hook:
    """A hook that does nothing."""

    def hook(event: HookEvent) -> None: ...

    return hook


def no_op() -> Hook:
    """OpenTelemetry with no-op providers, which record nothing."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    from bms_async import Telemetry

    return Telemetry(NoOpTracerProvider(), NoOpMeterProvider())


def sampled_out() -> Hook:
    """OpenTelemetry's SDK with a sampler that drops every trace, and with metrics."""
    return _sdk(keeps=False)


def in_memory() -> Hook:
    """OpenTelemetry's SDK with every span kept in memory and every measurement aggregated."""
    return _sdk(keeps=True)


def _sdk(*, keeps: bool) -> Hook:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    from bms_async import Telemetry

    tracers = TracerProvider(ALWAYS_ON if keeps else ALWAYS_OFF, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter(max_spans=1000)))
    return Telemetry(tracers, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))


PLAIN, UNUSED = "as if there were no hooks", "no hooks"
KINDS: dict[str, Callable[[], Hook | None]] = {
    PLAIN: nothing,
    UNUSED: nothing,
    "an empty hook": empty,
    "Telemetry, no-op providers": no_op,
    "Telemetry, SDK that samples nothing": sampled_out,
    "Telemetry, SDK in memory": in_memory,
}


async def measure(client: BmsClient) -> float:
    """Return the µs of CPU a call."""
    begun = time.process_time()
    for _ in range(CALLS):
        await client.jobs.get(JOB_ID)
    return (time.process_time() - begun) / CALLS * 1e6


async def main() -> dict[str, list[float]]:
    """Return the figures of each kind, round by round."""
    clients = {
        name: BmsClient(
            endpoint="http://localhost",
            project_id=PROJECT,
            auth=StaticToken(TOKEN),
            transport=AtOnce(),
            limits=Limits({"jobs.get": 1_000_000_000}),
            hooks=make(),
        )
        for name, make in KINDS.items()
    }
    figures: dict[str, list[float]] = {name: [] for name in clients}
    plain = clients[PLAIN]
    plain.jobs._session = Plain(plain._core, plain._session.options)  # noqa: SLF001
    for client in clients.values():
        await client.__aenter__()
    for round_ in range(ROUNDS + 1):
        for name, client in clients.items():
            taken = await measure(client)
            if round_:
                figures[name].append(taken)
    for client in clients.values():
        await client.aclose()
    return figures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
