"""Readiness checks against real ports of this machine: what is well, and what is said of what is not."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bms_async import (
    AllOf,
    HttpOk,
    HttpRequest,
    HttpxTransport,
    InvalidRequestError,
    Server,
    TcpOpen,
    all_of,
    http_ok,
    tcp_open,
)
from bms_async.fleet.rollout.asking import Answer, ask, describe
from bms_async.fleet.rollout.probes import shared_connections
from bms_async.fleet.rollout.readiness import decode_check, encode_check
from bms_async.models import Address
from bms_async.redaction import SecretStr
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer, answers, over_tls

HERE = "127.0.0.1"


def server(*addresses: str, kind: str | None = "fixed", network: str = "vpc") -> Server:
    return Server(id="s-1", addresses={network: tuple(Address(address=each, type=kind) for each in addresses)})


def port_of(loopback: Loopback) -> int:
    return int(loopback.url.rpartition(":")[2])


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nothing listens, and which nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind((HERE, 0))
        yield held.getsockname()[1]


async def says_nothing(talk: Talk) -> None:
    await talk.until_gone()


async def hangs_up(talk: Talk) -> None:
    await talk.hear()


async def test_a_port_that_accepts_is_open_and_one_that_does_not_is_refused() -> None:
    async with Loopback(says_nothing) as loopback:
        check = tcp_open(port_of(loopback))
        assert await check(server(HERE)) is True
        assert await ask(check, server(HERE)) == Answer(f"tcp {port_of(loopback)}")
    with closed_port() as port:
        assert await tcp_open(port)(server(HERE)) is False
        assert await ask(tcp_open(port), server(HERE)) == Answer(f"tcp {port} at {HERE}", "connection refused")


async def test_a_port_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(host: str, port: int) -> socket.socket:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("bms_async.fleet.rollout.probes.connect_socket", never)
    found = await ask(tcp_open(22, timeout=0.01), server("192.0.2.1"))
    assert found == Answer("tcp 22 at 192.0.2.1", "no answer within 0.01 s")


async def test_one_address_that_is_well_is_enough_and_all_answers_are_told() -> None:
    async with Loopback(says_nothing) as loopback:
        port = port_of(loopback)
        assert (await ask(tcp_open(port), server("127.0.0.2", HERE))).answered is None
    with closed_port() as port:
        found = await ask(tcp_open(port), server(HERE, "127.0.0.2"))
    assert found.asked == f"tcp {port}"
    assert set((found.answered or "").split("; ")) == {f"{each}: connection refused" for each in (HERE, "127.0.0.2")}


async def test_the_other_addresses_are_not_waited_for_once_one_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []

    async def open_one(host: str, port: int) -> socket.socket:
        if host != HERE:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(host)
        return socket.socket()

    monkeypatch.setattr("bms_async.fleet.rollout.probes.connect_socket", open_one)
    async with asyncio.timeout(PATIENCE):
        assert await tcp_open(22, timeout=10 * PATIENCE)(server("192.0.2.1", HERE, "192.0.2.2")) is True
    assert cancelled == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("made", "found", "told"),
    [
        ({}, server(), "the server has no fixed address"),
        ({}, Server(id="s-1"), "the server has no fixed address"),
        ({}, server("not-an-address"), "the server has no fixed address"),
        ({}, server(HERE, kind="floating"), "the server has no fixed address"),
        ({"address": "floating"}, server(HERE, kind=None), "the server has no floating address"),
        ({"address": "any"}, server(), "the server has no address"),
        ({"network": "other"}, server(HERE), "the server has no fixed address in the network 'other'"),
    ],
)
async def test_a_server_without_such_an_address_is_not_ready(made: dict[str, Any], found: Server, told: str) -> None:
    assert await ask(tcp_open(22, **made), found) == Answer("tcp 22", told)
    assert (await ask(http_ok(**made), found)).answered == told


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({}, server(HERE, kind=None)),
        ({"address": "floating"}, server(HERE, kind="floating")),
        ({"address": "any", "network": "vpc"}, server(HERE, kind="floating")),
    ],
)
async def test_the_addresses_that_are_asked_can_be_chosen(made: dict[str, Any], found: Server) -> None:
    with closed_port() as port:
        assert (await ask(tcp_open(port, **made), found)).asked == f"tcp {port} at {HERE}"


@pytest.mark.parametrize(
    ("status", "wanted", "told"),
    [(200, None, None), (302, None, None), (503, None, "503"), (404, 404, None), (200, 204, "200")],
)
async def test_a_status_is_well_or_told(status: int, wanted: int | None, told: str | None) -> None:
    async with Loopback(answers(answer(status))) as loopback:
        port = port_of(loopback)
        found = await ask(http_ok(port, "/healthz?deep=1", status=wanted), server(HERE))
        assert found.answered == told
        # A redirection is not followed, and neither a credential nor anything else of a client's is sent.
        assert len(loopback.heard) == 1
        assert loopback.heard[0].startswith(b"GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
        names = {line.partition(b":")[0] for line in loopback.heard[0].lower().split(b"\r\n")[1:] if line}
        assert names == {b"host", b"user-agent", b"connection", b"accept", b"accept-encoding"}
        if told is not None:
            assert found.asked == f"GET http://{HERE}:{port}/healthz?***"


async def test_what_is_no_answer_of_http_is_told() -> None:
    async with Loopback(answers(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as loopback:
        found = await ask(http_ok(port_of(loopback)), server(HERE))
    assert "RemoteProtocolError" in (found.answered or "")
    async with Loopback(hangs_up) as loopback:
        found = await ask(http_ok(port_of(loopback)), server(HERE))
    assert "disconnected" in (found.answered or "")
    assert "cloud" not in (found.answered or "")
    with closed_port() as port:
        found = await ask(http_ok(port), server(HERE))
    assert found.answered == "connection refused"


async def test_an_answer_that_does_not_come_or_is_too_large_holds_nobody() -> None:
    async with Loopback(says_nothing) as loopback:
        found = await ask(http_ok(port_of(loopback), timeout=0.05), server(HERE))
        assert found.answered == "no answer within 0.05 s"
    async with Loopback(answers(answer(503, b"x" * 70_000))) as loopback:
        assert (await ask(http_ok(port_of(loopback)), server(HERE))).answered == "503"


async def test_a_certificate_is_verified_unless_that_is_ruled_out() -> None:
    async with Loopback(over_tls(answers(answer()))) as loopback:
        port = port_of(loopback)
        async with shared_connections():
            found = await ask(http_ok(port, tls=True), server(HERE))
            assert found.asked == f"GET https://{HERE}:{port}/"
            assert "CERTIFICATE_VERIFY_FAILED" in (found.answered or "")
            assert loopback.heard == []
            assert (await ask(http_ok(port, tls=True, verify=False), server(HERE))).answered is None
            # What does not verify is not used by what does.
            assert (await ask(http_ok(port, tls=True), server(HERE))).answered is not None


async def test_the_certificate_must_have_the_name_of_the_host(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(request.config.rootpath / "tests/transport/self_signed.pem"))
    async with Loopback(over_tls(answers(answer()))) as loopback:
        port = port_of(loopback)
        async with shared_connections():
            assert (await ask(http_ok(port, tls=True), server(HERE))).answered is None
            other = await ask(http_ok(port, tls=True, host="db.example.org"), server(HERE))
            assert "db.example.org" in (other.answered or "")
            named = http_ok(port, tls=True, host="db.example.org", verify=False)
            assert (await ask(named, server(HERE))).answered is None
        assert b"\r\nhost: db.example.org\r\n" in loopback.heard[-1].lower()


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(answers(answer())) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        # This machine itself is never reached through a proxy, but any other address of the loopback network is.
        with closed_port() as port:
            found = await ask(http_ok(port), server("127.0.0.2"))
        assert (found.answered, proxy.heard) == ("connection refused", [])

        # Nor does one that cannot be used at all keep anything from being asked.
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
        with closed_port() as port:
            assert (await ask(http_ok(port), server("127.0.0.2"))).answered == "connection refused"

        monkeypatch.setenv("http_proxy", proxy.url)
        control = HttpRequest(operation="control", method="GET", url=f"http://127.0.0.2:{port}/", headers={})
        async with HttpxTransport() as transport:
            assert (await transport.send(control)).status == 200


async def test_each_request_has_a_connection_of_its_own_which_is_closed() -> None:
    async with Loopback(answers(answer())) as loopback, shared_connections():
        for number in range(1, 4):
            assert await http_ok(port_of(loopback))(server(HERE)) is True
            await loopback.until(lambda each: each.open == 0)
            assert len(loopback.heard) == number
        assert b"\r\nconnection: close\r\n" in loopback.heard[0].lower()


async def test_a_check_that_is_called_alone_leaves_no_task() -> None:
    with closed_port() as port:
        assert await http_ok(port)(server(HERE)) is False
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_all_of_asks_one_after_another_until_one_says_no() -> None:
    asked: list[str] = []

    def says(name: str, found: bool) -> Callable[[Server], Awaitable[bool]]:
        async def check(server: Server) -> bool:
            asked.append(name)
            return found

        return check

    assert await all_of(says("a", True), says("b", True))(server()) is True
    assert await all_of(says("c", True), says("d", False), says("e", True))(server()) is False
    assert asked == ["a", "b", "c", "d"]
    with closed_port() as port:
        found = await ask(all_of(says("f", True), tcp_open(port)), server(HERE))
        assert found == Answer(f"tcp {port} at {HERE}", "connection refused")
        # A function that calls one of ours is told of as that one.
        wrapped = await ask(functools.partial(_calls, tcp_open(port)), server(HERE))
        assert wrapped == found
        # And one that asks for either comes to the other.
        assert (await ask(functools.partial(_either, tcp_open(port), says("g", True)), server(HERE))).answered is None


async def _calls(check: TcpOpen, server: Server) -> bool:
    return await check(server)


async def _either(one: TcpOpen, other: Callable[[Server], Awaitable[bool]], server: Server) -> bool:
    return await one(server) or await other(server)


@pytest.mark.parametrize(
    ("behave", "told", "is_fault"),
    [
        (lambda: True, None, False),
        (lambda: False, "returned False", False),
        (lambda: None, "returned None, expected True or False", True),
        (lambda: "yes", "returned a value of type str, expected True or False", True),
        (lambda: 1, "returned a value of type int, expected True or False", True),
    ],
)
async def test_only_true_is_well_and_what_is_neither_true_nor_false_is_a_fault(
    behave: Callable[[], object], told: str | None, is_fault: bool
) -> None:
    async def check(server: Server) -> Any:
        return behave()

    found = await ask(check, server())
    assert found[1:] == (told, is_fault)
    assert found.asked.endswith("check()")
    assert (await ask(all_of(check), server()))[1:] == (told, is_fault)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no route"), "ValueError: no route"),
        (ValueError(), "ValueError"),
        (TimeoutError(), "TimeoutError"),
        (asyncio.CancelledError(), "ForeignCodeError: the readiness check raised CancelledError"),
        (SystemExit(3), "ForeignCodeError: the readiness check raised SystemExit"),
        (ValueError(SecretStr("hunter22")), "ValueError: '***'"),
    ],
)
async def test_what_a_check_raises_is_its_answer(error: BaseException, told: str) -> None:
    async def check(server: Server) -> bool:
        raise error

    for each in (check, all_of(check)):
        found = await ask(each, server())
        assert (found.answered or "").startswith(told)
        assert "hunter22" not in repr(found)
        assert not found.is_fault


async def test_a_waiter_that_is_cancelled_is_cancelled() -> None:
    async def check(server: Server) -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ask(all_of(check), server())


CHECKS: list[TcpOpen | HttpOk | AllOf] = [
    tcp_open(22),
    tcp_open(443, timeout=1.5, address="any", network="vpc"),
    http_ok(8080, "/healthz", status=204, tls=True, verify=False, host="db.example.org:8080", address="floating"),
    all_of(tcp_open(22), all_of(http_ok(), tcp_open(443))),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.describe())
def test_a_check_goes_through_a_store_unchanged(check: TcpOpen | HttpOk | AllOf) -> None:
    assert decode_check(encode_check(check)) == check
    assert hash(decode_check(encode_check(check))) == hash(check)


async def _own(server: Server) -> bool:
    return True


@pytest.mark.parametrize("check", [_own, all_of(tcp_open(22), _own), all_of(all_of(_own)), lambda server: True, None])
def test_a_function_of_the_applications_does_not_go_into_a_store(check: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^ready=.*another process may carry a durable run on") as caught:
        encode_check(check)
    assert caught.value.argument == "ready"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"type":"udp_open","port":1}',
        b'{"type":"tcp_open","port":0}',
        b'{"type":"tcp_open","port":22,"later":1}',
        b'{"type":"all_of","checks":[]}',
        b'{"type":"all_of","checks":[{"type":"exec"}]}',
        b'{"type":"all_of","checks":[7]}',
    ],
)
def test_what_is_no_stored_check_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="update bms_async"):
        decode_check(data)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("port", lambda: tcp_open(0)),
        ("port", lambda: tcp_open(65536)),
        ("port", lambda: tcp_open("22")),  # type: ignore[arg-type]
        ("port", lambda: http_ok(True)),
        ("timeout", lambda: tcp_open(22, timeout=0)),
        ("timeout", lambda: http_ok(timeout=float("nan"))),
        ("address", lambda: tcp_open(22, address="public")),  # type: ignore[arg-type]
        ("network", lambda: tcp_open(22, network="")),
        ("path", lambda: http_ok(80, "healthz")),
        ("path", lambda: http_ok(80, "/a b")),
        ("path", lambda: http_ok(80, "/a\r\nX: y")),
        ("path", lambda: http_ok(80, "/a#b")),
        ("status", lambda: http_ok(status=99)),
        ("tls", lambda: http_ok(tls="yes")),  # type: ignore[arg-type]
        ("verify", lambda: http_ok(verify=None)),  # type: ignore[arg-type]
        ("host", lambda: http_ok(host="a b")),
        ("host", lambda: http_ok(host="user@host")),
        ("checks", all_of),
        ("checks", lambda: all_of(22)),  # type: ignore[arg-type]
        ("checks", lambda: all_of({"type": "tcp_open", "port": 22})),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_named(argument: str, make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make()
    assert caught.value.argument == argument


def test_a_check_says_what_it_asks() -> None:
    assert [describe(each) for each in CHECKS] == [
        "tcp 22",
        "tcp 443",
        "GET https://(floating address):8080/healthz",
        "tcp 22 and GET http://(fixed address):80/ and tcp 443",
    ]
    assert describe(_own) == "_own()"
    assert describe(functools.partial(_either, tcp_open(22), _own)) == "partial()"
    assert "key=hunter22" not in repr(http_ok(80, "/healthz?key=hunter22"))


def test_an_address_of_ipv6_is_written_as_urls_have_it() -> None:
    assert http_ok(8080, "/x").describe("fe80::7") == "GET http://[fe80::7]:8080/x"
    assert tcp_open(22).describe("fe80::7") == "tcp 22 at fe80::7"
