"""R5, and yet the frames of an error are whole: a debugger finds every variable, and no secret among them."""

from __future__ import annotations

import traceback
from types import FrameType

import pytest

from bms_async import BmsError, HttpRequest
from bms_async.redaction import SecretBytes, SecretStr
from tests.secrets._search import Eye, watching
from tests.secrets.calls import CALLS
from tests.secrets.clouds import CREDENTIALS, Cloud, client_of
from tests.secrets.failures import FAILURES


def frames_of(error: BaseException) -> dict[str, FrameType]:
    return {frame.f_code.co_name: frame for frame, _ in traceback.walk_tb(error.__traceback__)}


@pytest.mark.parametrize("credentials", CREDENTIALS)
async def test_r5_an_error_keeps_the_variables_of_every_frame(credentials: str) -> None:
    with watching() as eye:
        cloud = Cloud(eye, FAILURES["400 that echoes once read"])
        cloud.carries = ("RESET",)
        async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
            with pytest.raises(BmsError) as caught:
                await CALLS["servers.reset_password"].make(bms)
            frames = frames_of(caught.value)
            outer, inner = frames["reset_password"].f_locals, frames["read_response"].f_locals
            assert outer["self"] is bms.servers
            assert isinstance(outer["new_password"], SecretStr)
            assert inner["operation"].name == "servers.reset_password"
            assert isinstance(inner["response"].body, SecretBytes)
            request = frames["run"].f_locals["self"]._pending.request
            assert isinstance(request, HttpRequest)
            assert isinstance(request.body, SecretBytes)
            assert all(
                isinstance(request.headers.get(name, SecretStr()), SecretStr)
                for name in ("X-Auth-Token", "Authorization", "X-Security-Token")
            )
            eye.look_at_error("error", caught.value)
    assert eye.found == {}


async def test_a_refused_argument_leaves_its_frames_whole_too() -> None:
    async with client_of(Eye(), Cloud(Eye(), FAILURES["400 with nothing"]), CREDENTIALS["a token"]()) as bms:
        with pytest.raises(BmsError) as caught:
            await bms.servers.reset_password("a/b", "password")
    found = frames_of(caught.value)["reset_password"].f_locals
    assert found["server_id"] == "a/b"
    assert repr(found["new_password"]) == "'***'"
