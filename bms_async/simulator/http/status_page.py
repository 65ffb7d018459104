"""The simulator's status page: the state of a cloud, for a browser."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from pathlib import Path
from typing import Final

import anyio.lowlevel
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bms_async.simulator.core.activity import JobCounts
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.faults import Script
from bms_async.simulator.core.settings import CloudSettings
from bms_async.simulator.http.gateway import Endpoint

__all__ = ["Status", "offer_page", "prefers_html", "read_status"]

_LATEST: Final = 12
_YIELD_EVERY: Final = 2000

_HERE: Final = Path(__file__).parent
_STYLE: Final = _HERE.parents[1] / "_assets" / "page.css"
_DEFAULT: Final = CloudSettings()


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The servers: how many there are, with which status, being at what, and how many are yet to begin it.

    `drifted` counts the changes that no call has asked for.
    """

    total: int
    by_status: dict[str, int]
    virtual_machines: int
    at_work: dict[str, int]
    waiting: int
    drifted: int


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One job, and how many of its servers have begun, ended, and failed; `seconds` since its acceptance or in all."""

    id: str
    kind: str
    total: int
    begun: int
    ended: int
    failed: int
    seconds: float


class CallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one operation; `used` of the limit is taken now, `minute` came within the last one."""

    operation: str
    limit: int | None
    used: int
    minute: int
    arrived: int
    refused: int
    unauthorized: int
    worst_minute: int


class FaultStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A scripted fault that waits for its call."""

    operation: str
    nth: int
    fault: str


class SettingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as it may be shown, and whether it differs from the default."""

    name: str
    value: str
    chosen: bool


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a cloud.

    Attributes:
        born: Its clock's value at its start; another value means another cloud.
        uptime: Seconds since its beginning.
        time: The time by its clock, as in its responses.
        project_id: The project of the servers.
        servers: The servers.
        jobs: How many jobs there are, how many of them have ended, and how many of those failed in part or all.
        latest: The latest jobs, newest first.
        refused: How many calls were refused with 429.
        calls: What arrived, by operation, the limited ones first.
        faults_waiting: How many scripted faults wait for their calls.
        hooks: How many other fault hooks there are.
        faults: The scripted faults that are due first.
        settings: The settings without what is secret.
    """

    born: float
    uptime: float
    time: str
    project_id: str
    servers: ServerStatus
    jobs: JobCounts
    latest: list[JobStatus]
    refused: int
    calls: list[CallStatus]
    faults_waiting: int
    hooks: int
    faults: list[FaultStatus]
    settings: list[SettingStatus]


async def read_status(cloud: Cloud) -> Status:
    """Read the state of a cloud, without changing anything, not even the ids of later responses."""
    await cloud.settle()
    at_work, waiting = await _work(cloud)
    by_status = cloud.count_servers()
    now, board, wait = cloud.now(), cloud.activity, await _faults(cloud)
    return Status(
        born=cloud.born,
        uptime=now - cloud.born,
        time=cloud.wall.seconds(now),
        project_id=cloud.settings.project_id,
        servers=ServerStatus(
            total=sum(by_status.values()),
            by_status=by_status,
            virtual_machines=cloud.virtual_machines,
            at_work=at_work,
            waiting=waiting,
            drifted=cloud.drifting.changes,
        ),
        jobs=board.counts(),
        latest=[
            JobStatus(
                id=job.id,
                kind=job.kind,
                **job.standing._asdict(),
                seconds=(job.last_end if job.ended else now) - job.accepted,
            )
            for job in board.latest(_LATEST)
        ],
        refused=cloud.call_counts().refused,
        calls=_calls(cloud),
        faults_waiting=len(wait),
        hooks=sum(not isinstance(hook, Script) for hook in cloud.faults),
        faults=wait[:_LATEST],
        settings=[
            SettingStatus(name=name, value=_shown(value), chosen=value != getattr(_DEFAULT, name))
            for name, value in cloud.settings.__rich_repr__()
        ],
    )


def prefers_html(accepts: list[str]) -> bool:
    """Whether a caller asks for HTML by name and likes it no less than JSON.

    Browsers do. Clients of the API name JSON, or anything, or nothing at all.

    Args:
        accepts: The `Accept` headers.
    """
    likes: dict[str, float] = {}
    for part in ",".join(accepts).lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        likes[kind] = max(likes.get(kind, 0.0), _quality(parameters))
    # Java's default, which programs that call the API send too.
    if likes.keys() >= {"text/html", "image/gif"} and "application/xhtml+xml" not in likes:
        return False
    html = likes.get("text/html", 0.0)
    json = next((likes[kind] for kind in ("application/json", "application/*", "*/*") if kind in likes), 0.0)
    return html > 0.0 and html >= json


def offer_page(endpoint: Endpoint) -> Endpoint:
    """Show the page to browsers, which is not counted, and leave everybody else to the call of the same path.

    Args:
        endpoint: The call.
    """

    async def either(request: Request) -> Response:
        if prefers_html(request.headers.getlist("accept")):
            return Response(_PAGE, media_type="text/html", headers=_HEADERS)
        return await endpoint(request)

    return either


async def _work(cloud: Cloud) -> tuple[dict[str, int], int]:
    # The jobs know how many of their servers are at it: a million servers are not asked one by one.
    at_work: Counter[str] = Counter()
    waiting = 0
    for number, work in enumerate(cloud.activity.under_way(), 1):
        standing = work.standing
        waiting += standing.total - standing.begun
        if standing.begun > standing.ended:
            at_work[work.kind] += standing.begun - standing.ended
        if number % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
    return dict(at_work), waiting


async def _faults(cloud: Cloud) -> list[FaultStatus]:
    counts = cloud.call_counts().operations
    waiting = []
    for script in [hook for hook in cloud.faults if isinstance(hook, Script)]:
        for number, (operation, nth, fault) in enumerate(list(script.items()), 1):
            if operation not in counts or nth > counts[operation].arrived:
                waiting.append(FaultStatus(operation=operation, nth=nth, fault=type(fault).__name__))
            if number % _YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
    return sorted(waiting, key=lambda each: (each.operation, each.nth))


def _calls(cloud: Cloud) -> list[CallStatus]:
    minute = cloud.minute()
    calls = [
        CallStatus(
            operation=name,
            limit=None if cloud.settings.throttle == "none" else counter.limit,
            used=minute[name][0],
            minute=minute[name][1],
            arrived=counter.arrived,
            refused=counter.refused,
            unauthorized=counter.unauthorized,
            worst_minute=counter.worst_minute,
        )
        for name, counter in cloud.call_counts().operations.items()
    ]
    return sorted(calls, key=lambda each: (each.limit is None, each.operation))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items()) or "none"
    if isinstance(value, tuple):
        return " to ".join(map(str, value))
    words = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else None
    return words or ("without end" if value == math.inf else str(value) or "none")


def _quality(parameters: list[str]) -> float:
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if re.fullmatch(r"[01](\.[0-9]{0,3})?", given) else 0.0


def _build() -> tuple[bytes, dict[str, str]]:
    page = (_HERE / "status.html").read_text(encoding="utf-8")
    page = page.replace("/* page.css */", _STYLE.read_text(encoding="utf-8"))
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": rules,
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
    }
    return page.encode(), headers


# Read once, at the import, so that no request ever waits for a disk.
_PAGE, _HEADERS = _build()
