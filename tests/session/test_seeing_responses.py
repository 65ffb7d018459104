"""A call shows each of its responses as it arrived, to whoever asks for that."""

from __future__ import annotations

import httpx
import pytest

from bms_async import NotFoundError, RetryPolicy
from bms_async.api.bms.servers import GET
from tests.support.mocked import ENDPOINT, PROJECT, SERVER_ID, mocked


async def test_every_response_is_shown_whatever_becomes_of_it() -> None:
    async with mocked(retry=RetryPolicy(initial_delay=0.0)) as (bms, cloud):
        responses = iter([httpx.Response(503, headers={"Date": "a"}), httpx.Response(404, headers={"Date": "b"})])
        cloud.get(f"{ENDPOINT}/v1/{PROJECT}/baremetalservers/{SERVER_ID}").mock(side_effect=responses)
        seen: list[tuple[int, str | None]] = []
        with pytest.raises(NotFoundError):
            await bms._session.call(
                GET,
                path={"server_id": SERVER_ID},
                on_response=lambda response: seen.append((response.status, response.header("Date"))),
            )
        assert seen == [(503, "a"), (404, "b")]
