"""The addresses of a name are tried in parallel, and none but the first that opens is left open (R4)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from bms_async.transport import _sockets
from bms_async.transport._sockets import Address, connect_socket
from tests.support.virtual_clock import run_virtually

V4, V6 = socket.AF_INET, socket.AF_INET6


class Sockets:
    """Takes the place of the network: when each address opens or fails, in seconds after it is tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **when: float | OSError) -> None:
        self.when = when
        self.tried: list[tuple[str, float]] = []
        self.open: list[str] = []

        async def resolve(host: str, port: int) -> list[Address]:
            return _sockets._interleave([(V6 if name.startswith("v6") else V4, (name, port)) for name in when])

        monkeypatch.setattr(_sockets, "_resolve", resolve)
        monkeypatch.setattr(_sockets, "_connect", self._connect)

    async def _connect(self, address: Address) -> Any:
        name = address[1][0]
        self.tried.append((name, asyncio.get_running_loop().time()))
        when = self.when[name]
        if isinstance(when, OSError):
            raise when
        await asyncio.sleep(when)
        self.open.append(name)
        return _Socket(name, self.open)


class _Socket:
    def __init__(self, name: str, opened: list[str]) -> None:
        self.name = name
        self._opened = opened

    def close(self) -> None:
        self._opened.remove(self.name)


def run(scenario: Callable[[], Any]) -> Any:
    async def main() -> Any:
        result = await scenario()
        assert [task for task in asyncio.all_tasks() if task.get_name() == "bms_async connect"] == []
        return result

    return run_virtually(main)


async def connect() -> str:
    opened: Any = await connect_socket("bms.example.com", 443)
    assert isinstance(opened, _Socket)
    return opened.name


def test_an_address_that_does_not_answer_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sockets(monkeypatch, v6a=100.0, v4a=0.1)
    assert run(connect) == "v4a"
    assert [name for name, _ in network.tried] == ["v6a", "v4a"]
    assert network.tried[1][1] - network.tried[0][1] == pytest.approx(0.25, abs=0.01)
    assert network.open == ["v4a"]


def test_the_first_one_has_a_head_start_and_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sockets(monkeypatch, v6a=0.2, v4a=0.0)
    assert run(connect) == "v6a"
    assert [name for name, _ in network.tried] == ["v6a"]


def test_after_a_failure_the_next_one_is_tried_at_once_and_the_families_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = ConnectionRefusedError(111, "refused")
    network = Sockets(monkeypatch, v6a=refused, v6b=refused, v4a=refused, v4b=0.0)
    assert run(connect) == "v4b"
    assert [name for name, _ in network.tried] == ["v6a", "v4a", "v6b", "v4b"]
    assert network.tried[-1][1] < 0.01


def test_if_all_fail_the_error_tells_each_reason_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Sockets(monkeypatch, v6a=OSError("no route"), v4a=OSError("refused"), v4b=OSError("refused"))
    with pytest.raises(OSError, match=r"^no route, refused$"):
        run(connect)


def test_two_that_open_at_once_leave_one_open(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sockets(monkeypatch, v6a=0.5, v4a=0.25)
    assert run(connect) in {"v6a", "v4a"}
    assert len(network.open) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.25, 0.3, 0.5])
def test_r4_who_is_cancelled_meanwhile_leaves_nothing_open(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sockets(monkeypatch, v6a=0.5, v4a=0.25)

    async def cancelled() -> None:
        task = asyncio.create_task(connect())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or network.open

    run(cancelled)
    # At the end of half a second it may have got its connection, and then that is the caller's.
    assert len(network.open) <= (seconds == 0.5)


async def test_an_address_is_connected_to_without_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", None)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with await connect_socket("127.0.0.1", port) as opened:
            assert opened.getpeername() == ("127.0.0.1", port)


async def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> list[Any]:
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    with pytest.raises(OSError, match=r"bms\.example\.com has no address"):
        await connect_socket("bms.example.com", 443)
