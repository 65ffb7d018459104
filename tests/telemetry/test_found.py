"""Who has set OpenTelemetry up is found out when a client is opened; who has not does not pay for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

CLIENT = "BmsClient(endpoint='https://bms.example.com', project_id='0' * 32, auth=StaticToken('x'){})"
PROGRAM = """
import asyncio, json, sys
from bms_async import BmsClient, StaticToken
{before}
async def main():
    async with {client} as bms:
        hooks = bms._core.hooks
        print(json.dumps({{
            "hooks": [type(hook).__name__ for hook in hooks._hooks] if hooks else [],
            "imported": sorted({{name.partition(".")[0] for name in sys.modules}} & {{"opentelemetry"}}),
            "ours": sorted(name for name in sys.modules if name.startswith({ours})),
        }}))
asyncio.run(main())
"""
OURS = ("bms_async.hooks", "bms_async.telemetry.")
TRACER = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry import trace
trace.set_tracer_provider(TracerProvider())
"""
METER = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry import metrics
metrics.set_meter_provider(MeterProvider())
"""
NO_OP = """
from opentelemetry import metrics, trace
trace.set_tracer_provider(trace.NoOpTracerProvider())
metrics.set_meter_provider(metrics.NoOpMeterProvider())
"""


def opened(before: str = "", arguments: str = "", **environment: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        run(PROGRAM.format(before=before, client=CLIENT.format(arguments), ours=OURS), **environment)
    )
    return told


def run(program: str, **environment: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=ours | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_program_that_does_not_use_opentelemetry_never_imports_it() -> None:
    told = opened()
    assert told["hooks"] == []
    assert told["imported"] == []
    # Nor is anything of ours there that only events need.
    assert told["ours"] == ["bms_async.telemetry.found"]


@pytest.mark.parametrize("before", [TRACER, METER], ids=["a tracer provider", "a meter provider"])
def test_a_provider_that_is_set_is_found(before: str) -> None:
    assert opened(before)["hooks"] == ["Telemetry"]


@pytest.mark.parametrize("before", ["import opentelemetry.trace, opentelemetry.metrics", NO_OP], ids=["none", "no-op"])
def test_a_program_that_has_imported_opentelemetry_and_set_nothing_has_no_telemetry(before: str) -> None:
    assert opened(before)["hooks"] == []


def test_a_telemetry_among_the_hooks_is_not_doubled() -> None:
    told = opened(TRACER + "from bms_async import Telemetry", ", hooks=[print, Telemetry()]")
    assert told["hooks"] == ["builtin_function_or_method", "Telemetry"]


def test_a_telemetry_is_added_to_other_hooks() -> None:
    assert opened(TRACER, ", hooks=print")["hooks"] == ["builtin_function_or_method", "Telemetry"]


def test_it_is_switched_off_as_every_instrumentation_is() -> None:
    assert opened(TRACER, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis, bms_async")["hooks"] == []


def test_the_sdks_own_switch_is_honoured() -> None:
    # The provider is there then, and makes nothing.
    assert opened(TRACER, OTEL_SDK_DISABLED="true")["hooks"] == ["Telemetry"]
    assert run(LATER, OTEL_SDK_DISABLED="true") == "[]"


TWO = """
import asyncio, sys, threading
{before}
from bms_async import BmsClient, StaticToken
busy, gate = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "bms_async.telemetry.meters":
            busy.set()
            gate.wait()

async def find():
    async with {client} as bms:
        return bms._core.hooks._hooks

async def main():
    sys.meta_path.insert(0, Slow())
    first = asyncio.ensure_future(find())
    while not busy.is_set():
        await asyncio.sleep(0)
    second = asyncio.ensure_future(find())
    for _ in range(100):
        await asyncio.sleep(0)
    gate.set()
    (one,), (other,), (third,) = await first, await second, await find()
    print(one is other is third, one)
asyncio.run(main())
"""


def test_clients_that_are_opened_while_it_is_imported_share_one() -> None:
    assert run(TWO.format(before=TRACER, client=CLIENT.format(""))) == "True <Telemetry: 0 spans open>"


OLD = f"""
import opentelemetry.metrics._internal as metrics
del metrics.Meter.create_gauge, metrics._ProxyMeter.create_gauge
{TRACER}
"""


@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        (OLD, {}, "(AttributeError("),
        ("import opentelemetry.trace", {"OTEL_PYTHON_TRACER_PROVIDER": "nobody"}, "(StopIteration("),
    ],
    ids=["an API that is too old", "a provider that is not there"],
)
def test_what_is_wrong_with_opentelemetry_keeps_no_client_from_opening(
    before: str, environment: dict[str, str], said: str
) -> None:
    quiet = """
import logging, sys
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
"""
    program = PROGRAM.format(before=before + quiet, client=CLIENT.format(", hooks=print"), ours=OURS)
    warned, told = run(program, **environment).splitlines()
    assert warned.startswith("bms_async.telemetry WARNING OpenTelemetry is there but cannot be used ")
    assert said in warned
    assert json.loads(told)["hooks"] == ["builtin_function_or_method"]


LATER = """
import asyncio, httpx
from bms_async import BmsClient, HttpxTransport, StaticToken, Telemetry
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"job_id": "j", "status": "SUCCESS"}))

async def main():
    transport = HttpxTransport(httpx.AsyncClient(transport=answer))
    auth = StaticToken("x")
    async with BmsClient(
        endpoint="http://localhost", project_id="p", auth=auth, transport=transport, hooks=Telemetry()
    ) as bms:
        trace.set_tracer_provider(provider)
        await bms.jobs.get("ff808081ad0b6a5e0190f4c37f5b00a1")
        print([span.name for span in spans.get_finished_spans()])

asyncio.run(main())
"""


def test_a_telemetry_of_ones_own_follows_a_provider_that_is_set_later() -> None:
    assert run(LATER) == "['GET /v1/{project_id}/jobs/{job_id}', 'jobs.get']"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
import bms_async
try:
    bms_async.Telemetry
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "Telemetry needs the extra 'otel': pip install 'bms-async[otel]'\n"
