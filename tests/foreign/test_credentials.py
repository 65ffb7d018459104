"""Credentials of the application's may raise anything, and it ends the call that asked them and nothing else."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from bms_async import (
    AkSkAuth,
    AuthenticationError,
    BadRequestError,
    BmsClient,
    ForeignCodeError,
    HttpRequest,
    HttpResponse,
    Limits,
    OutcomeState,
    TransportError,
)
from bms_async._single_flight import SingleFlight
from tests.support.virtual_clock import run_virtually

SERVER = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
RAISED = [asyncio.CancelledError, SystemExit, GeneratorExit, ValueError]


class Cloud:
    """A transport that refuses or takes everything."""

    def __init__(self, status: int, body: bytes) -> None:
        self.answer = HttpResponse(status=status, headers=(("Content-Type", "application/json"),), body=body)

    async def send(self, request: HttpRequest) -> HttpResponse:
        return self.answer


class Credentials:
    """Credentials of every protocol, of which one method raises."""

    def __init__(self, fails: str, raised: type[BaseException]) -> None:
        self._fails = fails
        self._raised = raised
        self.asked: list[str] = []

    def _do(self, name: str) -> None:
        self.asked.append(name)
        if name == self._fails:
            raise self._raised("mine")

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        self._do("headers")
        return {"X-Auth-Token": "token-of-the-test"}

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        self._do("renew")
        return False

    async def find_project_id(self) -> str | None:
        self._do("find_project_id")
        return "p"

    def redact(self, text: str) -> str:
        self._do("redact")
        return text

    def bind(self, send: object, start: object) -> None:
        self._do("bind")

    def unbind(self, send: object) -> None:
        self._do("unbind")

    def observe(self, notify: object) -> None:
        self._do("observe")

    def unobserve(self, notify: object) -> None:
        self._do("unobserve")


REFUSED = (401, b'{"error": {"code": "BMS.0001", "message": "not you"}}')
TAKEN = (200, b'{"server": {"id": "s", "name": "n"}}')


def _client(auth: Any, answer: tuple[int, bytes], **options: Any) -> BmsClient:
    given = {"endpoint": "https://bms.example.com", "limits": Limits.unlimited(), "retry": None, **options}
    return BmsClient(auth=auth, transport=Cloud(*answer), **given)


async def _call(bms: BmsClient) -> None:
    await bms.servers.get(SERVER)


async def _opened(bms: BmsClient) -> None:
    async with bms:
        await _call(bms)


# What credentials are asked, with the answer that makes it so.
ASKED: Mapping[str, tuple[int, bytes]] = {
    "headers": TAKEN,
    "renew": REFUSED,
    "find_project_id": TAKEN,
    "bind": TAKEN,
    "observe": TAKEN,
}


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("name", ASKED)
def test_what_credentials_raise_is_an_error_of_who_asked_them(name: str, raised: type[BaseException]) -> None:
    auth = Credentials(name, raised)

    async def use() -> None:
        wanted = ValueError if raised is ValueError else ForeignCodeError
        with pytest.raises(wanted, match="mine" if raised is ValueError else f"{name}.*{raised.__name__}"):
            await _opened(_client(auth, ASKED[name], hooks=[lambda event: None]))

    run_virtually(use)
    assert name in auth.asked


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("name", ["unbind", "unobserve"])
def test_what_credentials_raise_at_the_end_keeps_no_client_from_closing(name: str, raised: type[BaseException]) -> None:
    auth = Credentials(name, raised)

    async def use() -> None:
        bms = _client(auth, TAKEN, hooks=[lambda event: None])
        await _opened(bms)
        assert not bms._core._holds_transport

    run_virtually(use)
    assert name in auth.asked


@pytest.mark.parametrize("raised", RAISED)
def test_an_error_is_not_lost_for_what_redact_raises_and_shows_nothing(raised: type[BaseException]) -> None:
    async def use() -> None:
        async with _client(Credentials("redact", raised), (400, REFUSED[1])) as bms:
            with pytest.raises(BadRequestError) as caught:
                await _call(bms)
        assert caught.value.status == 400
        assert caught.value.message == "***"
        assert caught.value.__context__ is None

    run_virtually(use)


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("name", ["headers", "find_project_id"])
def test_r2_a_fleet_whose_credentials_raise_ends_in_outcomes(name: str, raised: type[BaseException]) -> None:
    ids = [f"{number:08x}-56de-4d6b-b7ee-ffc62ca26f43" for number in range(3)]

    async def use() -> None:
        async with _client(Credentials(name, raised), TAKEN) as bms:
            run = bms.fleet.stop(ids)
            with pytest.raises(raised if issubclass(raised, Exception) else ForeignCodeError):
                await run
        assert run.report is not None
        assert [outcome.server_id for outcome in run.report.outcomes] == ids
        assert {outcome.state for outcome in run.report.outcomes} <= {OutcomeState.FAILED, OutcomeState.SKIPPED}
        assert all(outcome.error is not None for outcome in run.report.outcomes)

    run_virtually(use)


@pytest.mark.parametrize("raised", RAISED)
def test_an_error_of_a_key_provider_reaches_every_waiter(raised: type[BaseException]) -> None:
    asked = 0

    async def provide() -> tuple[str, str, str | None]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1.0)
        raise raised

    async def use() -> None:
        async with _client(AkSkAuth(provider=provide), TAKEN, project_id="p") as bms:
            errors = await asyncio.gather(*(_call(bms) for _ in range(5)), return_exceptions=True)
        assert {type(error) for error in errors} == {TransportError}

    run_virtually(use)
    assert asked == 1


@pytest.mark.parametrize("raised", RAISED)
def test_what_a_clock_raises_is_an_error_of_the_call(raised: type[BaseException]) -> None:
    works = True

    def clock() -> datetime:
        if not works:
            raise raised("mine")
        return datetime.now(UTC)

    async def use() -> None:
        nonlocal works
        async with _client(AkSkAuth("AK", "secret-key", clock=clock), TAKEN, project_id="p") as bms:
            works = False
            with pytest.raises((ForeignCodeError, ValueError)):
                await _call(bms)
            works = True
            await _call(bms)

    run_virtually(use)


def test_the_cancellation_of_a_call_is_no_fault_of_its_credentials() -> None:
    class Slow(Credentials):
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            await asyncio.sleep(100.0)
            return {}

    async def use() -> None:
        async with _client(Slow("", ValueError), TAKEN) as bms:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_call(bms), 1.0)

    run_virtually(use)


async def _finds_nothing() -> str:
    raise ValueError("mine")


def test_an_error_of_the_project_look_up_reaches_every_waiter() -> None:
    async def use() -> None:
        async with _client(Credentials("", ValueError), TAKEN) as bms:
            once = SingleFlight(_finds_nothing, bms._core.start)
            errors = await asyncio.gather(*(once.get() for _ in range(3)), return_exceptions=True)
        assert {type(error) for error in errors} == {ValueError}
        assert len({id(error) for error in errors}) == 3

    run_virtually(use)


def test_each_copy_of_an_error_has_notes_of_its_own() -> None:
    error = AuthenticationError(status=401, message="no")
    error.add_note("the first")
    one, other = copy.copy(error), copy.copy(error)
    one.add_note("of one")
    assert error.__notes__ == other.__notes__ == ["the first"]


class Immediate(Credentials):
    """Credentials with a plain function, for there is nothing to wait for."""

    def headers(self, request: HttpRequest) -> Mapping[str, str]:  # type: ignore[override]
        self._do("headers")
        return MappingProxyType({"X-Auth-Token": "token-of-the-test"})


def test_credentials_may_give_their_headers_at_once() -> None:
    async def main() -> None:
        async with _client(Immediate("", ValueError), TAKEN, project_id="p") as bms:
            assert (await bms.servers.get(SERVER)).id == "s"

    run_virtually(main)


@pytest.mark.parametrize("raised", RAISED)
def test_what_credentials_raise_at_once_ends_the_call_that_asked_them(raised: type[BaseException]) -> None:
    async def main() -> None:
        async with _client(Immediate("headers", raised), TAKEN, project_id="p") as bms:
            with pytest.raises(raised if issubclass(raised, Exception) else ForeignCodeError):
                await bms.servers.get(SERVER)

    run_virtually(main)
