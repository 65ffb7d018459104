"""What can go wrong between a client and the cloud, told to the simulator call by call."""

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
    """Answer this instead: a 500, a proxy's HTML, half a JSON body.

    Attributes:
        status: The HTTP status, from 200 to 599.
        body: The bytes as they stand.
        headers: Over the ones that an answer has anyway.
        acted: Do what was asked all the same, and only then answer this.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    acted: bool = False

    def __post_init__(self) -> None:
        _check("Answer(status)", self.status, "an HTTP status from 200 to 599", self.status in range(200, 600))


class Throttled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer 429 as if others had used the budget up; `retry_after` seconds go into the header."""

    retry_after: int | None = None

    def __post_init__(self) -> None:
        good = self.retry_after is None or self.retry_after >= 0
        _check("Throttled(retry_after)", self.retry_after, "0 or more seconds", good)


class Unauthorized(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer 401 as if the token had run out."""


class NotFoundJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer 404 as if the job were not there yet, or no more."""


class Delay(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer rightly but late; `acted` says that the server does its work before the wait."""

    seconds: float
    acted: bool = True

    def __post_init__(self) -> None:
        _check("Delay(seconds)", self.seconds, "0 or more", self.seconds >= 0)


class CutBefore(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Lose the connection before the server does anything (the gateway has counted the call)."""


class CutAfter(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Lose the connection after the server has done its work, before its answer."""


class HalfBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Do what was asked, and answer the first part of what there is to say, as if that were all."""

    share: float = 0.5

    def __post_init__(self) -> None:
        _check("HalfBody(share)", self.share, "from 0 to below 1", 0 <= self.share < 1)


Garbling = Literal["shuffled", "twice", "nameless", "backwards", "missing"]


class GarbledJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell a job's sub-jobs as no client would like them.

    Attributes:
        how: `shuffled`, in another order; `twice`, some of them two times; `nameless`, some without their server;
            `backwards`, some that have ended as if they had not; `missing`, some not at all.
        seed: Which of them.
        share: How many of them, about.
    """

    how: tuple[Garbling, ...]
    seed: int = 0
    share: float = 0.5

    def __post_init__(self) -> None:
        known = get_args(Garbling)
        good = isinstance(self.how, tuple) and set(self.how) <= set(known)
        _check("GarbledJob(how)", self.how, f"a tuple of {', '.join(known)}", good)
        _check("GarbledJob(share)", self.share, "from 0 to 1", 0 <= self.share <= 1)


class ShortPage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Show only the first servers of a page of a list.

    Attributes:
        share: How many of them, about; 0 leaves an empty page.
        counted: Say all the same how many there are on all pages, where the list says so.
        linked: Link all the same to the next page, where the list does so.
    """

    share: float = 0.0
    counted: bool = True
    linked: bool = True

    def __post_init__(self) -> None:
        _check("ShortPage(share)", self.share, "from 0 to below 1", 0 <= self.share < 1)


class DroppedMarker(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer with the first page of a list, whichever was asked for: a proxy has dropped the marker, or the offset."""


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
"""Called with the operation, which call of it this is (from 1) and the path; None lets it be."""


class SimulatedCut(ConnectionError):  # noqa: N818 - what happens is a cut, and no part of the simulator failed
    """The connection was lost.

    It is raised out of the application. `httpx.ASGITransport` passes it on as it is, so a test's
    transport can turn it into the error that a socket would give. Under uvicorn the client sees the
    head of an answer and then a closed connection.

    Attributes:
        delivered: Whether the server had done its work before.
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
    """A hook that follows a list."""

    __slots__ = ("_faults",)

    def __init__(self, faults: Iterable[ScriptedFault]) -> None:
        self._faults = {(each.operation, each.nth): each.fault for each in faults}

    def __call__(self, operation: str, nth: int, path: str) -> Fault | None:  # noqa: ARG002 - a hook's argument
        """The fault for this call, if the list has one."""
        return self._faults.get((operation, nth))

    def items(self) -> Iterator[tuple[str, int, Fault]]:
        """The list: operation, which call of it, and the fault."""
        return ((operation, nth, fault) for (operation, nth), fault in self._faults.items())


def garble(body: bytes, fault: GarbledJob) -> bytes:
    """A job's document as a garbled one tells it; what is no job with sub-jobs stays as it is."""
    document = msgspec.json.decode(body)
    entities = document.get("entities") if isinstance(document, dict) else None
    if not isinstance(entities, dict) or not entities.get("sub_jobs"):
        return body
    rng = random.Random(fault.seed)

    def chosen() -> bool:
        return rng.random() < fault.share

    told: list[dict[str, Any]] = entities["sub_jobs"]
    if "missing" in fault.how:
        told = [sub for sub in told if not chosen()]
    if "nameless" in fault.how:
        told = [{**sub, "entities": {}} if chosen() else sub for sub in told]
    if "backwards" in fault.how:
        told = [_unended(sub) if chosen() else sub for sub in told]
    if "twice" in fault.how:
        told = told + [sub for sub in told if chosen()]
    if "shuffled" in fault.how:
        rng.shuffle(told)
    return msgspec.json.encode({**document, "entities": {**entities, "sub_jobs": told}})


def shorten(body: bytes, fault: ShortPage) -> bytes:
    """A list's page as a short one tells it; what is no page stays as it is."""
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


def _check(what: str, value: object, rule: str, good: bool) -> None:  # noqa: FBT001 - private
    # A fault that cannot go wrong as it says would make a test that proves nothing.
    if not good:
        raise ValueError(f"{what}: {value!r} is given, and {rule} is needed")
