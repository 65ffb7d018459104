"""What a client costs above its transport, slice by slice, in a process that another one is compared with.

    python -P benchmarks/_above.py SUBJECT_AS_JSON

Each line of the input is a number of calls, and the answer to it is the seconds of CPU that they took. The transport
has answered before it returns, from memory. Whichever checkout of bms_async comes first in ``PYTHONPATH`` is measured;
so this file imports nothing of its own folder, and knows the names that a checkout may still have.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import bms_async.transport
from bms_async import AkSkAuth, BmsClient, HttpRequest, HttpResponse, Limits, StaticToken

_IS_OLD = not hasattr(bms_async.transport, "PendingRequest")
_PENDING, _FUTURE, _END = ("Flight", "answer", "end") if _IS_OLD else ("PendingRequest", "response", "finish")


class AtOnce:
    """A transport that has answered before it returns."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._make = getattr(bms_async.transport, _PENDING)

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the response."""
        response: HttpResponse = await self.submit(request).wait()
        return response

    def submit(self, request: HttpRequest) -> Any:
        """Return a request that has its response."""
        pending = self._make(request)
        pending.sent = True
        getattr(pending, _FUTURE).set_result(self._response)
        getattr(pending, _END)()
        return pending


async def measure(subject: dict[str, Any]) -> None:
    """Measure a slice for each line of the input."""
    headers = [(name, value) for name, value in subject["headers"]]
    response = HttpResponse(status=200, headers=headers, body=subject["body"].encode())
    keys = subject["keys"]
    client = BmsClient(
        endpoint="http://localhost",
        project_id=subject["project"],
        auth=AkSkAuth(*keys) if keys else StaticToken(subject["token"]),
        transport=AtOnce(response),
        limits=Limits({"jobs.get": 1_000_000_000}),
    )
    async with client as bms:
        # Reading it blocks the loop, on which nothing else happens.
        for line in sys.stdin:
            gc.collect()
            begun = time.process_time()
            for _ in range(int(line)):
                await bms.jobs.get(subject["job"])
            print(time.process_time() - begun, flush=True)


if __name__ == "__main__":
    asyncio.run(measure(json.loads(sys.argv[1])))
