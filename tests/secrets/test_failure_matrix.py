"""R5: whatever credentials are used, whatever is asked for and however it fails, no secret shows anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from bms_async import BmsError
from tests.secrets._search import Eye, watching
from tests.secrets.calls import CALLS, Call, other_shape, wrong_type
from tests.secrets.clouds import CREDENTIALS, Cloud, client_of
from tests.secrets.failures import FAILURES, Behaviour, answers, never
from tests.support.virtual_clock import run_virtually


async def make(eye: Eye, bms: object, call: Call, name: str) -> None:
    try:
        result = await call.make(bms)  # type: ignore[arg-type]
    except (BmsError, asyncio.CancelledError) as error:
        eye.look_at_error(name, error)
    else:
        if type(result).__module__.startswith("bms_async"):
            eye.look(f"result of {name}", result)


# What a call carries shows whatever the credentials are, and these whatever is called. So every call is made with one
# kind of them, and with the others one call of each sort: with a body, of a text, of pages, and of the users' own.
CALLS_OF = dict.fromkeys(
    CREDENTIALS, ("servers.reset_password", "servers.reinstall_os of bytes", "servers.list", "request")
) | {"a token": tuple(CALLS)}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_shows_however_a_call_fails(credentials: str, failure: Behaviour) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, failure)
        async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
            for name in CALLS_OF[credentials]:
                call = CALLS[name]
                before, cloud.carries = cloud.asked, call.carries
                await make(eye, bms, call, name)
                assert cloud.asked > before
                # Until no refusal of a token keeps the next call from being made.
                await asyncio.sleep(901.0)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}
    assert "bms_async" in eye.names


def _says(status: int, content: bytes) -> Behaviour:
    return answers(lambda _: httpx.Response(status, content=content))


ANSWERS: dict[str, Callable[[object], object]] = {
    "good": lambda answer: answer,
    "of another shape": other_shape,
    "of texts": wrong_type,
}


@pytest.mark.parametrize("shape", ANSWERS)
@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("credentials", ["a password", "keys"])
def test_r5_no_secret_that_the_cloud_tells_shows(credentials: str, status: int, shape: str) -> None:
    async def use(eye: Eye) -> None:
        for name, call in CALLS.items():
            body = json.dumps(ANSWERS[shape](call.answer)).encode()
            for content in (body, body[:-1]):
                cloud = Cloud(eye, _says(status, content))
                cloud.carries = call.carries
                async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
                    await make(eye, bms, call, name)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


@pytest.mark.parametrize("ending", ["cancelled", "closed"])
@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("slow", ["calls", "tokens"])
def test_r5_no_secret_shows_when_a_call_is_cut_in_the_middle(credentials: str, ending: str, slow: str) -> None:
    async def use(eye: Eye) -> None:
        for name, call in CALLS.items():
            cloud = Cloud(eye, FAILURES["connection refused"])
            setattr(cloud, slow, never)
            cloud.carries = call.carries
            async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
                task = asyncio.get_running_loop().create_task(make(eye, bms, call, name))
                await asyncio.sleep(0.01)
                eye.look("task", task)
                if ending == "cancelled":
                    task.cancel("of no interest")
                else:
                    await bms.aclose()
                await asyncio.wait({task})
                assert task.done()

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_r5_no_secret_shows_however_the_identity_service_fails(failure: Behaviour) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES["401 of the service"], failure)
        async with client_of(eye, cloud, CREDENTIALS["a password"]()) as bms:
            for name in ("servers.start", "servers.reset_password"):
                cloud.carries = CALLS[name].carries
                await make(eye, bms, CALLS[name], name)
        assert cloud.asked

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


NOISY = ("connection refused", "no answer ever", "400 that echoes once read", "401 of the service", "200 of a list")


@pytest.mark.parametrize("failure", NOISY)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_shows_in_what_asyncio_says_of_its_callbacks(credentials: str, failure: str) -> None:
    async def use(eye: Eye) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        # No callback is faster than that, so asyncio logs each, with its arguments.
        loop.slow_callback_duration = 0.0
        cloud = Cloud(eye, FAILURES[failure])
        async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
            for name in ("servers.reset_password", "servers.start"):
                cloud.carries = CALLS[name].carries
                await make(eye, bms, CALLS[name], name)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}
    assert "asyncio" in eye.names
