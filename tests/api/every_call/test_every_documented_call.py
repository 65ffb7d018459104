"""Every call of the reference is there: in the table, on the client, with its limit, and in the simulator."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import httpx
import pytest

import bms_async.api
from bms_async import BmsClient, PasswordAuth, StaticToken
from bms_async.simulator import Cloud, CloudSettings, create_app
from bms_async.wire import Operation, Service
from tests.api.every_call.calls import BMS_CALLS, CALLS, IDENTITY_CALLS, NATIVE_CALLS, PERMISSION_CALLS, Call, shape_of
from tests.support.virtual_clock import run_virtually

every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.chapter} {call.method} {call.path}")

NO_SUCH_CALL = "APIGW.0101"

# What the parts of a path are filled with; the server and the project are the simulated ones.
PARTS = {
    "api_version": "v1",
    "attachment_id": "a26887c6-c47b-4654-abb5-dfadf7d3f803",
    "flavor_id": "physical.o2.medium",
    "id": "ce531f90-199f-48c0-816c-13e38010b442",
    "job_id": "2c9eb2c5544cbf6101544f0602af2b4f",
    "key": "key",
    "keypair_name": "keypair-test",
    "tag": "foo",
    "volume_id": "b53f23bd-ee8f-49ec-9420-d1acfef91d6",
    "vpc_id": "08a7715f-7de6-4ff9-a343-95ba4209f24a",
}

# The three power calls share one URI: the body says which it is. Others may refuse an empty body, as clouds do.
BODIES: dict[str, dict[str, Any]] = {
    "4.4.3": {"os-start": {"servers": []}},
    "4.4.4": {"reboot": {"type": "HARD", "servers": []}},
    "4.4.5": {"os-stop": {"type": "HARD", "servers": []}},
    "5.3.2": {"os-start": {}},
    "5.3.3": {"reboot": {"type": "HARD"}},
    "5.3.4": {"os-stop": {}},
}


def operation_of(call: Call) -> Operation[Any]:
    found = [each for each in bms_async.api.operations() if described(each) == call.shape]
    assert len(found) == 1, f"{call}: {found or 'no operation'}"
    return found[0]


def described(operation: Operation[Any]) -> tuple[str, str, str]:
    return operation.chapter, operation.method, shape_of(operation.path)


def client_of_nobody() -> BmsClient:
    """Return a client that is not open and reaches nobody: its resources are there all the same."""
    return BmsClient(endpoint="https://bms.example.com", project_id="p", auth=StaticToken("t"))


def method_of(client: BmsClient, name: str) -> Any:
    if name == "identity.create_token":
        return PasswordAuth
    found: Any = client
    for step in name.split("."):
        found = getattr(found, step)
    return found


def test_the_list_has_as_many_calls_as_the_reference() -> None:
    assert (len(BMS_CALLS), len(NATIVE_CALLS), len(PERMISSION_CALLS), len(IDENTITY_CALLS)) == (19, 34, 3, 2)
    assert len({(call.chapter, call.title) for call in CALLS}) == len(CALLS)


@every_call
def test_a_documented_call_is_an_operation(call: Call) -> None:
    operation = operation_of(call)

    assert operation.title
    assert call.success in operation.success
    assert set(operation.success) <= {200, 201, 202, 204}


@every_call
def test_a_documented_call_goes_to_the_endpoint_of_its_service(call: Call) -> None:
    services = {"v1": Service.BMS, "v2.1": Service.COMPUTE, "v3": Service.IDENTITY}

    assert operation_of(call).service is services.get(call.path.split("/")[1], Service.BMS)


@every_call
def test_a_documented_call_is_a_method_of_the_client_that_names_its_chapter(call: Call) -> None:
    method = method_of(client_of_nobody(), operation_of(call).name)

    assert callable(method)
    assert re.search(rf"API reference {re.escape(call.chapter)}(?![\d.]*\d)", inspect.getdoc(method) or "")


@every_call
def test_a_documented_call_has_the_documented_limit(call: Call) -> None:
    operation = operation_of(call)

    assert operation.limit == call.limit
    assert client_of_nobody().limits[operation.name].limit == call.limit


@every_call
def test_a_method_tells_the_limit_of_its_call_or_that_there_is_none(call: Call) -> None:
    """A user who reads about a method learns from the same text how often it may be called."""
    text = inspect.getdoc(method_of(client_of_nobody(), operation_of(call).name)) or ""

    assert re.findall(r"(\d+) calls a minute", text) == ([] if call.limit is None else [str(call.limit)])


@every_call
def test_a_documented_call_is_known_to_the_simulator(call: Call) -> None:
    async def ask() -> tuple[httpx.Response, dict[str, int]]:
        cloud = Cloud(CloudSettings(servers=2), clock=lambda: 0.0)
        parts = {**PARTS, "project_id": cloud.settings.project_id, "server_id": next(iter(cloud.servers))}
        path = re.sub(r"\{(\w+)\}", lambda part: parts[part[1]], call.path)
        transport = httpx.ASGITransport(app=create_app(cloud))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"X-Auth-Token": cloud.settings.token, **operation_of(call).headers}
            body = BODIES.get(call.chapter, {}) if call.method in {"POST", "PUT"} else None
            answer = await client.request(call.method, path, headers=headers, json=body)
        return answer, {name: book.arrived for name, book in cloud.call_counts().operations.items() if book.arrived}

    answer, arrived = run_virtually(ask)

    assert answer.status_code not in {401, 405, 500}, answer.text
    assert code_of(answer) != NO_SUCH_CALL, answer.text
    # Counted under its own name: another call did not answer for it, as the one for a server could for "flavors".
    assert arrived == {operation_of(call).name: 1}


def code_of(answer: httpx.Response) -> str | None:
    """Read the code of a refusal by the gateway; the refusals of Nova and a good answer have none."""
    try:
        body = json.loads(answer.content or b"{}")
    except ValueError:
        return None
    return body.get("error_code") if isinstance(body, dict) else None


def test_there_is_no_operation_that_the_reference_does_not_have() -> None:
    documented = {call.shape for call in CALLS}

    assert [each.name for each in bms_async.api.operations() if described(each) not in documented] == []


def test_no_two_operations_have_one_name_or_one_chapter_and_uri() -> None:
    operations = bms_async.api.operations()

    assert len({each.name for each in operations}) == len(operations)
    assert len({described(each) for each in operations}) == len(operations)
    assert len(operations) == len(CALLS)


def test_the_simulator_answers_a_call_that_nobody_documented_with_the_code_that_is_looked_for() -> None:
    async def ask() -> httpx.Response:
        cloud = Cloud(CloudSettings(servers=1), clock=lambda: 0.0)
        transport = httpx.ASGITransport(app=create_app(cloud))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v9/nothing/at/all", headers={"X-Auth-Token": cloud.settings.token})

    answer = run_virtually(ask)

    assert answer.status_code == 404
    assert code_of(answer) == NO_SUCH_CALL
