"""R9: a large answer is read like any other, and the event loop is not held for it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import msgspec
import pytest

from bms_async import ApiError, BmsClient, DecodeError, HttpRequest, HttpResponse, StaticToken
from bms_async.session.large_bodies import LARGE
from bms_async.wire import read_response

ROW = {"id": "0123456789abcdef", "name": 'ünï "quoted" \\ {[,]}', "n": -1.5e3, "none": None, "deep": {"a": [[], {}]}}
MANY = [{**ROW, "number": number} for number in range(12_000)]

SHAPES: dict[str, Any] = {
    "a list in a mapping": {"rows": MANY, "count": len(MANY)},
    "a list": MANY,
    "a mapping of mappings": {f"key-{number}": row for number, row in enumerate(MANY)},
    "lists in lists": [[MANY, [MANY[:10]]], {"more": {"and": MANY}}],
    "one long text": {"log": "x" * (2 * LARGE), "also": [1]},
    "one long text among short ones": ["a", "b" * (2 * LARGE), *["c"] * 1000],
    "numbers": [number / 3 for number in range(200_000)],
    "nested deeply": json.loads("[" * 60 + json.dumps("x" * (2 * LARGE)) + "]" * 60),
}


class Answers:
    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    async def send(self, request: HttpRequest) -> HttpResponse:
        return self._response


def bms_with(body: bytes, status: int = 200) -> BmsClient:
    response = HttpResponse(status=status, headers=(("Content-Type", "application/json"),), body=body)
    return BmsClient(
        endpoint="http://localhost", project_id="p", auth=StaticToken("t"), transport=Answers(response), retry=None
    )


@pytest.mark.parametrize("value", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("indent", [None, 1], ids=["tight", "with blanks"])
async def test_a_large_answer_is_what_the_cloud_sent(value: Any, indent: int | None) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=indent is None).encode()
    assert len(body) > LARGE
    async with bms_with(b" \n" + body + b"\n") as bms:
        assert await bms.request("GET", "/v1/{project_id}/anything") == value


async def test_r9_no_turn_of_the_loop_decodes_more_than_a_piece_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, loop = msgspec.json.decode, threading.current_thread()
    on_the_loop: list[int] = []

    def watched(part: Any, **options: Any) -> Any:
        if threading.current_thread() is loop:
            on_the_loop.append(len(memoryview(part)))
        return decode(part, **options)

    monkeypatch.setattr(msgspec.json, "decode", watched)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    body = json.dumps(SHAPES["a list in a mapping"]).encode()
    async with bms_with(body) as bms:
        ticker = asyncio.create_task(tick())
        await bms.request("GET", "/v1/{project_id}/anything")
        ticker.cancel()
    assert sum(on_the_loop) >= len(body) * 0.9
    assert max(on_the_loop) <= LARGE // 2
    assert turns >= len(on_the_loop)


async def test_r9_a_large_answer_with_a_model_and_a_large_refusal_are_read_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []

    def watched(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return read_response(*args, **options)

    monkeypatch.setattr("bms_async.session.large_bodies.read_response", watched)
    padding = "x" * (2 * LARGE)
    async with bms_with(json.dumps({"server": {"id": "s-1", "name": "n", "padding": padding}}).encode()) as bms:
        assert (await bms.servers.get("s-1")).id == "s-1"
    async with bms_with(json.dumps({"error_code": "BMS.0001", "error_msg": "no", "x": padding}).encode(), 400) as bms:
        with pytest.raises(ApiError, match=r"BMS\.0001"):
            await bms.servers.get("s-1")
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "broken",
    [b"]", b'{"rows": [1, 2', b"[1,,2]", b'{"a": tru}', b'["\xff"]', b"[" * 2000],
    ids=["an end alone", "cut off", "two commas", "no word", "no UTF-8", "nested without end"],
)
async def test_a_large_answer_that_is_no_json_is_a_decode_error(broken: bytes) -> None:
    async with bms_with(broken + b" " * (2 * LARGE)) as bms:
        with pytest.raises(DecodeError, match="cannot be read"):
            await bms.request("GET", "/v1/{project_id}/anything")


async def test_a_large_list_with_a_broken_item_is_a_decode_error() -> None:
    body = json.dumps(MANY).encode()[:-1] + b', {"n": 01}]'
    async with bms_with(body) as bms:
        with pytest.raises(DecodeError, match="cannot be read"):
            await bms.request("GET", "/v1/{project_id}/anything")
