"""Faults that the simulator injects, chosen call by call."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, get_args

import msgspec

__all__ = [
    "Answer",
    "CutAfter",
    "CutBefore",
    "Delay",
    "DroppedMarker",
    "Fault",
    "FaultHook",
    "GarbledJob",
    "Garbling",
    "HalfBody",
    "NotFoundJob",
    "Script",
    "ScriptedFault",
    "ShortPage",
    "SimulatedCut",
    "Throttled",
    "Unauthorized",
    "garble",
    "shorten",
]


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond with this instead: a 500, a proxy's HTML, half a JSON body.

    Attributes:
        status: The HTTP status, from 200 to 599.
        body: The bytes of the body.
        headers: Headers that override those of every response.
        acted: Whether the cloud acts first, and then responds with this.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    acted: bool = False

    def __post_init__(self) -> None:
        _check("Answer(status)", self.status, "an HTTP status from 200 to 599", self.status in range(200, 600))


class Throttled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond with 429 as if other clients had used up the limit; `retry_after` seconds go into the header."""

    retry_after: int | None = None

    def __post_init__(self) -> None:
        valid = self.retry_after is None or self.retry_after >= 0
        _check("Throttled(retry_after)", self.retry_after, "0 or more seconds", valid)


class Unauthorized(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond with 401 as if the token had expired."""


class NotFoundJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond with 404 as if the job did not exist yet, or no longer."""


class Delay(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond correctly but late; with `acted`, the cloud acts before the delay."""

    seconds: float
    acted: bool = True

    def __post_init__(self) -> None:
        _check("Delay(seconds)", self.seconds, "0 or more seconds", self.seconds >= 0)


class CutBefore(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Close the connection before the cloud acts; the gateway has counted the call."""


class CutAfter(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Close the connection after the cloud has acted, before its response."""


class HalfBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Act, and send only the first part of the response's body, as if it were complete."""

    share: float = 0.5

    def __post_init__(self) -> None:
        _check("HalfBody(share)", self.share, "a share from 0 to below 1", 0 <= self.share < 1)


Garbling = Literal["shuffled", "twice", "nameless", "backwards", "missing"]


class GarbledJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Garble the sub-jobs of a job.

    Attributes:
        how: `shuffled`, in another order; `twice`, some duplicated; `nameless`, some without their server;
            `backwards`, some ended ones as if they were running; `missing`, some left out.
        seed: Chooses the sub-jobs.
        share: The approximate share of the sub-jobs.
    """

    how: tuple[Garbling, ...]
    seed: int = 0
    share: float = 0.5

    def __post_init__(self) -> None:
        known = get_args(Garbling)
        valid = isinstance(self.how, tuple) and set(self.how) <= set(known)
        _check("GarbledJob(how)", self.how, f"a tuple of {', '.join(known)}", valid)
        _check("GarbledJob(share)", self.share, "a share from 0 to 1", 0 <= self.share <= 1)


class ShortPage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Send only the first servers of a page of a list.

    Attributes:
        share: The approximate share of the servers; 0 leaves an empty page.
        counted: Whether the count over all pages is kept, in lists that have it.
        linked: Whether the link to the next page is kept, in lists that have it.
    """

    share: float = 0.0
    counted: bool = True
    linked: bool = True

    def __post_init__(self) -> None:
        _check("ShortPage(share)", self.share, "a share from 0 to below 1", 0 <= self.share < 1)


class DroppedMarker(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Respond with the first page of a list, whichever was requested: a proxy has dropped the marker or offset."""


Fault = (
    Answer
    | Throttled
    | Unauthorized
    | NotFoundJob
    | Delay
    | CutBefore
    | CutAfter
    | HalfBody
    | GarbledJob
    | ShortPage
    | DroppedMarker
)

FaultHook = Callable[[str, int, str], Fault | None]
"""Called with the operation, the number of the call (from 1) and the path; returns a fault, None for none."""


class SimulatedCut(ConnectionError):  # noqa: N818 - an injected event, not an error of the simulator
    """The connection was lost.

    It is raised out of the application. `httpx.ASGITransport` passes it on unchanged, so that a test's transport can
    turn it into the error that a socket would raise. Under uvicorn the client sees the headers of a response and then a
    closed connection.

    Attributes:
        delivered: Whether the cloud had acted before.
    """

    def __init__(self, *, delivered: bool) -> None:
        self.delivered = delivered
        super().__init__(f"simulated cut {'after' if delivered else 'before'} the server acted")


class ScriptedFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault for the `nth` call of an operation, from 1."""

    operation: str
    nth: int
    fault: Fault


class Script:
    """A fault hook that follows a list."""

    __slots__ = ("_faults",)

    def __init__(self, faults: Iterable[ScriptedFault]) -> None:
        self._faults = {(entry.operation, entry.nth): entry.fault for entry in faults}

    def __call__(self, operation: str, nth: int, path: str) -> Fault | None:  # noqa: ARG002 - a hook's argument
        """Return the fault for this call, None without one."""
        return self._faults.get((operation, nth))

    def items(self) -> Iterator[tuple[str, int, Fault]]:
        """Return the entries: operation, number of the call, and fault."""
        return ((operation, nth, fault) for (operation, nth), fault in self._faults.items())


def garble(body: bytes, fault: GarbledJob) -> bytes:
    """Return a job's document, garbled; a body that is not a job with sub-jobs is returned unchanged."""
    document = msgspec.json.decode(body)
    entities = document.get("entities") if isinstance(document, dict) else None
    if not isinstance(entities, dict) or not entities.get("sub_jobs"):
        return body
    rng = random.Random(fault.seed)

    def chosen() -> bool:
        return rng.random() < fault.share

    sub_jobs: list[dict[str, Any]] = entities["sub_jobs"]
    if "missing" in fault.how:
        sub_jobs = [sub for sub in sub_jobs if not chosen()]
    if "nameless" in fault.how:
        sub_jobs = [{**sub, "entities": {}} if chosen() else sub for sub in sub_jobs]
    if "backwards" in fault.how:
        sub_jobs = [_unended(sub) if chosen() else sub for sub in sub_jobs]
    if "twice" in fault.how:
        sub_jobs = sub_jobs + [sub for sub in sub_jobs if chosen()]
    if "shuffled" in fault.how:
        rng.shuffle(sub_jobs)
    return msgspec.json.encode({**document, "entities": {**entities, "sub_jobs": sub_jobs}})


def shorten(body: bytes, fault: ShortPage) -> bytes:
    """Return a page of a list, shortened; a body that is not a page is returned unchanged."""
    document = msgspec.json.decode(body)
    if not isinstance(document, dict) or not isinstance(document.get("servers"), list):
        return body
    servers = document["servers"]
    left_out = {name for name, kept in (("count", fault.counted), ("servers_links", fault.linked)) if not kept}
    shown = {name: value for name, value in document.items() if name not in left_out}
    return msgspec.json.encode({**shown, "servers": servers[: int(len(servers) * fault.share)]})


def _unended(sub: dict[str, Any]) -> dict[str, Any]:
    if sub.get("status") not in {"SUCCESS", "FAIL"}:
        return sub
    return {**sub, "status": "RUNNING", "end_time": None, "error_code": None, "fail_reason": None}


def _check(what: str, value: object, rule: str, valid: bool) -> None:  # noqa: FBT001 - private
    # A fault that cannot happen would make a test that proves nothing.
    if not valid:
        raise ValueError(f"{what}: expected {rule}, got {value!r}")
