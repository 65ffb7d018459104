"""Endpoints and tokens that are wrong: the error says what was called, what came of it, and where to look."""

from __future__ import annotations

import ssl
from types import ModuleType

import pytest

from bms_async import (
    ApiError,
    AuthenticationError,
    BmsClient,
    DecodeError,
    NotFoundError,
    ServerError,
    StaticToken,
    TransportError,
)
from tests.transport._served import served
from tests.transport._transports import make_transport
from tests.transport.loopback import Loopback, answer, answers

PAGE = b"<!doctype html><html><body>Welcome to the intranet</body></html>"


def bms_at(url: str, library: ModuleType, trust: ssl.SSLContext, project_id: str = "p") -> BmsClient:
    transport = make_transport(library, trust)
    return BmsClient(
        endpoint=url, project_id=project_id, auth=StaticToken("a-wrong-token"), transport=transport, retry=None
    )


async def test_a_dead_endpoint_is_named_as_such(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(answer())) as gone:
        address = gone.url
    async with bms_at(address, library, trusting) as bms:
        with pytest.raises(
            TransportError, match=r"^servers\.get: ConnectError.*\(nothing reached the cloud\)$"
        ) as caught:
            await bms.servers.get("s-1")
        assert f"no connection to {address}: are its endpoint and region right" in str(caught.value)
        assert not caught.value.maybe_delivered
        with pytest.raises(TransportError, match=r"^servers\.reboot: .*\(nothing reached the cloud\)$") as caught:
            await bms.servers.reboot(["s-1"])
        assert not caught.value.maybe_done


async def test_https_to_a_server_without_tls_is_a_dead_endpoint(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async def plain(talk: object) -> None:
        pass

    async with Loopback(plain) as server, bms_at(server.secure_url, library, trusting) as bms:
        with pytest.raises(TransportError, match=r"^servers\.get: .*\(nothing reached the cloud\)$"):
            await bms.servers.get("s-1")


async def test_a_page_instead_of_an_answer_points_to_the_endpoint(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    page = answer(200, PAGE, content_type="text/html; charset=utf-8", x_request_id="r-7")
    async with Loopback(answers(page)) as server, bms_at(server.url, library, trusting) as bms:
        with pytest.raises(
            DecodeError, match=r"^servers\.get: answered 200 with an HTML page .*check the endpoint"
        ) as caught:
            await bms.servers.get("s-1")
        assert (caught.value.status, caught.value.request_id) == (200, "r-7")
        assert "intranet" not in str(caught.value)


async def test_a_proxys_page_instead_of_an_error_is_a_server_error(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    page = answer(502, PAGE, content_type="text/html")
    async with Loopback(answers(page)) as server, bms_at(server.url, library, trusting) as bms:
        with pytest.raises(ServerError, match=r"^servers\.get: 502: answered with an HTML page") as caught:
            await bms.servers.get("s-1")
        assert (caught.value.status, caught.value.code) == (502, None)
        assert caught.value.maybe_done
        assert "intranet" not in str(caught.value)


async def test_a_redirecting_endpoint_is_named_as_such(library: ModuleType, trusting: ssl.SSLContext) -> None:
    elsewhere = answer(301, b"", location="https://login.example.com/")
    async with Loopback(answers(elsewhere)) as server, bms_at(server.url, library, trusting) as bms:
        with pytest.raises(ApiError, match=r"^servers\.get: 301: .*check the endpoint") as caught:
            await bms.servers.get("s-1")
        assert not caught.value.maybe_done


async def test_a_wrong_token_is_refused_in_the_gateways_own_words(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with served() as there, bms_at(there.url, library, trusting, there.cloud.settings.project_id) as bms:
        with pytest.raises(AuthenticationError) as caught:
            await bms.servers.get(there.first_id)
    error = caught.value
    assert (error.status, error.operation) == (401, "servers.get")
    assert error.code
    assert error.message
    assert error.request_id
    for part in ("servers.get: 401", error.code, error.message, error.request_id):
        assert part in str(error)


async def test_an_endpoint_with_a_path_too_much_answers_404(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with served() as there:
        url, project_id = f"{there.url}/bms", there.cloud.settings.project_id
        async with bms_at(url, library, trusting, project_id) as bms:
            with pytest.raises(NotFoundError, match=r"^servers\.get: 404 .*/bms/v1/") as caught:
                await bms.servers.get(there.first_id)
            assert caught.value.request_id
