"""The cloud itself: servers, jobs, counters and a clock, without HTTP."""

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Final

import anyio.lowlevel

from bms_async.simulator.clock import Wall
from bms_async.simulator.faults import Fault, FaultHook
from bms_async.simulator.jobs import REASONS, PowerJob
from bms_async.simulator.refusals import Refusal
from bms_async.simulator.settings import CloudSettings
from bms_async.simulator.state import Action, Filters, Park, Server
from bms_async.simulator.throttle import Books, Gate

__all__ = ["Cloud"]

_STEM: Final = 24
_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")


class Cloud:
    """A bare-metal cloud on this machine.

    It has no task of its own: what becomes of a batch is drawn when it is accepted, and whoever looks
    lets the clock's time happen first. So it runs on any clock, a virtual one that jumps too.

    Args:
        settings: How it behaves.
        clock: Seconds, never going back; a virtual event loop's `time` in tests.

    Attributes:
        settings: As given.
        faults: Hooks asked at every call, in order; the first fault counts.
        tokens: The tokens that are accepted now.
        wall: Turns the clock's seconds into the timestamps of answers.
        born: The clock's time at the beginning.
    """

    def __init__(self, settings: CloudSettings | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings or CloudSettings()
        self.faults: list[FaultHook] = []
        self.tokens = {self.settings.token}
        self._clock = clock
        self.born = clock()
        self.wall = Wall(self.settings.epoch, self.born)
        self._park = Park(self.settings)
        self._gate = Gate(self.settings)
        self._jobs: dict[str, PowerJob] = {}
        self._due: list[tuple[float, int, PowerJob]] = []
        self._latency = self._drawing("latency")
        self._order = self._drawing("order")
        self._request_ids = self._drawing("requests")

    def __repr__(self) -> str:
        return f"<Cloud servers={self.settings.servers} jobs={len(self._jobs)}>"

    def now(self) -> float:
        """The clock's time."""
        return self._clock()

    @property
    def servers(self) -> dict[str, Server]:
        """All servers by id, as they are now; for tests to look at, not to change."""
        self._catch_up(math.inf)
        return self._park.by_id

    def count_servers(self) -> dict[str, int]:
        """How many servers have which status now."""
        self._catch_up(math.inf)
        return self._park.count()

    def books(self) -> Books:
        """What arrived so far, by operation."""
        return self._gate.books()

    def arrive(self, operation: str) -> tuple[int, float]:
        """Count a call; see `Gate.arrive`."""
        return self._gate.arrive(operation, self._clock())

    def fault(self, operation: str, nth: int, path: str) -> Fault | None:
        """What goes wrong with this call, if anything."""
        for hook in self.faults:
            fault = hook(operation, nth, path)
            if fault is not None:
                return fault
        return None

    def new_request_id(self) -> str:
        """An id for one answer."""
        return f"{self._request_ids.getrandbits(128):032x}"

    def draw_latency(self) -> tuple[float, float]:
        """Seconds on the way there and on the way back."""
        low, high = self.settings.latency
        if not high:
            return 0.0, 0.0
        both = self._latency.uniform(low, high)
        there = both * self._latency.random()
        return there, both - there

    def server(self, server_id: str) -> Server:
        """One server as it is now (API reference 4.3.1).

        Raises:
            Refusal: There is none.
        """
        server = self._park.by_id.get(server_id)
        if server is None:
            raise Refusal(404, "BMS.0040", f"No server has the id {server_id}.")
        server.look(self._clock())
        return server

    async def find(self, filters: Filters, first: int, most: int) -> tuple[int, list[Server]]:
        """How many servers match and a page of them (API reference 4.3.2)."""
        await self.settle()
        count, page = self._park.find(filters, first, most)
        # A server found by its status must show that status, even if a microsecond has gone by.
        if filters.status is None:
            now = self._clock()
            for server in page:
                server.look(now)
        return count, page

    async def settle(self) -> None:
        """Let everything that was due happen.

        Who looks at servers of many jobs after a long silence has much to make up for, and others
        must get their turn in between.
        """
        while self._catch_up(4):
            await anyio.lowlevel.checkpoint()

    def act(self, action: Action, server_ids: Sequence[str]) -> PowerJob:
        """Accept a batch (API reference 4.4.3 to 4.4.5).

        Raises:
            Refusal: A server is unknown, or in the wrong state where that refuses the batch.
        """
        now = self._clock()
        servers = []
        for server_id in server_ids:
            server = self._park.by_id.get(server_id)
            if server is None:
                raise Refusal(400, "BMS.0040", f"No server has the id {server_id}.")
            server.look(now)
            servers.append(server)
        if self.settings.refuse_batches:
            for server in servers:
                code = server.objection(action)
                if code is not None:
                    # Which one it is stays untold, as with the real service's texts.
                    raise Refusal(400, code, REASONS[code])
        rng = self._drawing(f"job/{len(self._jobs)}")
        job_id = f"{rng.getrandbits(128):032x}"
        job = PowerJob(job_id, action, servers, now=now, rng=rng, job_seconds=self.settings.job_seconds)
        self._jobs[job.stem] = job
        heappush(self._due, (job.next_event, len(self._jobs), job))
        return job

    def job_document(self, job_id: str) -> bytes:
        """A job, or one of its sub-jobs, as it is answered now (API reference 4.11.1).

        Raises:
            Refusal: There is none, not yet, or no more.
        """
        now, settings = self._clock(), self.settings
        job = self._jobs.get(job_id[:_STEM]) if _JOB_ID.fullmatch(job_id) else None
        document = None
        if job is not None and job.accepted + settings.job_hidden_seconds <= now:
            job.advance(now)
            if job.last_end + settings.job_kept_seconds > now:
                document = self._write(job, job_id, now)
        if document is None:
            raise Refusal(404, "BMS.0018", f"No job has the id {job_id}.")
        return document.encode()

    def _write(self, job: PowerJob, job_id: str, now: float) -> str | None:
        anonymous = self.settings.anonymous_failures
        if job_id == job.id:
            order = self._order if self.settings.shuffle_sub_jobs else None
            return job.document(now, self.wall, anonymous=anonymous, order=order)
        return job.sub_document(job_id, now, self.wall, anonymous=anonymous)

    def _catch_up(self, most: float) -> bool:
        """Let what was due in up to `most` jobs happen; say whether more is due."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            if most <= 0:
                return True
            most -= 1
            _, number, job = heappop(self._due)
            # Others who looked may have advanced it already: then this only finds its next time.
            job.advance(now)
            if not job.ended:
                heappush(self._due, (job.next_event, number, job))
        return False

    def _drawing(self, what: str) -> random.Random:
        return random.Random(f"{self.settings.seed}/{what}")  # noqa: S311 - drawn again from a seed
