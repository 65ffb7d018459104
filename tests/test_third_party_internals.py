"""What is used of other packages without being public there, named in one place, with its shape.

After an upgrade that moves one of these parts, the test of that part fails here and says what it is used for. Each is
also used by tests of what it does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio.pytest_plugin
import asyncpg.connect_utils  # type: ignore[import-untyped]
import httpcore
import httpx
import httpx2
import pytest
import redis.asyncio
import rich.cells

from bms_async.testing import VirtualClockLoop, run_virtually


def parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


async def test_the_hooks_of_a_session_of_aiohttp_can_be_added_to() -> None:
    """`transport/aiohttp.py` adds hooks to a session that was made without them, and may not change those of others."""
    trace = aiohttp.TraceConfig()
    trace.freeze()
    assert trace.on_request_headers_sent.frozen
    async with aiohttp.ClientSession() as session, aiohttp.ClientSession() as other:
        session.trace_configs.append(trace)
        assert session.trace_configs == [trace]
        assert other.trace_configs == []


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
async def test_a_client_of_httpx_has_its_pool_and_its_transports(library: Any) -> None:
    """`transport/httpx.py` reads the size of a given client's pool; `_httpx_trace.py` wraps its transports in place."""
    async with library.AsyncClient(limits=library.Limits(max_connections=7)) as client:
        assert client._transport._pool._max_connections == 7
        assert isinstance(client._mounts, dict)
        assert inspect.iscoroutinefunction(client._transport.handle_async_request)


def test_errors_and_requests_of_httpx_can_be_emptied() -> None:
    """`transport/_causes.py` takes the request off an error; `transport/httpx.py` gives a request its body as it is."""
    request = httpx.Request("POST", "http://127.0.0.1:1/", content=b"body")
    assert request._content == b"body"
    error = httpx.ReadError("broken", request=request)
    assert error._request is request


def test_httpcore_knows_what_came_behind_a_response() -> None:
    """`transport/httpx.py` looks for bytes behind the end of a response, which would be read as the next one's."""
    connection = httpcore._async.http11.AsyncHTTP11Connection(
        origin=httpcore.Origin(b"http", b"127.0.0.1", 1), stream=httpcore.AsyncMockStream([])
    )
    assert connection._h11_state.trailing_data == (b"", False)
    assert isinstance(connection._network_stream, httpcore.AsyncMockStream)
    pool: Any = httpcore.AsyncConnectionPool()
    assert isinstance(pool.connections, list)
    assert pool.create_connection(httpcore.Origin(b"http", b"127.0.0.1", 1))._connection is None


async def test_a_connection_of_redis_py_has_its_writer() -> None:
    """`limits/shared/redis.py` closes a connection at once, whatever its server does."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def greet(connection: Any) -> None:
        assert isinstance(connection._writer.transport, asyncio.WriteTransport)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection: Any = redis.asyncio.Connection(port=server.sockets[0].getsockname()[1], redis_connect_func=greet)
    await connection.connect()
    await connection.disconnect()
    server.close()


def test_an_event_loop_of_asyncio_runs_one_pass_at_a_time() -> None:
    """`testing/clock.py` is a loop that looks at its timers before each pass."""
    loop: Any = VirtualClockLoop()
    try:
        assert isinstance(loop._ready, deque)
        assert loop._scheduled == []
        assert loop._timer_cancelled_count == 0
        assert callable(loop._run_once)
        assert callable(loop._process_events)
        assert len(loop._selector.get_map()) == 1
        timer: Any = loop.call_later(1.0, lambda: None)
        assert timer._scheduled is True
        timer.cancel()
        assert loop._timer_cancelled_count == 1
    finally:
        loop.close()


def test_a_timer_that_is_due_runs_in_the_pass_after_the_jump() -> None:
    async def main() -> float:
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    assert run_virtually(main) == pytest.approx(3600.0, abs=0.01)


def test_pytest_knows_where_a_fixture_comes_from(request: pytest.FixtureRequest) -> None:
    """`testing/plugin.py` asks whether a test's ``anyio_backend`` is anyio's own or the user's."""
    definitions = request.node._fixtureinfo.name2fixturedefs["nothing_blocks_the_loop"]
    assert definitions[-1].func.__module__ == "tests.conftest"
    assert anyio.pytest_plugin.anyio_backend.__module__ == "anyio.pytest_plugin"


def test_pytest_asyncio_asks_for_the_loops_of_a_test(pytestconfig: pytest.Config) -> None:
    """`testing/plugin.py` gives a test that is marked as virtual its loop by this hook."""
    assert hasattr(pytestconfig.hook, "pytest_asyncio_loop_factories")


def test_what_the_command_takes_of_rich_is_there() -> None:
    assert rich.cells.cell_len("字") == 2
    assert rich.cells.chop_cells("abcd", 2) == ["ab", "cd"]


def test_a_connection_of_asyncpg_keeps_the_tasks_that_cancel_its_commands() -> None:
    """`_postgres.py` waits for them when it closes, and its tests let asyncpg look for its files."""
    assert "_cancellations" in asyncpg.Connection.__slots__
    assert "dsn" in parameters(asyncpg.connect_utils._parse_connect_dsn_and_args)
