"""A web service on FastAPI: one server on request, and whole racks in the background.

It shows a client that the lifespan opens and a dependency hands out; structs of the SDK as responses; errors as problem
details; single requests that become common calls; and a run that is followed. From the root of a checkout, one by one:

    pip install '.[simulator]' 'fastapi>=0.135'
    python -m bms_async.simulator --servers 2000 --port 8800 --project-id demo --token demo --job-seconds 2 8

    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo
    uvicorn --app-dir examples fastapi_app:app --port 8900 --timeout-graceful-shutdown 5

    curl 'http://127.0.0.1:8900/servers?tag=rack-7'
    curl http://127.0.0.1:8900/servers/ID/power --json '{"action": "stop"}'    # an id of that list
    curl http://127.0.0.1:8900/runs --json '{"action": "reboot", "tag": "rack-7"}'
    curl -N http://127.0.0.1:8900/runs/1/events

http://127.0.0.1:8900/docs has a form for each call. It knows no users: put a proxy in front of it that does.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from msgspec import to_builtins
from pydantic import BaseModel

from bms_async import BmsClient, BmsError, FleetRun, Problem, Server

# Whose call would have to wait for longer gets a 503 at once. A test puts another client in the place of this one.
make_client = partial(BmsClient.from_env, max_wait=2.0)
Action = Annotated[Literal["start", "stop", "reboot"], Body(embed=True)]


class ServerShown(BaseModel):
    """What callers see of a server; its metadata and user data may hold passwords."""

    id: str
    name: str | None
    status: str | None
    tags: list[str]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the client for all requests; closing it ends its runs."""
    async with make_client() as bms:
        yield {"bms": bms, "runs": {}}


async def refuse(_request: Request, error: Exception) -> Response:
    """Answer what went wrong, and whether it is of use to ask again."""
    problem = Problem.of(error)
    return Response(problem.to_json(), problem.status, problem.headers)


async def get_client(request: Request) -> BmsClient:
    """Return the client; a plain `def` would take a thread for each request."""
    bms: BmsClient = request.state.bms
    return bms


async def get_run(request: Request, number: int) -> FleetRun:
    """Return the run that the path names."""
    run: FleetRun | None = request.state.runs.get(number)
    if run is None:
        raise HTTPException(404, f"expected the number of a run, got {number}")
    return run


app = FastAPI(title="Bare metal", lifespan=lifespan, exception_handlers={BmsError: refuse})
Bms = Annotated[BmsClient, Depends(get_client)]
Run = Annotated[FleetRun, Depends(get_run)]


@app.get("/servers", response_model=list[ServerShown])
async def list_servers(tag: str, bms: Bms) -> list[Server]:
    """List the servers that have a tag."""
    return [server async for server in bms.servers.list(tags=tag)]


@app.post("/servers/{server_id}/power")
async def act_on_server(server_id: str, action: Action, bms: Bms) -> dict[str, Any]:
    """Act on one server, and wait for it; what is requested at the same time is one call to the cloud."""
    power = {"start": bms.power.start, "stop": bms.power.stop, "reboot": bms.power.reboot}
    outcome = await power[action](server_id)
    if outcome.error is not None:
        raise outcome.error
    return outcome.to_dict()


@app.post("/runs", status_code=202)
async def begin_run(action: Action, tag: Annotated[str, Body()], bms: Bms, request: Request) -> dict[str, int]:
    """Begin a run over all servers that have a tag: it is a task of the client, and outlives this request."""
    ids = [server.id async for server in bms.servers.list(tags=tag)]
    run = {"start": bms.fleet.start, "stop": bms.fleet.stop, "reboot": bms.fleet.reboot}[action](ids)
    request.state.runs[number := len(request.state.runs) + 1] = run
    return {"number": number}


@app.get("/runs/{number}")
async def show_run(run: Run) -> dict[str, Any]:
    """Show how far a run is, and what came of it once it has ended."""
    return {"progress": to_builtins(run.progress), "report": None if run.report is None else run.report.summary()}


@app.delete("/runs/{number}", status_code=202)
async def cancel_run(run: Run) -> None:
    """Send nothing more; what was sent is followed to its end."""
    run.cancel()


@app.get("/runs/{number}/events", response_class=EventSourceResponse)
async def follow_run(run: Run) -> AsyncIterator[ServerSentEvent]:
    """Send the outcomes of a run as they happen, from the first on: a run keeps them for every reader."""
    async for outcome in run:
        yield ServerSentEvent(event="outcome", data=outcome.to_dict())
    yield ServerSentEvent(event="ended", data=(await run).summary())
