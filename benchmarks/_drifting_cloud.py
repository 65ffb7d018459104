"""A cloud of one function whose servers drift, for `benchmarks/reconcile.py`: its CPU is kept apart."""

from __future__ import annotations

import asyncio
import random
import re
import time

from benchmarks._batch_cloud import LATENCY, PAGE, id_of
from benchmarks._collector import Collector
from bms_async import HttpRequest
from bms_async.wire import HttpResponse

JOB_SECONDS = 20.0

_ID = re.compile(rb'"id":"([^"]+)"')
_OFFSET = re.compile(r"offset=(\d+)")
_HEADERS = (("Content-Type", "application/json"),)
_FORM = (
    b'{"status":"%s","name":"worker-%d","metadata":{"chargingMode":"0","metering.image_id":"4d5e","op_svc_userid":"%032d"},'
    b'"flavor":{"id":"physical.o2.medium","name":"physical.o2.medium","disk":"0","vcpus":"32","ram":"131072"},'
    b'"OS-EXT-STS:vm_state":"%s","OS-EXT-STS:task_state":%s,"OS-EXT-AZ:availability_zone":"az-%d","id":"%s"}'
)


class DriftingCloud:
    """A transport over servers that are on, but for those that were switched off and not started again.

    Args:
        servers: How many there are.
        collector: Times the collector, whose passes are not the cloud's.
        seed: Draws which servers drift.

    Attributes:
        spent: Seconds of CPU, without the collector.
        calls: How many calls there were, by kind: ``pages``, ``starts``, ``stops``, ``polls`` and ``others``.
        drifted: How often a server was switched off.
        started: How often one was asked to start.
        needless: How often one was asked that was on, or already starting.
    """

    def __init__(self, servers: int, collector: Collector, *, seed: int) -> None:
        self.servers = servers
        self.spent = 0.0
        self.calls = dict.fromkeys(("pages", "starts", "stops", "polls", "others"), 0)
        self.drifted = self.started = self.needless = 0
        self._random = random.Random(seed)
        self._collector = collector
        self._jobs: list[tuple[float, list[int]]] = []
        self._off: set[int] = set()
        self._busy: dict[int, float] = {}
        self._shown = [_show(number, b"ACTIVE", b"active", b"null") for number in range(servers)]

    def drift(self, count: int) -> None:
        """Switch some servers off, whatever they are."""
        for number in self._random.sample(range(self.servers), count):
            if number not in self._off and number not in self._busy:
                self._off.add(number)
                self._shown[number] = _show(number, b"SHUTOFF", b"stopped", b"null")
                self.drifted += 1

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        await asyncio.sleep(LATENCY)
        begun, collected = time.thread_time(), self._collector.spent
        self._settle()
        if request.method == "POST":
            body = self._accept(request)
        elif "/jobs/" in request.url:
            self.calls["polls"] += 1
            body = self._show_job(int(request.url.rpartition("/")[2]))
        elif (found := _OFFSET.search(request.url)) is not None:
            self.calls["pages"] += 1
            first = (int(found[1]) - 1) * PAGE
            body = b'{"count":%d,"servers":[%s]}' % (self.servers, b",".join(self._shown[first : first + PAGE]))
        else:
            self.calls["others"] += 1
            body = b'{"server":%s}' % self._shown[int(request.url.rpartition("/")[2][:8], 16)]
        self.spent += time.thread_time() - begun - (self._collector.spent - collected)
        return HttpResponse(status=200, headers=_HEADERS, body=body)

    def _accept(self, request: HttpRequest) -> bytes:
        now = asyncio.get_running_loop().time()
        numbers = [int(found[:8], 16) for found in _ID.findall(bytes(request.body or b""))]
        self.calls["starts" if b"os-start" in bytes(request.body or b"") else "stops"] += 1
        self.started += len(numbers)
        for number in numbers:
            self.needless += number not in self._off
            self._off.discard(number)
            self._busy[number] = now + JOB_SECONDS
            self._shown[number] = _show(number, b"SHUTOFF", b"stopped", b'"powering-on"')
        self._jobs.append((now, numbers))
        return b'{"job_id":"%d"}' % (len(self._jobs) - 1)

    def _settle(self) -> None:
        """Let the servers be on whose start has ended."""
        now = asyncio.get_running_loop().time()
        # In the order in which they were asked, and all take as long.
        while self._busy and next(iter(self._busy.values())) <= now:
            number = next(iter(self._busy))
            del self._busy[number]
            self._shown[number] = _show(number, b"ACTIVE", b"active", b"null")

    def _show_job(self, job: int) -> bytes:
        began, numbers = self._jobs[job]
        is_running = asyncio.get_running_loop().time() - began < JOB_SECONDS
        status = b"RUNNING" if is_running else b"SUCCESS"
        form = b'{"status":"%s","entities":{"server_id":"%s"}}'
        subs = b",".join(form % (status, id_of(number).encode()) for number in numbers)
        if not is_running:
            self._jobs[job] = (began, [])
        return b'{"job_id":"%d","status":"%s","entities":{"sub_jobs":[%s]}}' % (job, status, subs)


def _show(number: int, status: bytes, vm_state: bytes, task_state: bytes) -> bytes:
    return _FORM % (status, number, number, vm_state, task_state, number % 3 + 1, id_of(number).encode())
