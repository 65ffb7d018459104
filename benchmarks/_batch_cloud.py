"""A cloud of one function, for `benchmarks/holding.py`: its CPU, its objects and its bytes are kept apart."""

from __future__ import annotations

import asyncio
import re
import time

from benchmarks._collector import Collector
from bms_async import HttpRequest
from bms_async.wire import HttpResponse

JOB_SECONDS = 20.0
LATENCY = 0.05
PAGE = 1000

_ID = re.compile(rb'"id":"([^"]+)"')
_OFFSET = re.compile(r"offset=(\d+)")
_RUNNING = b'{"status":"RUNNING","begin_time":"2026-01-01T00:00:00Z","end_time":"","entities":{"server_id":"%s"}}'
_HEADERS = (("Content-Type", "application/json"),)


def id_of(number: int) -> str:
    """Return the id of a server."""
    return f"{number:08x}-1111-4222-8333-123456789abc"


class BatchCloud:
    """A transport that accepts every batch, whose jobs end after `JOB_SECONDS`, and whose servers are all off.

    Of a job it keeps the body of its request, until its end was shown.

    Args:
        servers: How many there are.
        collector: Times the collector, whose passes are not the cloud's.
        fails: Whether every server's part of a job fails.

    Attributes:
        spent: Seconds of CPU, without the collector.
        last_batch_at: When the last batch came, by the loop's clock.
    """

    def __init__(self, servers: int, collector: Collector, *, fails: bool) -> None:
        self.servers = servers
        self.spent = self.last_batch_at = 0.0
        self._collector = collector
        self._jobs: list[tuple[float, bytes]] = []
        self._end = (
            b'{"status":"FAIL","error_code":"BMS.0005","fail_reason":"no power","entities":{"server_id":"%s"}}'
            if fails
            else b'{"status":"SUCCESS","entities":{"server_id":"%s"}}'
        )

    @property
    def batches(self) -> int:
        """How many batches it has accepted."""
        return len(self._jobs)

    @property
    def held(self) -> int:
        """How many bytes it holds."""
        return sum(len(body) for _, body in self._jobs)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        await asyncio.sleep(LATENCY)
        begun, collected = time.thread_time(), self._collector.spent
        if request.method == "POST":
            body = self._accept(request)
        elif "/jobs/" in request.url:
            body = self._show_job(int(request.url.rpartition("/")[2]))
        elif (found := _OFFSET.search(request.url)) is not None:
            body = self._show_page(int(found[1]))
        else:
            body = b'{"server":%s}' % _state(request.url.rpartition("/")[2])
        self.spent += time.thread_time() - begun - (self._collector.spent - collected)
        return HttpResponse(status=200, headers=_HEADERS, body=body)

    def _accept(self, request: HttpRequest) -> bytes:
        self.last_batch_at = asyncio.get_running_loop().time()
        self._jobs.append((self.last_batch_at, request.body or b""))
        return b'{"job_id":"%d"}' % (len(self._jobs) - 1)

    def _show_job(self, number: int) -> bytes:
        began, asked = self._jobs[number]
        is_running = asyncio.get_running_loop().time() - began < JOB_SECONDS
        status = b"RUNNING" if is_running else b"SUCCESS"
        form = _RUNNING if is_running else self._end
        subs = b",".join(form % found for found in _ID.findall(asked))
        if not is_running:
            self._jobs[number] = (began, b"")
        return b'{"job_id":"%d","status":"%s","entities":{"sub_jobs":[%s]}}' % (number, status, subs)

    def _show_page(self, page: int) -> bytes:
        numbers = range((page - 1) * PAGE, min(page * PAGE, self.servers))
        return b'{"count":%d,"servers":[%s]}' % (self.servers, b",".join(_state(id_of(number)) for number in numbers))


def _state(server_id: str) -> bytes:
    return b'{"id":"%s","status":"SHUTOFF"}' % server_id.encode()
