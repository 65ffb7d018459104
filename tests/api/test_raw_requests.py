"""The way out: any method and path, with the limits, credentials and errors of all other calls."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from bms_async import DecodeError, InvalidRequestError, Limits, NotFoundError, TransportError
from bms_async.api.raw import UNKNOWN_CALL, match_operation
from bms_async.wire import Service
from tests.support.mocked import ACTION, BASE, ENDPOINT, PROJECT, TOKEN, error, mocked, sent, virtually

ANYTHING = f"{BASE}/anything"


async def test_a_path_is_asked_for_and_the_json_comes_back() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(ANYTHING).respond(json={"a": [1, None, "b"]})

        answer = await bms.request("get", "/v1/{project_id}/anything", query={"limit": 10, "none": None, "on": True})

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("GET", f"{ANYTHING}?limit=10&on=true")
        assert (request.headers["X-Auth-Token"], request.content) == (TOKEN, b"")
        assert answer == {"a": [1, None, "b"]}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_body_and_headers_are_sent(method: str) -> None:
    async with mocked() as (bms, cloud):
        cloud.route(url=ANYTHING).respond(202)

        answer = await bms.request(method, "/v1/{project_id}/anything", body={"a": 1}, headers={"X-Language": "en-us"})

        (request,) = sent(cloud)
        assert (request.method, json.loads(request.content)) == (method, {"a": 1})
        assert request.headers["X-Language"] == "en-us"
        assert answer is None


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_no_body_is_none(status: int) -> None:
    async with mocked(retry=None) as (bms, cloud):
        cloud.get(ANYTHING).respond(status)
        cloud.head(ANYTHING).respond(status)

        assert await bms.request("GET", "/v1/{project_id}/anything") is None
        assert await bms.request("HEAD", "/v1/{project_id}/anything") is None


async def test_a_body_that_is_no_json_is_an_error() -> None:
    async with mocked(retry=None) as (bms, cloud):
        cloud.get(ANYTHING).respond(200, html="<p>hello</p>")

        with pytest.raises(DecodeError, match="request: answered 200 with an HTML page"):
            await bms.request("GET", "/v1/{project_id}/anything")


async def test_a_refusal_is_the_error_that_it_always_is() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(ANYTHING).respond(404, json=error("BMS.0007"))

        with pytest.raises(NotFoundError) as caught:
            await bms.request("GET", "/v1/{project_id}/anything")

        assert caught.value.operation == UNKNOWN_CALL


async def test_each_service_has_its_endpoint() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(url__startswith=ENDPOINT).respond(json={})

        await bms.request("GET", "/v2.1/{project_id}/servers", service="compute")
        await bms.request("GET", "/v3/projects", service="identity")

        native, identity = sent(cloud)
        assert (str(native.url), native.headers["Connection"]) == (f"{ENDPOINT}/v2.1/{PROJECT}/servers", "close")
        assert str(identity.url) == f"{ENDPOINT}/v3/projects"


@virtually
async def test_what_may_have_arrived_is_sent_again_only_if_it_reads() -> None:
    async with mocked() as (bms, cloud):
        cloud.route(url=ANYTHING).mock(side_effect=httpx.ReadError("cut"))

        for method in ("GET", "POST"):
            with pytest.raises(TransportError):
                await bms.request(method, "/v1/{project_id}/anything")

        assert [request.method for request in sent(cloud)] == ["GET", "GET", "GET", "GET", "POST"]


@virtually
async def test_a_known_call_keeps_within_its_limit_and_shares_it_with_its_method() -> None:
    async with mocked(limits=Limits({"servers.stop": 2, "quotas.get": 1})) as (bms, cloud):
        cloud.post(ACTION).respond(json={"job_id": "j"})
        cloud.get(url__startswith=BASE).respond(json={"absolute": {}, "job_id": "j", "status": "RUNNING"})
        stop: dict[str, Any] = {"os-stop": {"servers": [{"id": "a"}], "type": "HARD"}}
        path = "/v1/{project_id}/baremetalservers/action"

        began = anyio.current_time()
        await bms.servers.stop(["a"])
        await bms.request("POST", path, body=stop)
        assert anyio.current_time() - began < 1
        await bms.request("POST", path, body={"os-start": {"servers": [{"id": "a"}]}})
        assert anyio.current_time() - began < 1
        await bms.request("POST", path, body=stop)
        assert anyio.current_time() - began >= 60

        again = anyio.current_time()
        await bms.quotas.get()
        await bms.request("GET", f"/v1/{PROJECT}/baremetalservers/limits")
        assert anyio.current_time() - again >= 60


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("GET", "/", None, "versions.list"),
        ("GET", "/v1", None, "versions.get"),
        ("GET", "/v1/", None, "versions.get"),
        ("GET", "/v1/p/baremetalservers/detail", None, "servers.list"),
        ("GET", "/v1/{project_id}/baremetalservers/a", None, "servers.get"),
        ("GET", "/v1/{project_id}/baremetalservers/flavors", None, "flavors.list"),
        ("GET", "/v1/{project_id}/baremetalservers/limits", None, "quotas.get"),
        ("PUT", "/v1/{project_id}/baremetalservers/a", {}, "servers.rename"),
        ("GET", "/v1/{project_id}/baremetalservers/a/os-interface", None, "servers.list_interfaces"),
        ("DELETE", "/v1/p/baremetalservers/a/detachvolume/b", None, "servers.detach_volume"),
        ("POST", "/v1/{project_id}/baremetalservers", {}, "servers.create"),
        ("POST", "/v1/{project_id}/baremetalservers/action", {"os-start": {}}, "servers.start"),
        ("POST", "/v1/{project_id}/baremetalservers/action", {"os-stop": {}}, "servers.stop"),
        ("POST", "/v1/{project_id}/baremetalservers/action", {"reboot": {}}, "servers.reboot"),
        ("POST", "/v1/{project_id}/baremetalservers/action", {"other": {}}, None),
        ("POST", "/v1/{project_id}/baremetalservers/action", None, None),
        ("GET", "/v1/{project_id}/jobs/j", None, "jobs.get"),
        ("DELETE", "/v1/{project_id}/jobs/j", None, None),
        ("GET", "/v1/{project_id}/jobs/j/more", None, None),
        ("GET", "/v3/projects", None, None),
    ],
)
def test_the_documented_call_is_found(method: str, path: str, body: object, name: str | None) -> None:
    found = match_operation(method, path, Service.BMS, body)

    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (("FETCH", "/a"), "method"),
        ((None, "/a"), "method"),
        (("GET", "a"), "path"),
        (("GET", ""), "path"),
        (("GET", None), "path"),
        (("GET", "//other.example.com/a"), "path"),
        (("GET", "https://other.example.com/a"), "path"),
        (("GET", "/a b"), "path"),
        (("GET", "/ä"), "path"),
        (("GET", "/a\r\nb"), "path"),
        (("GET", "/a?token=b"), "path"),
        (("GET", "/a#b"), "path"),
        (("GET", "/{server_id}"), "path"),
        (("GET", "/{}"), "path"),
        (("GET", "/{project_id"), "path"),
        (("GET", "/a/../b"), "path"),
    ],
    ids=str,
)
async def test_what_cannot_be_sent_is_refused(arguments: tuple[Any, Any], argument: str) -> None:
    async with mocked(check=False) as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await bms.request(*arguments)

        assert sent(cloud) == []
    assert caught.value.argument == argument
    assert "token=b" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "argument"),
    [({"a b": "c"}, "headers"), ({"X-A": "b\r\nc"}, "headers['X-A']"), ({"X-A": 1}, "headers['X-A']")],
)
async def test_headers_that_cannot_be_sent_are_refused(headers: Any, argument: str) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await bms.request("GET", "/a", headers=headers)

        assert sent(cloud) == []
    assert caught.value.argument == argument


@pytest.mark.parametrize("body", [object(), {"a": {"b": object()}}, {1j: 2}], ids=lambda body: type(body).__name__)
async def test_a_body_that_json_cannot_hold_is_refused(body: object) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError, match="expected JSON"):
            await bms.request("POST", "/a", body=body)

        assert sent(cloud) == []


class Stop(msgspec.Struct, rename={"os_stop": "os-stop"}):
    os_stop: dict[str, str]


@virtually
async def test_an_action_that_is_a_struct_keeps_within_its_limit_too() -> None:
    async with mocked(limits=Limits({"servers.stop": 1})) as (bms, cloud):
        cloud.post(ACTION).respond(json={"job_id": "j"})

        for _ in range(2):
            await bms.request("POST", "/v1/{project_id}/baremetalservers/action", body=Stop(os_stop={"type": "HARD"}))

        assert json.loads(sent(cloud)[1].content) == {"os-stop": {"type": "HARD"}}
        assert anyio.current_time() >= 60


async def test_a_service_that_is_none_is_refused() -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError, match="one of bms, compute, identity"):
            await bms.request("GET", "/a", service="storage")  # type: ignore[arg-type]

        assert sent(cloud) == []
