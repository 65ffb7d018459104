"""A web service on Starlette that stops, starts and reboots fleets, and sends what happens as server-sent events.

It shows one client for all requests; runs that outlive their request, and with a journal (BMS_RUNS) the process too;
readers that come late, leave and come back; errors as HTTP answers. In a terminal each, from the root of a checkout:

    pip install '.[simulator]' 'starlette>=1.6' 'sse-starlette>=3.3'
    python -m bms_async.simulator --servers 2000 --port 8800 --project-id demo --token demo --job-seconds 2 8

    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo BMS_RUNS=machine
    uvicorn --app-dir examples service:app --port 8900

    curl http://127.0.0.1:8900/runs -H 'Idempotency-Key: tonight' -d '{"action": "reboot", "servers": "rack-7"}'
    curl -N http://127.0.0.1:8900/runs/tonight/events
    curl -X PUT http://127.0.0.1:8900/runs/tonight/pause    # or resume, or cancel

A kill -9 ends no run: start the service again. It knows no users: put a proxy in front of it that does.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Literal

import anyio
import msgspec
from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bms_async import BmsClient, BmsError, DurableRun, Problem, Runs


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for a run: its servers are a list of ids, or a tag that they have."""

    action: Literal["start", "stop", "reboot"]
    servers: list[str] | str
    wave_size: int | None = None


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, BmsClient]]:
    """Open the client, and work on all runs of the journal, those from before a crash too."""
    with TemporaryDirectory() as folder:
        runs = None if os.environ.get("BMS_RUNS") else Runs(f"sqlite://{folder}/runs.db")
        async with BmsClient.from_env(runs=runs) as bms, bms.runs.work():
            yield {"bms": bms}


async def begin_run(request: Request) -> Response:
    """Begin a run; with an Idempotency-Key once, however often the request comes."""
    if "Origin" in request.headers:
        raise HTTPException(403, "expected no Origin: any page in a browser on this machine can send a POST")
    try:
        wanted = msgspec.json.decode(await request.body(), type=Wanted)
    except (msgspec.DecodeError, UnicodeError, ClientDisconnect) as error:
        raise HTTPException(400, f"expected a run as JSON: {error}") from error
    bms: BmsClient = request.state.bms
    begin = {"start": bms.runs.start, "stop": bms.runs.stop, "reboot": bms.runs.reboot}[wanted.action]
    servers = bms.servers.list(tags=wanted.servers) if isinstance(wanted.servers, str) else wanted.servers
    run = await begin(servers, key=request.headers.get("Idempotency-Key"), wave_size=wanted.wave_size)
    return JSONResponse(run.to_dict(), 202)


async def list_runs(request: Request) -> Response:
    """Show all runs, the latest first."""
    return JSONResponse([run.to_dict() async for run in request.state.bms.runs.list()])


async def show_run(request: Request) -> Response:
    """Show how far a run is; pause, resume or cancel it first, if the path says so."""
    run, change = await find(request), request.path_params.get("change", "refresh")
    if change not in ("refresh", "pause", "resume", "cancel"):
        raise HTTPException(404, f"expected pause, resume or cancel, got {change!r}")
    await getattr(run, change)()
    return JSONResponse(run.to_dict())


async def follow_run(request: Request) -> Response:
    """Send the outcomes of a run as they happen, from after the Last-Event-ID, and how it ended."""
    run, leaving = await find(request), anyio.Event()
    outcomes = run.outcomes(since=request.headers.get("Last-Event-ID"))

    async def events() -> AsyncIterator[JSONServerSentEvent]:
        async for outcome in outcomes:
            yield JSONServerSentEvent(outcome.to_dict(), event="outcome", id=outcomes.cursor)
        if run.ended:  # and not the service; a browser that comes back with this id is refused
            yield JSONServerSentEvent(run.to_dict(), event="ended", id="ended")

    async def leave() -> None:
        await leaving.wait()
        outcomes.stop_waiting()

    return EventSourceResponse(events(), data_sender_callable=leave, shutdown_event=leaving, shutdown_grace_period=5)


async def find(request: Request) -> DurableRun:
    """Return the run that the path names."""
    bms: BmsClient = request.state.bms
    return await bms.runs.get(request.path_params["key"])


async def refuse(_request: Request, error: Exception) -> Response:
    """Answer what went wrong, and whether it is of use to ask again."""
    problem = Problem.of(error)
    return Response(problem.to_json(), problem.status, problem.headers)


routes = [
    Route("/runs", begin_run, methods=["POST"]),
    Route("/runs", list_runs),
    Route("/runs/{key}", show_run),
    Route("/runs/{key}/events", follow_run),
    Route("/runs/{key}/{change}", show_run, methods=["PUT"]),
]
app = Starlette(routes=routes, exception_handlers={BmsError: refuse}, lifespan=lifespan, max_body_size=2**24)
