"""OpenTelemetry gets spans of the clients that enable it, and of no other; other programs pay nothing for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bms_async import BmsClient, StaticToken
from tests.support.programs import run_program

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


def opened(before: str = "", arguments: str = "", **environment: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        run(PROGRAM.format(before=before, client=CLIENT.format(arguments), ours=OURS), **environment)
    )
    return report


def run(program: str, **environment: str) -> str:
    return run_program(program, environment, without=("OTEL_",)).strip()


def test_a_program_that_does_not_use_opentelemetry_never_imports_it() -> None:
    report = opened()
    assert report["hooks"] == []
    assert report["imported"] == []
    # Nor is anything of ours there that only events need.
    assert report["ours"] == ["bms_async.telemetry.detect"]


# With both providers set, whatever looks for either of them finds it.
@pytest.mark.parametrize("arguments", ["", ", hooks=print", ", telemetry=False"])
def test_a_program_that_has_set_opentelemetry_up_and_does_not_ask_has_no_telemetry(arguments: str) -> None:
    report = opened(TRACER + METER, arguments)
    assert "Telemetry" not in report["hooks"]
    assert "bms_async.telemetry.telemetry" not in report["ours"]


@pytest.mark.parametrize("before", ["", TRACER])
def test_a_client_that_asks_has_one(before: str) -> None:
    assert opened(before, ", telemetry=True")["hooks"] == ["Telemetry"]


def test_it_is_added_to_other_hooks() -> None:
    assert opened("", ", hooks=print, telemetry=True")["hooks"] == ["builtin_function_or_method", "Telemetry"]


def test_a_telemetry_among_the_hooks_is_not_doubled() -> None:
    report = opened("from bms_async import Telemetry", ", hooks=[print, Telemetry()], telemetry=True")
    assert report["hooks"] == ["builtin_function_or_method", "Telemetry"]


def test_clients_that_ask_share_one() -> None:
    def client() -> BmsClient:
        return BmsClient(
            endpoint="https://bms.example.com", project_id="0" * 32, auth=StaticToken("a-token"), telemetry=True
        )

    (one,), (other,) = client()._hooks, client()._hooks
    assert one is other


@pytest.mark.parametrize("make", ["from_env", "from_cloud"])
def test_a_client_of_settings_can_ask_as_well(make: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.json"
    clouds.write_text(
        '{"clouds": {"here": {"bms_endpoint_override": "https://x", "auth": {"token": "t", "project_id": "p"}}}}'
    )
    for name, value in {
        "BMS_ENDPOINT": "https://x", "OS_TOKEN": "t", "OS_PROJECT_ID": "p", "OS_CLIENT_CONFIG_FILE": str(clouds)
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    made = BmsClient.from_env(telemetry=True) if make == "from_env" else BmsClient.from_cloud("here", telemetry=True)

    assert [type(hook).__name__ for hook in made._hooks] == ["Telemetry"]


def test_the_sdks_own_switch_is_honoured() -> None:
    assert run(LATER, OTEL_SDK_DISABLED="true") == "[]"


REFUSED = """
import sys
{before}
from bms_async import BmsClient, ConfigurationError, StaticToken
try:
    {client}
except ConfigurationError as error:
    print(error)
"""
OLD = """
import opentelemetry.metrics._internal as metrics
del metrics.Meter.create_gauge, metrics._ProxyMeter.create_gauge
"""


@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        (
            "sys.modules['opentelemetry'] = None",
            {},
            "telemetry=True: the extra 'otel' is missing; pip install 'bms-async[otel]', or give telemetry=False",
        ),
        (OLD, {}, "telemetry=True: OpenTelemetry cannot be used: AttributeError("),
        (
            "import logging\nlogging.disable(logging.CRITICAL)",
            {"OTEL_PYTHON_TRACER_PROVIDER": "nobody"},
            "telemetry=True: OpenTelemetry cannot be used: StopIteration(",
        ),
    ],
    ids=["no extra", "an API that is too old", "a provider that is not there"],
)
def test_a_client_that_asks_in_vain_says_why(before: str, environment: dict[str, str], said: str) -> None:
    program = REFUSED.format(before=before, client=CLIENT.format(", telemetry=True"))
    assert run(program, **environment).startswith(said)


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
