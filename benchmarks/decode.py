"""The CPU of decoding a long response: a page of 1000 servers, and a job with 1000 sub-jobs, ended and running.

All are the reference's own examples with as many servers and sub-jobs, without blanks, as a gateway sends them. The
``end_time`` of what runs is empty, and reading that should not cost more than reading a time. The figure is the least
CPU of many runs, so that it contains nothing but the work itself. ``json.loads`` gives dicts and is a yardstick; the
others give objects with the documented fields, and are left out where they are not installed. The vendor's client is
timed in the function that decodes every response, from the bytes on. The exit status is 1 if a target was missed.

    python -m benchmarks.decode [RUNS]
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import sys
import time
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec
from huaweicloudsdkbms import v1 as vendor

from benchmarks._report import judge, report
from benchmarks._samples import job_document
from bms_async.api.bms import jobs, servers
from bms_async.jobs import PartialPoll, PollReader
from bms_async.models import Job, Server, decode
from bms_async.wire import HttpResponse, read_fragment, read_response
from tests.reference.examples import SERVER_LIST, repair

SERVERS = 1000
RUNS = 300
MIN_RUNS, MAX_SECONDS = 3, 2.0
TARGETS = {"page": 10.0, "job": 20.0, "job poll": 40.0}
"""How many times less CPU than the vendor's client, at least."""
MAX_RUNNING = 1.2
"""How many times an ended job's CPU a running one may take."""


class Reader(NamedTuple):
    """One library that decodes a document."""

    name: str
    read: Callable[[], object]


def page_document() -> bytes:
    """Return a page of the servers that the reference prints (4.3.2), each with an id and a name of its own."""
    shown = json.loads(repair(SERVER_LIST))["servers"]
    listed = [
        {**shown[number % len(shown)], "id": f"53206ed0-56de-4d6b-b7ee-{number:012x}", "name": f"bms-{number:04d}"}
        for number in range(SERVERS)
    ]
    return msgspec.json.encode({"count": SERVERS, "servers": listed})


def read_page(response: HttpResponse) -> list[Server]:
    """Decode a page as `ServerList` does: the envelope, then each server by itself."""
    page = read_response(servers.LIST, response)
    return [read_fragment("servers.list", raw, Server) for raw in page.servers or ()]


def vendor_reader(kind: str) -> Callable[[bytes], object]:
    """Return the function with which the vendor's client decodes every response."""
    client = vendor.BmsClient()

    class VendorResponse:
        """The parts of a response that the function reads."""

        headers: typing.ClassVar[dict[str, str]] = {"Content-Type": "application/json"}

        def __init__(self, text: str) -> None:
            self.text = text

    return lambda body: client.deserialize(VendorResponse(body.decode()), kind, None)


def pydantic_twin(wanted: type[msgspec.Struct], known: dict[type, Any]) -> Any:
    """Return a pydantic model with the fields of one of our models."""
    pydantic = importlib.import_module("pydantic")
    if wanted not in known:
        hints = typing.get_type_hints(wanted, include_extras=True)
        fields: dict[str, Any] = {
            field.name.removeprefix("_"): (
                _twin_type(hints[field.name], known),
                pydantic.Field(... if field.required else None, alias=field.encode_name),
            )
            for field in msgspec.structs.fields(wanted)
        }
        known[wanted] = pydantic.create_model(wanted.__name__, **fields)
    return known[wanted]


def _twin_type(wanted: Any, known: dict[type, Any]) -> Any:
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _twin_type(args[0], known)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_twin_type(arg, known) for arg in args)]  # noqa: UP007 - made of what is in a tuple
    if origin is tuple:
        return tuple[_twin_type(args[0], known), ...]  # type: ignore[misc]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, _twin_type(args[1], known)]  # type: ignore[misc]
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return pydantic_twin(wanted, known)
    # pydantic has no open enum; its replacement costs pydantic less.
    plain: dict[type, type] = {IntEnum: int, Enum: str, datetime: datetime}
    return next((twin for kind, twin in plain.items() if isinstance(wanted, type) and issubclass(wanted, kind)), wanted)


def readers_of_page(body: bytes) -> list[Reader]:
    """Return all readers of the page, ours first and the vendor's second."""
    response = HttpResponse(status=200, body=body)
    by_vendor = vendor_reader("ListBareMetalServersResponse")
    readers = [
        Reader("bms_async", lambda: read_page(response)),
        Reader("huaweicloudsdkcore", lambda: by_vendor(body)),
        Reader("json.loads", lambda: json.loads(body)),
    ]
    if importlib.util.find_spec("pydantic"):
        pydantic = importlib.import_module("pydantic")
        twin = pydantic_twin(Server, {})
        page = pydantic.create_model("Page", count=(int | None, None), servers=(list[twin], ...))  # type: ignore[valid-type]
        readers.append(Reader("pydantic", lambda: page.model_validate_json(body)))
    if importlib.util.find_spec("openstack"):
        theirs = importlib.import_module("openstack.compute.v2.server").Server
        readers.append(
            Reader("openstacksdk", lambda: [theirs.existing(**each) for each in json.loads(body)["servers"]])
        )
    return readers


def readers_of_job(body: bytes) -> list[Reader]:
    """Return all readers of the job, ours first and the vendor's second."""
    response = HttpResponse(status=200, body=body)
    by_vendor = vendor_reader("ShowJobInfosResponse")
    readers = [
        Reader("bms_async", lambda: read_response(jobs.GET, response)),
        Reader("huaweicloudsdkcore", lambda: by_vendor(body)),
        Reader("json.loads", lambda: json.loads(body)),
    ]
    if importlib.util.find_spec("pydantic"):
        twin = pydantic_twin(Job, {})
        readers.append(Reader("pydantic", lambda: twin.model_validate_json(body)))
    return readers


def readers_of_poll(body: bytes) -> list[Reader]:
    """Return the readers of a poll such as the one before; the vendor's client has to decode the whole job."""
    known = PollReader().read(body, lambda shown: decode(shown, Job))
    assert isinstance(known, PartialPoll)
    reader = PollReader(known.keep(known.changed))
    by_vendor = vendor_reader("ShowJobInfosResponse")
    return [
        # A copy, since bytes remember their hash.
        Reader("bms_async", lambda: reader.read(bytes(bytearray(body)), lambda shown: decode(shown, Job))),
        Reader("huaweicloudsdkcore", lambda: by_vendor(body)),
    ]


def cost_of(read: Callable[[], object], runs: int) -> float:
    """Return the least CPU of all runs, in milliseconds."""
    gc.collect()
    taken: list[float] = []
    # The slowest reader takes seconds, and a few runs are enough. The quickest needs many to find a quiet moment.
    while len(taken) < runs and (len(taken) < MIN_RUNS or sum(taken) < MAX_SECONDS):
        begun = time.process_time()
        kept = read()
        taken.append(time.process_time() - begun)
        del kept
    return 1000 * min(taken)


def main(runs: int = RUNS) -> int:
    """Measure, print and save; return the exit status."""
    page, ended, running = page_document(), job_document(SERVERS, running=False), job_document(SERVERS, running=True)
    rows: list[dict[str, object]] = []
    targets, mine = {}, {}
    for name, body, readers in (
        ("page", page, readers_of_page(page)),
        ("job", ended, readers_of_job(ended)),
        # pydantic refuses an empty time.
        ("running job", running, [each for each in readers_of_job(running) if each.name != "pydantic"]),
        ("job poll", ended, readers_of_poll(ended)),
    ):
        costs = {reader.name: cost_of(reader.read, runs) for reader in readers}
        mine[name] = ours = costs["bms_async"]
        rows += [
            {"document": name, "KB": len(body) // 1000, "read by": by, "CPU ms": cost, "times ours": cost / ours}
            for by, cost in costs.items()
        ]
        if name in TARGETS:
            times, least = costs["huaweicloudsdkcore"] / ours, TARGETS[name]
            targets[f"{name}: {times:.1f} times less CPU than the vendor's client, at least {least:g}"] = times >= least
    report("decode", rows)
    more = mine["running job"] / mine["job"]
    targets[f"a running job: {more:.2f} times the CPU of an ended one, at most {MAX_RUNNING:g}"] = more <= MAX_RUNNING
    return judge(targets)


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
