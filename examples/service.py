"""A web service that stops, starts and reboots fleets: any number of requests on one client.

    python -m bms_async.simulator --servers 2000 --port 8800 --project-id demo --token demo --job-seconds 2 8
    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo      # in another terminal
    python examples/service.py --port 8900
    curl -i http://127.0.0.1:8900/runs -d '{"action": "stop", "tag": "rack-7"}'     # in a third one
    curl -N http://127.0.0.1:8900/runs/ID/events

It listens on this machine only and does not authenticate callers: put a proxy that does in front of it.
Exit codes: 0 ended by a signal, 2 wrong usage, 3 invalid credentials or settings, 4 the cloud does not respond,
130 interrupted before it listened.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, Literal
from uuid import uuid4

import anyio
import anyio.to_thread
import msgspec
import uvicorn
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

import bms_async
from bms_async import BmsClient, BmsError, FleetRun, Outcome, Remedy

MAX_BYTES: Final = 16 * 2**20
MAX_IN_PROGRESS: Final = 100
MAX_OUTCOMES_KEPT: Final = 200_000
YIELD_EVERY: Final = 500
PATIENCE_WITH_READERS: Final = 30.0
LAST: Final = "end"

log = logging.getLogger("service")


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is asked to do: with these servers, or with all that carry a tag."""

    action: Literal["start", "stop", "reboot"]
    ids: tuple[str, ...] | None = None
    tag: str | None = None
    wave_size: int | None = None
    abort_above: float | None = None
    verify: bool = False


class Record:
    """A run and its outcomes so far: one task follows the run, and any number of readers follow the record.

    A run goes on after its client has gone, and its outcomes are recorded whether or not they are read.
    """

    def __init__(self, run: FleetRun, wanted: RunRequest, key: str | None) -> None:
        self.id, self.run, self.wanted, self.key = uuid4().hex, run, wanted, key
        self.outcomes: list[Outcome] = []
        self.ended = False
        self._news = anyio.Event()

    async def follow(self) -> None:
        """Write down what becomes of the run until it ends."""
        try:
            async for outcome in self.run:
                self.outcomes.append(outcome)
                self._notify()
        except Exception:
            log.exception("run %s broke, and has its report all the same", self.id)
        self.ended = True
        self._notify()
        log.info("run %s ended: %r", self.id, self.run.report)

    async def read(self, position: int, heartbeat: float) -> AsyncIterator[str]:
        """Tell all outcomes but the first so many as server-sent events, then the summary."""
        while True:
            news = self._news
            while position < len(self.outcomes):
                chunk = self.outcomes[position : position + YIELD_EVERY]
                yield "".join(write_event("outcome", plain(item), position + n) for n, item in enumerate(chunk, 1))
                position += len(chunk)
            if self.ended:
                yield write_event("report", self.describe(), LAST)
                return
            # It is the heartbeat too: whatever stands in between drops connections on which nothing comes.
            yield write_event("progress", self.run.progress)
            with anyio.move_on_after(heartbeat):
                await news.wait()

    def describe(self) -> dict[str, object]:
        """Tell how far the run is."""
        report = self.run.report
        summary: dict[str, object] = {"id": self.id, "action": self.wanted.action, "ended": report is not None}
        if report is None:
            return summary | {"progress": self.run.progress}
        names = ("by_state", "by_code", "measures", "seconds", "cancelled", "aborted", "unverified")
        return summary | {"servers": len(report)} | {name: getattr(report, name) for name in names}

    def _notify(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


class Service:
    """The calls of the service, all made with one client."""

    def __init__(self, bms: BmsClient, tasks: TaskGroup, *, max_wait: float, heartbeat: float) -> None:
        self._fleet = bms.fleet
        self._calls = bms.with_options(max_wait=max_wait, total_timeout=60.0)
        self._tasks = tasks
        self._heartbeat = heartbeat
        self._records: dict[str, Record] = {}
        self._ending = False
        routes = [
            Route("/runs", self.begin_run, methods=["POST"]),
            Route("/runs", self.list_runs),
            Route("/runs/{id}", self.show_run),
            Route("/runs/{id}", self.cancel_run, methods=["DELETE"]),
            Route("/runs/{id}/events", self.follow_run),
            Route("/runs/{id}/report", self.report_run),
            Route("/servers/{id}", self.show_server),
            Route("/servers/{id}/{action}", self.act_on_server, methods=["POST"]),
            Route("/jobs/{id}", self.show_job),
        ]
        self.app = Starlette(routes=routes, exception_handlers={BmsError: refuse, HTTPException: refuse})

    def end(self) -> None:
        """Detach all runs and accept no more; their jobs continue in the cloud."""
        self._ending = True
        for record in self._records.values():
            record.run.cancel(detach=True)

    async def begin_run(self, request: Request) -> Response:
        """Begin a run; with an Idempotency-Key once, however often the request comes."""
        key, wanted = request.headers.get("Idempotency-Key"), await read_run_request(request)
        record = self._find_by_key(key, wanted)
        if record is None:
            ids = wanted.ids or [server.id async for server in self._calls.servers.list(tags=wanted.tag)]
            if not ids:
                raise HTTPException(404, f"no server has the tag {wanted.tag!r}")
            # The same may have come meanwhile. Nothing is awaited from here on, so that only one of them finds no run.
            record = self._find_by_key(key, wanted) or self._begin(wanted, ids, key)
        return respond(record.describe(), 202, {"Location": f"/runs/{record.id}"})

    async def list_runs(self, _request: Request) -> Response:
        """Describe the runs in progress, and those that ended last."""
        return respond({"runs": [record.describe() for record in self._records.values()]})

    async def show_run(self, request: Request) -> Response:
        """Tell how far a run is; once it has ended, what came of it."""
        return respond(self._find(request).describe())

    async def cancel_run(self, request: Request) -> Response:
        """Send no further batch; with ?detach=true, do not wait for the jobs in flight either."""
        record = self._find(request)
        record.run.cancel(detach=request.query_params.get("detach") == "true")
        return respond(record.describe(), 202)

    async def follow_run(self, request: Request) -> Response:
        """Tell the outcomes of a run as they happen, from after the Last-Event-ID."""
        record, last = self._find(request), request.headers.get("Last-Event-ID", "0")
        if last == LAST:
            # 204: a browser reconnects when a stream has ended, unless it gets this status.
            return Response(status_code=204)
        position = int(last[:9]) if last.isdecimal() else -1
        if not 0 <= position <= len(record.outcomes):
            raise HTTPException(400, f"Last-Event-ID={last!r}: expected the id of an event of this run, or none")
        return EventStream(record.read(position, self._heartbeat), headers={"Cache-Control": "no-store"})

    async def report_run(self, request: Request) -> Response:
        """Return the whole report."""
        report = self._find(request).run.report
        if report is None:
            raise HTTPException(409, "the run is in progress; its report is available once it has ended")
        # It takes a second for 200,000 servers, which must not block other requests.
        return Response(await anyio.to_thread.run_sync(report.to_json), media_type="application/json")

    async def show_server(self, request: Request) -> Response:
        """Tell of one server, and no more than this: its metadata and user data may hold passwords."""
        server = await self._calls.servers.get(request.path_params["id"])
        return respond({name: getattr(server, name) for name in ("id", "name", "status", "task_state", "tags")})

    async def act_on_server(self, request: Request) -> Response:
        """Start, stop or reboot one server."""
        refuse_pages(request)
        servers = self._calls.servers
        actions = {"start": servers.start, "stop": servers.stop, "reboot": servers.reboot}
        act = actions.get(request.path_params["action"])
        if act is None:
            raise HTTPException(404, "expected start, stop or reboot")
        job = await act([request.path_params["id"]])
        return respond({"job_id": job.id, "servers": job.servers}, 202, {"Location": f"/jobs/{job.id}"})

    async def show_job(self, request: Request) -> Response:
        """Tell how far a job is."""
        job = await self._calls.jobs.get(request.path_params["id"])
        codes = [sub.error_code for sub in job.sub_jobs if sub.error_code]
        return respond({"job_id": job.job_id, "status": job.status, "codes": codes})

    def _begin(self, wanted: RunRequest, ids: Sequence[str], key: str | None) -> Record:
        ended = [record for record in self._records.values() if record.ended]
        in_progress = len(self._records) - len(ended)
        if self._ending or in_progress >= MAX_IN_PROGRESS:
            why = "the service is about to end" if self._ending else f"{in_progress} runs are in progress"
            raise HTTPException(503, f"{why}; ask again later", {"Retry-After": "30"})
        act = {"start": self._fleet.start, "stop": self._fleet.stop, "reboot": self._fleet.reboot}[wanted.action]
        run = act(ids, wave_size=wanted.wave_size, abort_above=wanted.abort_above, verify=wanted.verify)
        record = Record(run, wanted, key)
        self._forget(ended)
        self._records[record.id] = record
        self._tasks.start_soon(record.follow, name=f"run {record.id}")
        log.info("run %s begins: %s, %d servers", record.id, wanted.action, len(ids))
        return record

    def _forget(self, ended: list[Record]) -> None:
        kept = sum(len(record.outcomes) for record in ended)
        while ended and (kept > MAX_OUTCOMES_KEPT or len(ended) > MAX_IN_PROGRESS):
            oldest = ended.pop(0)
            kept -= len(oldest.outcomes)
            del self._records[oldest.id]

    def _find_by_key(self, key: str | None, wanted: RunRequest) -> Record | None:
        record = next((each for each in self._records.values() if key is not None and each.key == key), None)
        if record is not None and record.wanted != wanted:
            raise HTTPException(422, f"the Idempotency-Key {key!r} was used for another run; choose a new one")
        return record

    def _find(self, request: Request) -> Record:
        record = self._records.get(request.path_params["id"])
        if record is None:
            raise HTTPException(404, "there is no such run, or it ended long ago; GET /runs lists the runs")
        return record


class EventStream(StreamingResponse):
    """Server-sent events; a client that does not read them for half a minute is disconnected."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """Send the events."""

        async def send_in_time(message: Message) -> None:
            with anyio.fail_after(PATIENCE_WITH_READERS):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(send_in_time)


def write_event(name: str, data: object, event_id: int | str | None = None) -> str:
    """Write a server-sent event."""
    first = "" if event_id is None else f"id: {event_id}\n"
    return f"{first}event: {name}\ndata: {encode(data).decode()}\n\n"


def encode(data: object) -> bytes:
    """Write JSON; what msgspec does not know are mappings that cannot be changed."""
    return msgspec.json.encode(data, enc_hook=dict)


def respond(data: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(encode(data), status, headers, "application/json")


def plain(outcome: Outcome) -> dict[str, object]:
    """Return the fields of an outcome that clients see."""
    names = ("server_id", "state", "code", "job_id", "attempts", "seconds")
    why = str(outcome.error) if outcome.error else None
    return {name: getattr(outcome, name) for name in names} | {"why": why}


def refuse_pages(request: Request) -> None:
    """Refuse what a web page asks for: any page that a browser on this machine shows can send a POST here."""
    if "Origin" in request.headers:
        raise HTTPException(403, "a web page may not ask for that")


async def read_run_request(request: Request) -> RunRequest:
    """Read what a run is asked to do; the request must not fill the memory."""
    refuse_pages(request)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"a request may have {MAX_BYTES} bytes; make two runs of it")
        wanted = msgspec.json.decode(body, type=RunRequest)
    except (msgspec.DecodeError, UnicodeError, ClientDisconnect) as error:
        raise HTTPException(400, f"not a run: {error}") from error
    if bool(wanted.ids) == bool(wanted.tag):
        raise HTTPException(400, "which servers? Give ids or a tag, and not both")
    return wanted


UNAVAILABLE: Final = 503
STATUSES: Final = (
    (bms_async.InvalidRequestError, 400),
    (bms_async.WaitTooLongError | bms_async.RateLimitedError | bms_async.ClientClosedError, UNAVAILABLE),
    (bms_async.NotFoundError, 404),
    (bms_async.ConflictError, 409),
    (bms_async.BadRequestError, 400),
    (TimeoutError, 504),
)
# The codes say more than the statuses that they come with.
REMEDIES: Final = {
    Remedy.NOT_FOUND: 404,
    Remedy.ALREADY_THERE: 409,
    Remedy.IN_TRANSITION: 409,
    Remedy.QUOTA: 409,
    Remedy.PERMISSION: 502,
}


async def refuse(_request: Request, error: Exception) -> Response:
    """Answer with what went wrong, and what to do."""
    if isinstance(error, HTTPException):
        return respond({"error": error.detail}, error.status_code, dict(error.headers or {}))
    documented = bms_async.explain(getattr(error, "code", None))
    status = REMEDIES.get(documented.remedy) if documented else None
    # The rest is between the cloud and us, a refused token too: our client can do nothing about it.
    status = status or next((status for kind, status in STATUSES if isinstance(error, kind)), 502)
    details = {name: getattr(error, name, None) for name in ("code", "request_id", "maybe_done")}
    wait = getattr(error, "wait", None) or getattr(error, "retry_after", None) or 30.0
    headers = {"Retry-After": str(math.ceil(wait))} if status == UNAVAILABLE else {}
    return respond({"error": str(error), **details}, status, headers)


class WebServer(uvicorn.Server):
    """A uvicorn that leaves signals to us: by itself it would wait for streams that end only when their runs do."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


async def serve(options: argparse.Namespace, listener: socket.socket) -> None:
    """Serve until a signal comes; a second one does not wait for open requests."""
    async with BmsClient.from_env() as bms:
        # Errors in the settings are better reported now than to the first client.
        await anext(aiter(bms.with_options(retry=None, total_timeout=10.0).servers.list(page_size=1)), None)
        async with anyio.create_task_group() as tasks:
            service = Service(bms, tasks, max_wait=options.max_wait, heartbeat=options.heartbeat)
            config = uvicorn.Config(service.app, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
            server = WebServer(config)

            async def end_on_signal(signals: AsyncIterator[signal.Signals]) -> None:
                async for _ in signals:
                    server.force_exit = server.should_exit
                    service.end()
                    server.should_exit = True

            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                tasks.start_soon(end_on_signal, signals)
                log.info("listening on http://%s:%d, for project %s", *listener.getsockname(), bms.project_id)
                await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()


def seconds(text: str) -> float:
    """Read a time that is longer than none."""
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"more than 0 seconds are needed: {text}")
    return float(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--port", type=int, default=8900, metavar="N", help="where to listen; 0 takes a free one (8900)")
    add("--max-wait", type=seconds, default=2.0, metavar="S", help="how long a request may wait for the limit (2)")
    add("--heartbeat", type=seconds, default=5.0, metavar="S", help="how long a stream may be silent (5)")
    options = parser.parse_args(arguments)
    if options.port not in range(2**16):
        parser.error(f"--port {options.port}: 0 to 65535 are ports")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
    except OSError as error:
        parser.error(f"cannot listen on port {options.port}: {error.strerror}; choose another by --port")
    try:
        with listener:
            asyncio.run(serve(options, listener))
    except BmsError as error:
        print(f"service: {error}", file=sys.stderr)
        settings = bms_async.ConfigurationError | bms_async.AuthenticationError | bms_async.PermissionDeniedError
        return 3 if isinstance(error, settings) else 4
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
