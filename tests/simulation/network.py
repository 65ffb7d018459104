"""The way between a client and a simulated cloud, on which requests and answers get lost.

What has arrived goes on at the cloud whatever becomes of the client: it runs in a task of the network's. What has not
arrived when the client gives up never does, as with a connection that is closed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

import anyio
import httpx
import msgspec
from starlette.types import ASGIApp

from bms_async import HttpRequest, HttpResponse, TransportError
from bms_async.errors import CallTimeoutError
from bms_async.simulator import SimulatedCut
from tests.simulation.foreign import Raiser
from tests.simulation.ledger import CURRENT, Exchange, Ledger, Troubles
from tests.simulation.scenario import LostBack, LostThere, Refused, Scenario, Slow, Torn, Trouble
from tests.simulation.world_time import world_time

_ACTIONS = {b"os-start": "servers.start", b"os-stop": "servers.stop", b"reboot": "servers.reboot"}
_NATIVE = tuple(f"nova.{name}" for name in _ACTIONS.values())
LOOKS = frozenset({"servers.get", "nova.servers.get"})
"""The operations that read one server."""

_SINGLE = frozenset({"servers.rename", "servers.reinstall_os", "nova.tags.add", *LOOKS, *_NATIVE})
_TOLD = {
    "servers.rename": b'"server"',
    "servers.reinstall_os": b'"job_id"',
    "servers.list": b'"servers"',
    "nova.servers.list_details": b'"servers"',
}
NETWORK_TROUBLES = (Refused, LostThere, LostBack, Torn, Slow)


class Broken(Exception):  # noqa: N818 - what happens is a break
    """No answer comes; `left` says whether anything may have left."""

    def __init__(self, *, left: bool) -> None:
        self.left = left
        super().__init__("the connection broke" if left else "nobody takes the connection")


class Answer(NamedTuple):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Network:
    """Carries requests to a cloud.

    Args:
        app: The cloud's application.
        ledger: Where every exchange is written down.
        scenario: What the network is like.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger, scenario: Scenario) -> None:
        self._app = app
        self._ledger = ledger
        self._troubles = Troubles(scenario, lambda trouble: isinstance(trouble, NETWORK_TROUBLES))
        self._latency = scenario.latency
        self._random = Random(f"network {scenario.seed}")
        self._at_work: set[asyncio.Task[Answer]] = set()
        self.open: set[Exchange] = set()
        self.most_open = 0

    async def settle(self) -> None:
        """Wait until the cloud has ended what arrived."""
        while self._at_work:
            await asyncio.wait(self._at_work)

    @property
    def tasks(self) -> int:
        """How many tasks are the network's own."""
        return len(self._at_work)

    def lose(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Write down a request that nothing becomes of, though its client cannot know that."""
        exchange = _describe(method, url, headers, body, world_time())
        exchange.ended = exchange.began
        self._ledger.exchanges.append(exchange)

    async def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Carry one request and bring its answer back.

        Raises:
            Broken: No answer comes.
        """
        exchange = _describe(method, url, headers, body, world_time())
        trouble = self._troubles.next(exchange.operation)
        if trouble is not None:
            self._ledger.note(trouble)
        self._ledger.exchanges.append(exchange)
        self.open.add(exchange)
        self.most_open = max(self.most_open, len(self.open))
        try:
            answer = await self._carry(exchange, trouble, method, url, headers, body)
            exchange.status, exchange.code = answer.status, _code_of(answer)
            exchange.garbled |= answer.status < 300 and not _is_meant(exchange, answer)
            return answer
        finally:
            exchange.ended = world_time()
            self.open.discard(exchange)

    async def _carry(
        self,
        exchange: Exchange,
        trouble: Trouble | None,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        there, back = self._draw_latency()
        if isinstance(trouble, Slow):
            there, back = there + trouble.there, back + trouble.back
        if isinstance(trouble, Refused):
            exchange.sent = False
            raise Broken(left=False)
        if there:
            await anyio.sleep(there)
        if isinstance(trouble, LostThere):
            raise Broken(left=True)
        work = asyncio.ensure_future(self._ask(exchange, method, url, headers, body))
        self._at_work.add(work)
        work.add_done_callback(self._end)
        try:
            answer = await asyncio.shield(work)
        except SimulatedCut as cut:
            raise Broken(left=True) from cut
        if back:
            await anyio.sleep(back)
        if isinstance(trouble, LostBack | Torn):
            raise Broken(left=True)
        return answer

    def _end(self, work: asyncio.Task[Answer]) -> None:
        self._at_work.discard(work)
        if not work.cancelled():
            # Nobody may be there to hear that the connection was cut.
            work.exception()

    def _draw_latency(self) -> tuple[float, float]:
        low, high = self._latency
        if not high:
            return 0.0, 0.0
        both = self._random.uniform(low, high)
        there = both * self._random.random()
        return there, both - there

    async def _ask(self, exchange: Exchange, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        CURRENT.set(exchange)
        parts = httpx.URL(url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": parts.scheme,
            "path": parts.path,
            "raw_path": parts.raw_path.split(b"?")[0],
            "query_string": parts.query,
            "root_path": "",
            "headers": [(b"host", parts.netloc)] * ("host" not in {name.lower() for name in headers})
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": (parts.host, 80),
            "state": {},
        }
        asked = False
        status, told = 0, b""
        answered: tuple[tuple[str, str], ...] = ()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, answered, told
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = tuple((name.decode(), value.decode()) for name, value in message["headers"])
            else:
                told += message.get("body", b"")

        await self._app(scope, receive, send)
        return Answer(status, answered, told)


def _describe(method: str, url: str, headers: Mapping[str, str], body: bytes, now: float) -> Exchange:
    token = next((value for name, value in headers.items() if name.lower() == "x-auth-token"), None)
    path = url.partition("://")[2].partition("/")[2].partition("?")[0]
    exchange = Exchange(operation=_operation_of(method, path, body), began=now, token=token)
    if exchange.operation in _ACTIONS.values():
        (wish,) = msgspec.json.decode(body).values()
        exchange.servers = frozenset(server["id"] for server in wish["servers"])
    elif exchange.operation == "jobs.get":
        exchange.job_id = path.rpartition("/")[2]
    elif exchange.operation in _SINGLE:
        # What follows the collection's name is the server's id.
        exchange.servers = frozenset({re.split("/(?:baremetal)?servers/", path)[1].partition("/")[0]})
    return exchange


def _operation_of(method: str, path: str, body: bytes) -> str:
    if path.endswith("/baremetalservers/action"):
        return next((name for key, name in _ACTIONS.items() if body[2 : 2 + len(key)] == key), "servers.action")
    if "/servers/" in path and path.endswith("/action"):
        named = next(name for key, name in _ACTIONS.items() if body[2 : 2 + len(key)] == key)
        return f"nova.{named}"
    if "/jobs/" in path:
        return "jobs.get"
    if path.endswith("/auth/tokens"):
        return "identity.create_token"
    return _operation_on_servers(method, path) or f"{method} {path}"


def _operation_on_servers(method: str, path: str) -> str | None:
    if "/baremetalservers/detail" in path:
        return "servers.list"
    if "/tags/" in path and method == "PUT":
        return "nova.tags.add"
    if "/servers/" in path and method == "GET":
        return "nova.servers.list_details" if path.endswith("/servers/detail") else "nova.servers.get"
    if "/baremetalservers/" not in path:
        return None
    if path.endswith("/reinstallos"):
        return "servers.reinstall_os"
    return "servers.get" if method == "GET" else "servers.rename"


def _is_meant(exchange: Exchange, answer: Answer) -> bool:
    """Whether a good answer tells what the cloud did."""
    if exchange.operation in _ACTIONS.values():
        return exchange.accepted is not None and exchange.accepted.encode() in answer.body
    if exchange.operation == "identity.create_token":
        return any(value == exchange.issued for name, value in answer.headers if name.lower() == "x-subject-token")
    if exchange.operation in _NATIVE:
        return exchange.accepted is not None and answer.status == 202
    if exchange.operation == "nova.tags.add":
        return answer.status in (201, 204)
    if exchange.operation in _TOLD:
        return _TOLD[exchange.operation] in answer.body
    return exchange.job_id is None or exchange.job_id.encode() in answer.body


def _code_of(answer: Answer) -> str | None:
    if answer.status < 300:
        return None
    try:
        told = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return None
    if not isinstance(told, dict):
        return None
    # The native API has the kind of the error in its place.
    inner = told.get("error", next(iter(told.values()), None))
    code = inner.get("code") if isinstance(inner, dict) else told.get("error_code")
    return None if code is None else str(code)


class DirectTransport:
    """The transport that a client is given when nothing but the network is to stand behind it.

    Args:
        network: What carries requests.
        raiser: Has it break now and then, of which its client cannot know whether anything was sent.
    """

    def __init__(self, network: Network, raiser: Raiser) -> None:
        self._network = network
        self._raiser = raiser

    async def send(self, request: HttpRequest) -> HttpResponse:
        try:
            self._raiser.call()
        except BaseException:
            self._network.lose(request.method, request.url, request.headers, request.body)
            raise
        try:
            with anyio.move_on_after(request.timeout):
                answer = await self._network.exchange(request.method, request.url, request.headers, request.body)
                return HttpResponse(status=answer.status, headers=answer.headers, body=answer.body)
        except Broken as broken:
            raise TransportError(str(broken), maybe_delivered=broken.left, operation=request.operation) from broken
        raise CallTimeoutError("no answer in time", maybe_delivered=True, operation=request.operation)


class Wire(httpx.AsyncBaseTransport):
    """What an `httpx.AsyncClient` is given instead of sockets."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        try:
            with anyio.move_on_after(request.extensions["timeout"]["read"]):
                answer = await self._network.exchange(request.method, str(request.url), dict(request.headers), body)
                return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body)
        except Broken as broken:
            raise (httpx.ReadError if broken.left else httpx.ConnectError)(str(broken)) from broken
        raise httpx.ReadTimeout("no answer in time")
