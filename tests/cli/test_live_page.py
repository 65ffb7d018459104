"""The page of a run while it goes on: seldom rendered, served to this machine alone, and seen to its end."""

from __future__ import annotations

import errno
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest
from anyio._backends._asyncio import TCPSocketListener

from bms_async import FleetReport
from bms_async.cli.access.known import NOTHING_KNOWN
from bms_async.cli.following.follow import Follower
from bms_async.cli.report_page import live, loopback
from bms_async.cli.report_page.head import PageHead
from bms_async.cli.report_page.live import RARELY, LivePage, LiveSource
from bms_async.cli.report_page.loopback import MAX_CONNECTIONS, MAX_REQUEST, Answer, listen, port_of, serve
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.signals import SignalHandler
from bms_async.testing import run_virtually
from tests.cli.test_report_page import failed, history, outcome, report_of

PAGE = b"<p>page</p>" * 20_000


def source(servers: int = 80, waits_for: str | None = None) -> LiveSource:
    return LiveSource(PageHead(verb="stop"), NOTHING_KNOWN, "servers.stop", servers, lambda: waits_for, history)


def following(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> tuple[LivePage, list[str]]:
    """A page that is followed, and the versions that are rendered, each of which takes so long."""
    rendered: list[str] = []

    async def render(_report: FleetReport, _source: LiveSource, _left: int, version: str) -> bytes:
        await anyio.sleep(seconds)
        rendered.append(version)
        return version.encode()

    monkeypatch.setattr(live, "_render", render)
    page = LivePage("http://127.0.0.1:1/")
    page.begin(source())
    return page, rendered


async def state(page: LivePage) -> dict[str, object]:
    answer = await page.answer("/state", "me")
    assert answer is not None
    return msgspec.json.decode(answer.body, type=dict[str, object])


async def body(page: LivePage, viewer: str = "me") -> bytes:
    answer = await page.answer("/", viewer)
    assert answer is not None
    if answer.on_sent is not None:
        answer.on_sent()
    return answer.body


def test_a_page_is_rendered_when_somebody_asks_and_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        page, rendered = following(monkeypatch)
        for each in range(50):
            page.add(outcome(each))
            await anyio.sleep(1)
        assert rendered == []
        for each in range(50, 60):
            page.add(outcome(each))
            await body(page)
        assert rendered == ["51"]
        assert (await state(page))["version"] == "51"
        await anyio.sleep(RARELY)
        assert (await state(page))["version"] == "60"
        assert await body(page) == b"60"
        # Without anything new, there is nothing to render either.
        await anyio.sleep(RARELY)
        await body(page)
        assert rendered == ["51", "60"]

    run_virtually(main)


def test_a_page_that_takes_long_is_rendered_the_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        page, rendered = following(monkeypatch, seconds=2.0)
        for each in range(100):
            page.add(outcome(each))
            await body(page)
            await anyio.sleep(1)
        assert len(rendered) <= 3

    run_virtually(main)


def test_who_looks_sees_the_end_before_the_command_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        page, _ = following(monkeypatch)
        page.add(outcome())
        await page.answer("/state", "one")
        await page.answer("/state", "two")
        report = report_of([outcome()])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: page.end(report, 0, linger=5.0))
            await anyio.sleep(2)
            assert await state(page) | {"version": "end", "ended": True} == await state(page)
            assert await body(page, "one") == b"end"
            await anyio.sleep(1)
            assert await body(page, "two") == b"end"
        assert anyio.current_time() == pytest.approx(3.0, abs=0.1)

    run_virtually(main)


@pytest.mark.parametrize(("looked", "rested", "until"), [(True, 0.0, 5.0), (True, 60.0, 60.0), (False, 0.0, 0.0)])
def test_the_command_waits_a_little_for_who_looked_lately_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch, looked: bool, rested: float, until: float
) -> None:
    async def main() -> None:
        page, _ = following(monkeypatch)
        await body(page, "without scripts")
        if looked:
            await state(page)
        await anyio.sleep(rested)
        await page.end(report_of([outcome()]), 0, linger=5.0)
        assert anyio.current_time() == pytest.approx(until, abs=0.1)

    run_virtually(main)


def test_ctrl_c_does_not_wait_for_who_looks_and_changes_nothing_of_a_run_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Run:
        async def report(self) -> FleetReport:
            return report_of([outcome()])

    async def main() -> None:
        page, _ = following(monkeypatch)
        await state(page)
        follower, stop = Follower.__new__(Follower), SignalHandler()
        monkeypatch.setattr(follower, "_run", Run(), raising=False)
        monkeypatch.setattr(follower, "_servers", 1, raising=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follower._show_end, page, stop)
            await anyio.sleep(1)
            stop.on_signal(signal.SIGINT)
        assert anyio.current_time() == pytest.approx(1.0, abs=0.1)
        assert stop.number == 0

    run_virtually(main)


async def test_what_is_known_so_far_is_on_the_page_and_in_words() -> None:
    page = LivePage("http://127.0.0.1:1/")
    assert b"The run has not begun yet." in await body(page)
    assert await page.answer("/state", "me") is None
    page.begin(source(80, "the window opens at 22:00"))
    for each in (outcome(1), outcome(2), failed(3)):
        page.add(each)
    assert (await state(page))["words"] == (
        "The run goes on: 3 of 80 servers have ended, 1 of them not as asked. It waits: the window opens at 22:00"
    )
    text = (await body(page)).decode()
    assert "<b>3 of 80 servers have ended so far.</b>" in text
    assert 'data-version="3"' in text
    assert "connect-src 'self'" in text
    assert '<noscript><meta http-equiv="refresh"' in text
    await page.end(report_of([outcome(1), outcome(2), failed(3)]), 77, linger=0.0)
    text = (await body(page)).decode()
    assert "The run has ended. This page does not change any more." in text
    assert "77 of 80 servers have not ended yet." in text
    assert "refresh" not in text


@asynccontextmanager
async def served(on_sent: Callable[[], None] | None = None) -> AsyncIterator[int]:
    listener = await listen(0)

    async def answer(path: str, _query: str) -> Answer | None:
        if path == "/broken":
            raise MemoryError("no room for the page")
        return Answer("text/html", PAGE, on_sent) if path == "/" else None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, answer)
        yield port_of(listener)
        tasks.cancel_scope.cancel()


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of what is answered to a request; nothing if the connection is only closed."""
    received = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(request)
            async for piece in stream:
                received += piece
        except anyio.BrokenResourceError:
            pass
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def get(port: int, path: str = "/", host: str = "127.0.0.1", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


async def test_a_browser_of_this_machine_gets_the_page_whole() -> None:
    sent: list[bool] = []
    async with served(lambda: sent.append(True)) as port:
        for host in ("127.0.0.1", "localhost"):
            head, rest = await ask(port, get(port, host=host))
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"Cross-Origin-Resource-Policy: same-origin" in head
            assert rest == PAGE
        assert len(sent) == 2
        head, rest = await ask(port, get(port, method="HEAD"))
        assert (f"Content-Length: {len(PAGE)}".encode() in head, rest) == (True, b"")


@pytest.mark.parametrize(
    ("status", "request_of"),
    [
        (403, lambda port: get(port, host="evil.example")),
        (403, lambda port: get(port + 1)),
        (403, lambda _: b"GET / HTTP/1.1\r\n\r\n"),
        (403, lambda port: get(port)[:-2] + b"Host: evil.example\r\n\r\n"),
        (405, lambda port: get(port, method="POST")),
        (405, lambda port: get(port, method="OPTIONS")),
        (404, lambda port: get(port, "/../etc/passwd")),
        (400, lambda _: b"hello\r\n\r\n"),
        (400, lambda _: b"x" * (MAX_REQUEST + 1)),
    ],
)
async def test_anything_else_is_refused(status: int, request_of: Callable[[int], bytes]) -> None:
    async with served() as port:
        head, rest = await ask(port, request_of(port))
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert PAGE not in rest


async def test_who_is_slow_holds_nobody_else_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as port:
        slow = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(MAX_CONNECTIONS - 1)]
        head, _ = await ask(port, get(port))
        assert head.startswith(b"HTTP/1.1 200")
        slow.append(await anyio.connect_tcp("127.0.0.1", port))
        await slow[-1].send(b"GET ")
        assert await ask(port, get(port)) == (b"", b"")
        for stream in slow:
            await stream.aclose()
        monkeypatch.setattr(loopback, "PATIENCE", 0.01)
        # It never says what it wants, and is closed.
        assert await ask(port, b"GET / HTTP/1.1\r\n") == (b"", b"")


async def test_a_port_is_listened_on_for_this_machine_alone_and_by_one_alone() -> None:
    listener = await listen(0)
    async with listener:
        assert listener.extra(anyio.abc.SocketAttribute.local_address)[0] == "127.0.0.1"
        with pytest.raises(UsageError, match="the port is in use; name another one, or 0 for any that is free"):
            await listen(port_of(listener))


async def test_a_connection_that_cannot_be_accepted_ends_neither_the_page_nor_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accepting, refusals = TCPSocketListener.accept, [OSError(errno.EMFILE, "Too many open files"), OSError()]

    async def accept(listener: TCPSocketListener) -> anyio.abc.SocketStream:
        if refusals:
            raise refusals.pop()
        return await accepting(listener)

    monkeypatch.setattr(loopback, "_ACCEPT_AGAIN", 0.0)
    monkeypatch.setattr(TCPSocketListener, "accept", accept)
    async with served() as port:
        assert (await ask(port, get(port)))[1] == PAGE
    assert refusals == []


async def test_a_page_that_cannot_be_drawn_ends_nothing_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    async with served() as port:
        for _ in range(2):
            assert (await ask(port, get(port, "/broken")))[0].startswith(b"HTTP/1.1 500 ")
        assert (await ask(port, get(port)))[1] == PAGE
    said = capsys.readouterr().err
    assert said == "bms: the page of the run cannot be shown: no room for the page; the run goes on\n"
