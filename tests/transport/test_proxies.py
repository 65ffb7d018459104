"""A proxy from the environment: used for the cloud, and never for what runs on this machine."""

from __future__ import annotations

import pytest

from bms_async import HttpRequest, HttpxTransport
from bms_async.transport._proxies import Proxy, proxy_from_environment
from bms_async.transport.aiohttp import AiohttpTransport
from tests.transport.carriers import Carrier
from tests.transport.loopback import Loopback, answer, answers

OWN = pytest.mark.parametrize("make", [HttpxTransport, AiohttpTransport])


def request(url: str) -> HttpRequest:
    return HttpRequest(operation="servers.get", method="GET", url=url, headers={}, timeout=5.0)


@OWN
async def test_what_runs_on_this_machine_is_not_reached_through_a_proxy(
    make: type[Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Loopback(answers(answer(200, b"cloud"))) as cloud, Loopback(answers(answer(200, b"proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with make() as transport:
            assert (await transport.send(request(f"{cloud.url}/x"))).body == b"cloud"
            assert (await transport.send(request(f"http://localhost:{cloud.port}/x"))).body == b"cloud"
        assert proxy.heard == []


@OWN
async def test_what_runs_elsewhere_is_reached_through_the_proxy_of_the_environment(
    make: type[Carrier],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Loopback(answers(answer(200, b"proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with make() as transport:
            assert (await transport.send(request("http://cloud.invalid/x"))).body == b"proxy"
        assert proxy.heard[0].startswith(b"GET http://cloud.invalid/x HTTP/1.1\r\n")


@pytest.mark.parametrize("port", [None, 443])
@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("bms.example.com", "bms.example.com"),
        ("bms.example.com", ".example.com"),
        ("bms.example.com", "other.example, bms.example.com:443"),
        ("10.0.0.5", "10.0.0.5"),
        ("fd00::1", "fd00::1"),
        ("bms.example.com", "*"),
    ],
)
def test_what_no_proxy_names_is_reached_directly_whether_its_port_is_told_or_not(
    host: str, named: str, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", named)
    assert proxy_from_environment("https", host, port) is None
    assert proxy_from_environment("https", "elsewhere.example.org", port) == (
        None if named == "*" else Proxy("http://proxy.example.com:3128")
    )
