"""Passwords, private keys and injected data are in no repr and in no error (R5)."""

from __future__ import annotations

import traceback
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from bms_async import BadRequestError, BmsClient, CallError, InvalidRequestError, Network
from tests.api.nova._helpers import NOVA, SERVERS
from tests.support.mocked import mocked

SECRET = "Hunter2-hunter2"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n" + "A" * 1200
GOOD: dict[str, Any] = {
    "name": "b",
    "image": "i",
    "flavor": "f",
    "availability_zone": "z",
    "networks": [Network(uuid="n-1")],
}


async def test_what_is_told_once_is_in_no_repr() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(json={"server": {"id": "a", "adminPass": SECRET}})
        cloud.post(f"{NOVA}/os-keypairs").respond(json={"keypair": {"name": "k", "private_key": SECRET}})

        created = await bms.nova.servers.create(**GOOD)
        pair = await bms.nova.keypairs.create("k")

        assert (created.admin_password, pair.private_key) == (SECRET, SECRET)
        for made in (created, pair):
            assert SECRET not in repr(made)
            assert SECRET not in str(made)
            assert SECRET not in str(made.__rich_repr__())
            assert "***" in repr(made)


@pytest.mark.parametrize(
    "make",
    [
        lambda bms: bms.nova.servers.create(**{**GOOD, "admin_password": SECRET * 3}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "metadata": {"admin_pass": SECRET * 30}}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "metadata": {"admin_pass": SECRET + "\ud800"}}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "user_data": SECRET * 3000}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "user_data": SECRET + "\ud800"}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "user_data": [SECRET]}),
        lambda bms: bms.nova.metadata.update("a", {"admin_pass": SECRET + '"'}),
        lambda bms: bms.nova.metadata.set("a", "admin_pass", SECRET + "\\"),
        lambda bms: bms.nova.keypairs.import_key("k", PEM),
    ],
)
async def test_a_refused_secret_is_not_in_the_error(make: Callable[[BmsClient], Awaitable[object]]) -> None:
    async with mocked() as (bms, _):
        with pytest.raises(InvalidRequestError) as caught:
            await make(bms)
        error = caught.value
        assert SECRET not in str(error) + repr(vars(error)) + repr(error.args)
        assert error.__cause__ is None
        assert SECRET not in "".join(traceback.format_exception_only(error))


@pytest.mark.parametrize(
    "make",
    [
        lambda bms: bms.nova.servers.create(**{**GOOD, "admin_password": SECRET}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "metadata": {"admin_pass": SECRET}}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "user_data": SECRET}),
        lambda bms: bms.nova.servers.create(**{**GOOD, "user_data": SECRET.encode()}),
        lambda bms: bms.nova.metadata.update("a", {"admin_pass": SECRET}),
        lambda bms: bms.nova.metadata.set("a", "admin_pass", SECRET),
    ],
)
async def test_a_secret_that_the_cloud_echoes_is_not_in_the_error(
    make: Callable[[BmsClient], Awaitable[object]],
) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"badRequest": {"code": 400, "message": f"what is {request.content!r}?"}})

    async with mocked() as (bms, cloud):
        cloud.route().mock(side_effect=echo)
        with pytest.raises(BadRequestError, match="what is ") as caught:
            await make(bms)
        shown = str(caught.value) + repr(vars(caught.value))
        assert SECRET not in shown
        assert b64encode(SECRET.encode()).decode() not in shown


async def test_a_private_key_is_refused_also_without_checks() -> None:
    async with mocked(check=False) as (bms, cloud):
        with pytest.raises(InvalidRequestError, match="expected the public key, got a private key"):
            await bms.nova.keypairs.import_key("k", PEM)
        assert not cloud.calls


async def test_an_answer_that_cannot_be_read_does_not_show_the_secret_in_it() -> None:
    async with mocked(retry=None) as (bms, cloud):
        cloud.post(f"{NOVA}/os-keypairs").respond(json={"keypair": {"private_key": SECRET}})
        with pytest.raises(CallError) as caught:
            await bms.nova.keypairs.create("k")
        assert SECRET not in str(caught.value) + repr(vars(caught.value)) + str(caught.value.__cause__)


def test_the_arguments_together_show_nothing_but_the_name() -> None:
    from bms_async.api.nova.creation import NewServer

    new = NewServer(
        **GOOD, key_name=None, admin_password=SECRET, metadata={"a": SECRET}, user_data=SECRET, security_groups=()
    )
    assert repr(new) == "<NewServer>"
    assert new.__rich_repr__() == [("name", "b")]
