"""An answer is bounded, as it comes and as it unpacks, and one that is too large costs one try and no memory."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from types import ModuleType

import pytest

from bms_async import BmsClient, ConfigurationError, HttpRequest, Limits, ResponseTooLargeError, StaticToken
from bms_async.transport._decompress import CHUNK_SIZE
from tests.transport._transports import make_transport
from tests.transport.loopback import Behaviour, Loopback, Talk, answer, answers

BOUND = 100_000


def a_server(size: int) -> bytes:
    """Write the document of a server in so many bytes."""
    document = b'{"server": {"id": "s-1", "name": "%s"}}'
    return document % (b"x" * (size - len(document) + 2))


def a_client(server: Loopback, library: ModuleType, trust: ssl.SSLContext) -> BmsClient:
    transport = make_transport(library, trust, max_response_bytes=BOUND)
    return BmsClient(
        endpoint=server.url, project_id="p", auth=StaticToken("t"), transport=transport, limits=Limits.unlimited()
    )


async def test_an_answer_of_just_the_bound_is_taken(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(answer(body=a_server(BOUND)))) as server, a_client(server, library, trusting) as bms:
        assert len((await bms.servers.get("s-1")).name or "") > BOUND - 100


def without_length(body: bytes) -> Behaviour:
    """Send a body that ends with its connection, so that its length is unknown until then."""

    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        await talk.say(body)

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(answers(answer(body=a_server(BOUND + 1))), id="one byte too many"),
        pytest.param(without_length(a_server(3 * BOUND)), id="of unknown length"),
        pytest.param(
            answers(answer(body=gzip.compress(a_server(200 * BOUND)), content_encoding="gzip")), id="a gzip bomb"
        ),
    ],
)
async def test_an_answer_above_the_bound_is_an_error_that_says_so_after_one_try(
    behaviour: Behaviour, library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(behaviour) as server, a_client(server, library, trusting) as bms:
        with pytest.raises(
            ResponseTooLargeError, match=f"at most {BOUND} bytes, got a larger response.*max_response_bytes"
        ) as caught:
            await bms.servers.get("s-1")

    assert (caught.value.operation, caught.value.status, caught.value.limit) == ("servers.get", 200, BOUND)
    assert len(server.heard) == 1


async def test_r9_an_answer_that_unpacks_to_a_hundred_times_its_size_does_so_in_many_turns(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    packed = gzip.compress(b"\0" * 64 * CHUNK_SIZE)
    behaviour = answers(answer(body=packed, content_encoding="gzip"))
    async with Loopback(behaviour) as server, make_transport(library, trusting) as transport:
        request = HttpRequest(operation="servers.get", method="GET", url=server.url, headers={})
        ticker = asyncio.create_task(tick())
        response = await transport.send(request)
        before = turns
        await transport.send(request)
        ticker.cancel()
    assert response.body == b"\0" * 64 * CHUNK_SIZE
    # Others had a turn after each piece.
    assert turns - before >= 64


async def test_the_next_call_works_after_an_answer_that_was_too_large(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    turns = iter([answer(body=a_server(BOUND + 1)), answer(body=a_server(90))])

    async def behave(talk: Talk) -> None:
        # A session of aiohttp keeps the connection if it has received the whole answer by then.
        while await talk.hear() is not None:
            await talk.say(next(turns))

    async with Loopback(behave) as server, a_client(server, library, trusting) as bms:
        with pytest.raises(ResponseTooLargeError):
            await bms.servers.get("s-1")
        assert (await bms.servers.get("s-1")).id == "s-1"


@pytest.mark.parametrize("bound", [0, -1, 2.5, True, "64"])
def test_a_bound_that_is_no_number_of_bytes_is_refused(bound: object) -> None:
    with pytest.raises(ConfigurationError, match="max_response_bytes="):
        BmsClient(
            endpoint="https://bms.example.com",
            project_id="p",
            auth=StaticToken("t"),
            max_response_bytes=bound,  # type: ignore[arg-type]
        )
