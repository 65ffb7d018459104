"""A proxy from the environment: used for the cloud, and never for what runs on this machine."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from bms_async import HttpRequest, HttpxTransport, TransportError
from bms_async.transport._connect import Proxy, proxy_from_environment, read_proxy
from bms_async.transport.http1 import Http1Transport
from tests.transport._transports import LibraryTransport
from tests.transport.loopback import PATIENCE, Loopback, answer, answers

OWN = pytest.mark.parametrize("make", [HttpxTransport, Http1Transport])


@pytest.fixture(autouse=True)
def nobody_has_set_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def request(url: str) -> HttpRequest:
    return HttpRequest(operation="servers.get", method="GET", url=url, headers={}, timeout=PATIENCE)


@OWN
async def test_what_runs_on_this_machine_is_not_reached_through_a_proxy(
    make: Callable[[], LibraryTransport], monkeypatch: pytest.MonkeyPatch
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
    make: Callable[[], LibraryTransport],
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
        ("bms.example.com", "*.example.com"),
        ("BMS.example.com", "localhost  bms.EXAMPLE.com"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", " 192.168.0.0/16 , 10.0.0.0/8 "),
        ("10.1.2.3", "10.0.0.0/255.0.0.0"),
        ("10.1.2.3", "10.9.9.9/8"),
        ("10.1.2.3", "10.0.0.0/8:443"),
        ("fd00:12::9", "fd00::/8"),
        ("fd00:12::9", "[fd00:12::]/32"),
        ("fd00:12::9", "[fd00:12::9]:443"),
        ("fd00:12::9", "fd00:0012:0:0:0:0:0:9"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
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


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("10.1.2.3", "11.0.0.0/8"),
        ("10.1.2.3", "10.0.0.0/8:8443"),
        ("10.1.2.3", "10.0.0.0/99"),
        ("10.example.com", "10.0.0.0/8"),
        ("fd00:12::9", "fe80::/10"),
        ("bms.example.com", "s.example.com"),
        ("bms.example.com", "bms.example.com:8443"),
        ("bms.example.com", ", ,"),
        ("bms.example.com", "."),
    ],
)
def test_what_no_proxy_does_not_name_goes_through_the_proxy(
    host: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", named)
    assert proxy_from_environment("https", host, None) == Proxy("http://proxy.example.com:3128")


PASSWORDS = {
    "of latin-1": "pässwörd-100",
    "of no latin-1": "пароль-密码-100",
    "encoded": "%D0%BF%C3%A4ss%40wo%3Ard",
    "with marks": "p#a?s\\s@w/ord",
}


@OWN
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
async def test_r5_a_proxy_gets_its_password_as_utf_8_and_no_error_shows_it(
    make: Callable[[], LibraryTransport], scheme: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Loopback(answers(answer(407))) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://üser:{password}@127.0.0.1:{proxy.port}")
        async with make() as transport:
            try:
                shown = repr(await transport.send(request(f"{scheme}://cloud.invalid/x")))
            except TransportError as error:
                shown = f"{error!r} {error.__cause__!r} {error.__context__!r}"
        (heard,) = proxy.heard
    sent = next(line for line in heard.split(b"\r\n") if line.lower().startswith(b"proxy-authorization: basic "))
    assert b64decode(sent.rpartition(b" ")[2]) == f"üser:{unquote(password)}".encode()
    assert password not in shown
    assert unquote(password) not in shown


@OWN
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "quic"])
async def test_a_proxy_of_a_kind_that_is_not_spoken_is_refused_by_its_name_with_what_to_do(
    make: Callable[[], LibraryTransport], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:open-sesame@proxy.example.com:1080")
    async with make() as transport:
        with pytest.raises(
            TransportError, match=f"expected a proxy of http:// or https://, got {scheme.lower()}://; name another"
        ) as caught:
            await transport.send(request("https://cloud.invalid/x"))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("me:secret@proxy.example.com", "http://proxy.example.com:80"),
        ("https://proxy.example.com/", "https://proxy.example.com:443"),
        (" HTTP://[fd00::1]:3128/?x ", "http://[fd00::1]:3128"),
    ],
)
def test_the_address_of_a_proxy_is_read_as_people_write_it(text: str, address: str) -> None:
    assert read_proxy(text).address == address
    assert read_proxy(text).problem is None


@pytest.mark.parametrize("text", ["", "http://", "http://:3128", "p:0", "http://p:65536", "http://p:x", "p\n.example"])
def test_the_address_of_a_proxy_that_is_none_is_refused_with_what_is_expected(text: str) -> None:
    problem = read_proxy(text).problem
    assert problem is not None
    assert problem.startswith("expected an address http://host:port")


def test_r5_a_proxy_does_not_show_its_password() -> None:
    proxy = read_proxy("http://me:open-sesame@proxy.example.com:3128")
    assert proxy.host_and_port == "proxy.example.com:3128"
    assert "Basic" not in repr(proxy)
    assert proxy.authorization == "Basic bWU6b3Blbi1zZXNhbWU="
