"""The simulator on a real port, with books of its own: the judge, which knows nothing of the SDK.

It notes how often each server has really obeyed a request, and who polls which job when. What counts is what came in,
whether or not its sender still lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from random import Random
from typing import Any, Self

import msgspec
import uvicorn

from bms_async.simulator import Cloud, CloudSettings, create_app
from bms_async.simulator.core.jobs import BatchJob
from bms_async.simulator.core.servers import PowerAction
from tests.support.changes import Changes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_WORKER = b"x-worker"
_ENDED = (b'{"status":"SUCCESS"', b'{"status":"FAIL"')


class _JudgedCloud(Cloud):
    """A cloud that notes which servers have obeyed."""

    def __init__(self, settings: CloudSettings) -> None:
        super().__init__(settings)
        self.obeyed: Counter[str] = Counter()

    def act(self, action: PowerAction, server_ids: Sequence[str]) -> BatchJob:
        job = super().act(action, server_ids)
        self.obeyed.update(server.id for server in job.obeyed)
        return job

    def interfere(self, action: PowerAction, server_ids: Sequence[str]) -> None:
        """Have servers do something for somebody else."""
        super().act(action, server_ids)


class Window:
    """A sliding window of a limit.

    Args:
        limit: Calls in it.
        seconds: Its length.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._taken: deque[float] = deque()

    def take(self) -> bool:
        """Return whether a call that arrives now is within the limit."""
        now = time.monotonic()
        while self._taken and self._taken[0] <= now - self._seconds:
            self._taken.popleft()
        if len(self._taken) >= self._limit:
            return False
        self._taken.append(now)
        return True


class Gateway:
    """A gateway, open inside its context.

    Args:
        settings: What the cloud is like.
        latency: The seconds that each way of a call takes, at least and at most.
        on_read: Called with the sender and the servers of each power call once it was read, before the cloud acts.
        window: The limit of power calls; None for none.
        changes: Tells when something came in.
        patience: Seconds that a poll may take beyond its latency, if it is to end before the lease of its sender.

    Attributes:
        cloud: The cloud.
        calls: How many power calls came in.
        refused: How many of them were refused by the limit.
        most_polls: How many polls of a job were in flight at once at most, by job.
        pollers: Who has polled each job.
        slow_polls: The jobs of which a poll was in flight for longer than that.
        takeovers: Seconds from the death of a job's worker to the next poll of that job.
        withheld: Whose answers are not given.
    """

    def __init__(
        self,
        settings: CloudSettings,
        *,
        latency: tuple[float, float],
        on_read: Callable[[str, list[str]], None],
        window: Window | None,
        changes: Changes,
        patience: float,
    ) -> None:
        self.cloud = _JudgedCloud(settings)
        self._app: Callable[[Message, Receive, Send], Awaitable[None]] = create_app(self.cloud)
        self._latency, self._random = latency, Random(settings.seed)
        self._on_read, self._window, self._changes = on_read, window, changes
        self.calls = self.refused = 0
        self._polls: Counter[str] = Counter()
        self.most_polls: Counter[str] = Counter()
        self.pollers: dict[str, set[str]] = {}
        self.slow_polls: set[str] = set()
        self._patience = patience
        self._polled_by: dict[str, str] = {}
        self._orphans: dict[str, float] = {}
        self.takeovers: list[float] = []
        self.withheld: set[str] = set()

    async def __aenter__(self) -> Self:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn says it by an attribute
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        await self._serving

    def lose(self, worker: str) -> None:
        """Note that a worker is dead, and its jobs are nobody's."""
        now = time.monotonic()
        for job, poller in self._polled_by.items():
            if poller == worker:
                self._orphans[job] = now

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        worker = headers.get(_WORKER, b"").decode()
        path: str = scope["path"]
        await asyncio.sleep(self._random.uniform(*self._latency))
        if path.endswith("/baremetalservers/action"):
            await self._act(worker, scope, receive, send)
        elif "/jobs/" in path:
            await self._poll(worker, path.rpartition("/")[2], scope, receive, send)
        else:
            await self._app(scope, receive, self._late(send))

    async def _act(self, worker: str, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            # Its sender died in the middle of it: it never came in.
            return
        self.calls += 1
        if self._window is not None and not self._window.take():
            self.refused += 1
            await _refuse(send)
            return
        (request,) = msgspec.json.decode(body).values()
        self._on_read(worker, [server["id"] for server in request["servers"]])
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def read_again() -> Message:
            return whole.pop() if whole else await receive()

        answers: list[Message] = []

        async def keep(message: Message) -> None:
            answers.append(message)

        await self._app(scope, read_again, keep)
        self._changes.tell()
        text = b"".join(answer.get("body", b"") for answer in answers)
        job = msgspec.json.decode(text).get("job_id")
        if job is not None:
            self._polled_by[job] = worker
        await self._changes.until(lambda: worker not in self.withheld)
        late = self._late(send)
        for answer in answers:
            await late(answer)

    async def _poll(self, worker: str, job: str, scope: Message, receive: Receive, send: Send) -> None:
        self._polls[job] += 1
        self.most_polls[job] = max(self.most_polls[job], self._polls[job])
        self.pollers.setdefault(job, set()).add(worker)
        died = self._orphans.pop(job, None)
        if died is not None:
            self.takeovers.append(time.monotonic() - died)
        self._polled_by[job] = worker
        late, began = self._late(send), time.monotonic()

        async def look(message: Message) -> None:
            if message.get("body", b"").startswith(_ENDED):
                # The worker has heard of the end, and if it dies now the next one hears it again.
                self._polled_by[job] = worker
            await late(message)

        try:
            await self._app(scope, receive, look)
        finally:
            self._polls[job] -= 1
            if time.monotonic() - began > self._latency[1] + self._patience:
                self.slow_polls.add(job)

    def _late(self, send: Send) -> Send:
        async def wait_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(self._random.uniform(*self._latency))
            await send(message)

        return wait_and_send


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request; None if only a part of it comes."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _refuse(send: Send) -> None:
    await send({"type": "http.response.start", "status": 429, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"error":{"code":"APIGW.0308","message":"too many"}}'})
