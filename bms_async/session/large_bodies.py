"""Reading large answers without holding the event loop.

An answer may have 64 MiB, and its decoder reads it in one turn and keeps the interpreter's lock for as long. Two things
keep that from others. Finding the parts of an answer is fast, builds next to nothing, and is done in a thread. And what
has no model is then decoded part by part, with a turn for others in between. What has a model has its long lists as
parts that are read later, so that it is decoded in the thread as a whole.
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
"""Bytes from which on an answer is read so: one of that size takes some 5 ms, and fewer are not worth a thread."""

_CHUNK_SIZE = 2**18
_MAX_DEPTH = 8
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
_OBJECT, _LIST = b"{", b"["


async def read_large(operation: Operation[T], response: HttpResponse, *, redact: Callable[[str], str]) -> T:
    """Read a large answer, as `read_response` reads any.

    Raises:
        ApiError: The cloud refused.
        DecodeError: The answer is good by its status but cannot be read.
    """
    if operation.result is object and 200 <= response.status < 300:  # noqa: PLR2004 - the HTTP classes are numbers
        try:
            return cast("T", await _decode(response.body))
        except _UNREADABLE:
            # The way below says what is wrong with it.
            pass
    return await run_in_thread(functools.partial(read_response, operation, response, redact=redact))


async def _decode(part: bytes | msgspec.Raw, depth: int = 0) -> Any:
    """Decode JSON without a model in turns of one piece."""
    if len(memoryview(part)) <= _CHUNK_SIZE:
        value = msgspec.json.decode(part)
        await anyio.lowlevel.checkpoint()
        return value
    begins = bytes(memoryview(part)[:_CHUNK_SIZE]).lstrip()[:1]
    if depth >= _MAX_DEPTH or begins not in (_OBJECT, _LIST):
        return await run_in_thread(msgspec.json.decode, part)
    if begins == _OBJECT:
        named = await run_in_thread(_NAMED.decode, part)
        return {name: await _decode(each, depth + 1) for name, each in named.items()}
    items = await run_in_thread(_ITEMS.decode, part)
    whole: list[Any] = []
    several = max(1, _CHUNK_SIZE * len(items) // len(memoryview(part)))
    for place in range(0, len(items), several):
        whole += await _decode_items(items[place : place + several], depth)
    return whole


async def _decode_items(items: list[msgspec.Raw], depth: int) -> list[Any]:
    joined = b"[" + b",".join(items) + b"]"
    if len(joined) <= 2 * _CHUNK_SIZE:
        values: list[Any] = msgspec.json.decode(joined)
        await anyio.lowlevel.checkpoint()
        return values
    return [await _decode(each, depth + 1) for each in items]


_NAMED = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
