"""Reading large responses without holding the event loop (R9).

A response may have 64 MiB, and its decoder holds the loop, and the interpreter's lock, until it is done. There are two
ways out. Splitting a body into its raw parts is fast, builds next to nothing, and is done in a thread; a body without a
model is then decoded part by part, with a yield to the loop in between. A body with a model is decoded in the thread as
a whole, for its long lists are raw parts already, which are decoded later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import anyio.lowlevel
import msgspec

from bms_async._threads import run_in_thread
from bms_async.wire import HttpResponse, Operation, read_response

T = TypeVar("T")

LARGE = 2**20
"""Bytes from which on a body is read in this way: decoding that many takes some 5 ms, and fewer are not worth a thread.
"""

_CHUNK_SIZE = 2**18
_MAX_DEPTH = 8
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
_OBJECT, _LIST = b"{", b"["


async def read_large(operation: Operation[T], response: HttpResponse, *, redact: Callable[[str], str]) -> T:
    """Read a large response with the same result as `read_response`.

    Raises:
        ApiError: The cloud refused.
        DecodeError: The response is a success by its status but cannot be read.
    """
    if operation.result is object and 200 <= response.status < 300:  # noqa: PLR2004 - the HTTP classes are numbers
        try:
            return cast("T", await _decode(response.body))
        except _UNREADABLE:
            # Read again below, for the error that says what is wrong with it.
            pass
    return await run_in_thread(functools.partial(read_response, operation, response, redact=redact))


async def _decode(part: bytes | msgspec.Raw, depth: int = 0) -> Any:
    """Decode JSON without a model, one chunk between two yields to the loop."""
    if len(memoryview(part)) <= _CHUNK_SIZE:
        value = msgspec.json.decode(part)
        await anyio.lowlevel.checkpoint()
        return value
    opening = bytes(memoryview(part)[:_CHUNK_SIZE]).lstrip()[:1]
    if depth >= _MAX_DEPTH or opening not in (_OBJECT, _LIST):
        return await run_in_thread(msgspec.json.decode, part)
    if opening == _OBJECT:
        members = await run_in_thread(_MEMBERS.decode, part)
        return {name: await _decode(value, depth + 1) for name, value in members.items()}
    items = await run_in_thread(_ITEMS.decode, part)
    decoded: list[Any] = []
    count = max(1, _CHUNK_SIZE * len(items) // len(memoryview(part)))
    for start in range(0, len(items), count):
        decoded += await _decode_items(items[start : start + count], depth)
    return decoded


async def _decode_items(items: list[msgspec.Raw], depth: int) -> list[Any]:
    joined = b"[" + b",".join(items) + b"]"
    if len(joined) <= 2 * _CHUNK_SIZE:
        values: list[Any] = msgspec.json.decode(joined)
        await anyio.lowlevel.checkpoint()
        return values
    return [await _decode(item, depth + 1) for item in items]


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
