"""What another reading of the reference found: secrets in errors and reprs, and rules too few or too many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from bms_async import (
    BadRequestError,
    BmsClient,
    InvalidRequestError,
    Job,
    Network,
    Server,
    StaticToken,
    SubJob,
    explain,
)
from bms_async.models import decode
from bms_async.validation.text import check_metadata, check_password
from tests.support.mocked import mocked, sent

SECRET = "Hunter2-hunter2"
PEM = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}"
PPK = f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{SECRET}"
NEW: dict[str, Any] = {
    "name": "b",
    "image": "i",
    "flavor": "f",
    "availability_zone": "z",
    "networks": [Network(uuid="n-1")],
}


@pytest.mark.parametrize(
    "make",
    [
        lambda bms: bms.servers.update_metadata("a", {"admin_pass": SECRET}),
        lambda bms: bms.servers.reinstall_os("a", user_data=SECRET),
        lambda bms: bms.servers.reinstall_os("a", user_data=SECRET.encode()),
        lambda bms: bms.nova.servers.create(**NEW, user_data=SECRET.encode()),
    ],
)
async def test_a_secret_that_the_cloud_repeats_is_not_in_the_error(
    make: Callable[[BmsClient], Awaitable[object]],
) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(url__regex=".*").mock(
            return_value=httpx.Response(400, json={"error": {"code": "BMS.0018", "message": f"bad: {SECRET}"}})
        )
        with pytest.raises(BadRequestError) as caught:
            await make(bms)
        assert SECRET not in str(caught.value)
        assert caught.value.message == "bad: ***"


@pytest.mark.parametrize("key", [PEM, PEM.encode(), PPK, PPK.encode(), bytearray(PEM.encode())])
async def test_a_private_key_is_neither_sent_nor_told_whatever_its_type(key: Any) -> None:
    for check in (True, False):
        async with mocked(check=check) as (bms, cloud):
            with pytest.raises(InvalidRequestError) as caught:
                await bms.nova.keypairs.import_key("k", key)
            assert SECRET not in str(caught.value)
            assert SECRET not in repr(caught.value.value)
            assert sent(cloud) == []


async def test_a_microversion_is_no_way_to_another_header() -> None:
    async with mocked(check=False) as (bms, cloud):
        with pytest.raises(InvalidRequestError, match="microversion"):
            await bms.nova.servers.get("a", microversion="2.26\r\nX-Evil: 1")
        assert sent(cloud) == []


def test_the_password_in_a_servers_metadata_is_in_no_repr() -> None:
    server = decode(b'{"id":"a","metadata":{"admin_pass":"Hunter2-hunter2","os_type":"Windows"}}', Server)
    assert server.metadata["admin_pass"] == SECRET
    assert SECRET not in repr(server)
    assert SECRET not in str(server.__rich_repr__())
    assert "'os_type': 'Windows'" in repr(server)


def test_the_server_groups_of_a_server_are_told() -> None:
    server = decode(b'{"id":"a","os:scheduler_hints":{"group":["g-1"],"dec_baremetal":["share"]}}', Server)
    assert server.scheduler_hints is not None
    assert (server.scheduler_hints.group, server.scheduler_hints.dec_baremetal) == (("g-1",), ("share",))


@pytest.mark.parametrize("password", ["Pass#Adm9", "9!xxxMINxx", "Zx9!ator99", "Zx9!STRat"])
async def test_a_windows_password_has_no_three_characters_in_a_row_of_the_accounts_name(password: str) -> None:
    assert check_password("p", password) == password
    with pytest.raises(InvalidRequestError, match="Windows"):
        check_password("p", password, windows=True)
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await bms.nova.servers.create(**NEW, admin_password=password)
        assert password not in str(caught.value)
        assert sent(cloud) == []


@pytest.mark.parametrize("password", ["Zx9!adxmixor", "Zx9!rdasxx"])
def test_two_characters_in_a_row_are_allowed(password: str) -> None:
    assert check_password("p", password, windows=True) == password


def test_metadata_of_the_bms_call_follows_its_own_table_and_not_novas() -> None:
    values = {"a.b:c-d_e": '{"a": "\\\\"}', "é": ""}
    assert check_metadata("metadata", values) == values
    for key in ("a b", "a/b", "", "x" * 256):
        with pytest.raises(InvalidRequestError):
            check_metadata("metadata", {key: "v"})


@pytest.mark.parametrize("kind", [Job, SubJob])
@pytest.mark.parametrize("field", ["error_code", "code"])
def test_a_failed_job_tells_what_its_code_means_and_what_to_do(kind: type[Job | SubJob], field: str) -> None:
    failed = decode(f'{{"job_id":"j","status":"FAIL","{field}":"BMS.0036"}}'.encode(), kind)
    documented = explain("BMS.0036")
    assert documented is not None
    assert (failed.meaning, failed.measure) == (documented.meaning, documented.measure)
    for text in (b'{"job_id":"j"}', b'{"job_id":"j","error_code":"BMS.9999"}', b'{"job_id":"j","code":""}'):
        unknown = decode(text, kind)
        assert (unknown.meaning, unknown.measure) == (None, None)


@pytest.mark.parametrize("name", ["flavor", "name", "reservation_id"])
def test_a_blank_filter_is_refused_and_not_left_out(name: str) -> None:
    bms = BmsClient(endpoint="https://bms.example.com", project_id="p", auth=StaticToken("t"))
    asks: tuple[Callable[..., object], ...] = (bms.nova.servers.list, bms.nova.servers.list_details)
    for ask in asks:
        with pytest.raises(InvalidRequestError, match=name):
            ask(**{name: " "})


async def test_a_page_of_servers_that_came_before_does_not_end_the_list() -> None:
    pages = {None: ["a", "b"], "b": ["c", "d"], "d": ["b", "a"], "a": ["e"], "e": []}

    def answer(request: httpx.Request) -> httpx.Response:
        found = pages[request.url.params.get("marker")]
        return httpx.Response(200, json={"servers": [{"id": each} for each in found]})

    async with mocked() as (bms, cloud):
        cloud.get(url__regex=r".*/servers\?.*").mock(side_effect=answer)
        assert [each.id async for each in bms.nova.servers.list(limit=2)] == ["a", "b", "c", "d", "e"]
