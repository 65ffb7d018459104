"""The search finds what it is for: each kind of leak is planted here, and found."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import warnings
from base64 import b64encode
from collections.abc import Callable
from types import FunctionType
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bms_async import BmsError, HttpRequest, TransportError
from bms_async.errors import ApiError
from bms_async.redaction import SecretStr
from tests.secrets._search import Eye, watching
from tests.secrets.canaries import ALL, PASSWORD, TOKEN, secrets_in
from tests.secrets.clouds import Cloud
from tests.secrets.failures import answers
from tests.support.virtual_clock import run_virtually

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": json.dumps,
    "in JSON of JSON": lambda text: json.dumps(json.dumps(text)),
    "in a URL": lambda text: quote(text, safe=""),
    "in a repr": repr,
    "in a repr of bytes": lambda text: repr(text.encode()),
    "in HTML": html.escape,
    "in base64": lambda text: b64encode(text.encode()).decode(),
    "in base64, after a letter": lambda text: b64encode(b"a" + text.encode()).decode(),
    "in base64, after a user's name": lambda text: b64encode(b"ab" + text.encode()).decode(),
    "in capitals": str.upper,
    "but for its last letters": lambda text: text[: text.index("Zq7x") + 9],
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", ALL)
def test_a_secret_is_found_however_it_is_spelled(secret: str, spelled: Callable[[str], str]) -> None:
    assert len(secrets_in(f"some text, {spelled(secret)}, and more")) == 1
    assert secrets_in("MIIYXQYJKoZIhvcNAQcCoIIYTjCC Zq7 Zq7x and such") == set()


def test_each_secret_is_told_from_the_others() -> None:
    assert len({name for secret in ALL for name in secrets_in(secret)}) == len(ALL)


class Shows:
    def __repr__(self) -> str:
        return f"<Shows {PASSWORD}>"


class ShowsToRich:
    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("token", TOKEN)]


@pytest.mark.parametrize("thing", [Shows(), ShowsToRich(), [Shows()], {"a": TOKEN}])
def test_a_repr_that_shows_a_secret_is_found(thing: object) -> None:
    eye = Eye()
    eye.look("thing", thing)
    assert eye.found


def _caused(error: BaseException, **links: BaseException) -> BaseException:
    for name, value in links.items():
        setattr(error, f"__{name}__", value)
    return error


def _noted() -> BaseException:
    error = BmsError("no")
    error.add_note(f"sent {TOKEN}")
    return error


def _attributed(**attributes: Any) -> BaseException:
    error = TransportError("no", maybe_delivered=True)
    vars(error).update(attributes)
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "a text": lambda: BmsError(f"no {TOKEN}"),
    "a body": lambda: _attributed(body=TOKEN.encode()),
    "headers": lambda: _attributed(headers={"X-Auth-Token": TOKEN}),
    "a request in an attribute": lambda: _attributed(request=[{"deep": (Shows(),)}]),
    "an earlier try": lambda: _attributed(previous=(ApiError(status=400, message=TOKEN),)),
    "a cause": lambda: _caused(BmsError("no"), cause=ValueError(TOKEN)),
    "a context that is not shown": lambda: _caused(BmsError("no"), cause=OSError(), context=ValueError(TOKEN)),
    "a member of a group": lambda: BaseExceptionGroup("no", [BmsError("no"), ValueError(TOKEN)]),
    "a note": _noted,
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_an_error_that_shows_a_secret_is_found(make: Callable[[], BaseException]) -> None:
    eye = Eye()
    eye.look_at_error("error", make())
    assert {"TOKEN"} <= set().union(*eye.found.values()) or {"PASSWORD"} <= set().union(*eye.found.values())


def test_a_pickle_that_shows_what_nothing_else_does_is_found() -> None:
    class Quiet(str):
        __slots__ = ()

    request = HttpRequest(operation="o", method="GET", url="https://x", headers={"X-Auth-Token": TOKEN})
    eye = Eye()
    eye.look_at_error("error", _attributed(request=request))
    assert [where.rpartition(" ")[2] for where in eye.found] == ["pickle"]
    assert Quiet is not str


def test_a_variable_of_ours_is_found_in_a_traceback_and_one_of_others_is_not() -> None:
    def fails(token: str) -> None:
        raise BmsError("no")

    import bms_async.session as ours

    code = fails.__code__.replace(co_filename=ours.__file__)
    for function, found in ((fails, False), (FunctionType(code, globals()), True)):
        eye = Eye()
        try:
            function(TOKEN)
        except BmsError as error:
            eye.look_at_error("error", error)
        assert bool(eye.found) is found
    assert eye.found == {"error: BmsError: token in fails of __init__": {"TOKEN"}}


class Holds:
    """Shows nothing of itself, and has what it holds in its attributes."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __repr__(self) -> str:
        return "Holds(***)"


Holds.__module__ = "bms_async.of_the_test"

WAYS: dict[str, Callable[[str], object]] = {
    "a list": lambda token: [token],
    "a dict in a tuple": lambda token: ({"X-Auth-Token": token},),
    "an attribute": Holds,
    "an attribute of an attribute": lambda token: Holds([Holds(token)]),
    "bytes in an attribute": lambda token: Holds(token.encode()),
}


@pytest.mark.parametrize("hold", WAYS.values(), ids=WAYS)
def test_a_secret_within_a_variable_of_ours_is_found(hold: Callable[[str], object]) -> None:
    def fails(held: object) -> None:
        raise BmsError("no")

    import bms_async.session as ours

    code = fails.__code__.replace(co_filename=ours.__file__)
    for text, found in ((TOKEN, True), (SecretStr(TOKEN), False)):
        eye = Eye()
        try:
            FunctionType(code, globals())(hold(text))
        except BmsError as error:
            eye.look_at_error("error", error)
        assert bool(eye.found) is found


LOGS: dict[str, Callable[[logging.Logger], None]] = {
    "a message": lambda log: log.debug(f"sent {TOKEN}"),  # noqa: G004
    "an argument": lambda log: log.debug("sent %s", {"X-Auth-Token": TOKEN}),
    "an argument that the message leaves out": lambda log: log.debug("sent %.3s", TOKEN),
    "a field": lambda log: log.info("sent", extra={"headers": TOKEN}),
    "a traceback": lambda log: log.error("broke", exc_info=ValueError(TOKEN)),
    "the cause of an argument": lambda log: log.error("%s", _caused(BmsError("no"), cause=ValueError(TOKEN))),
}


@pytest.mark.parametrize("name", ["bms_async.session", "httpcore.http11", "a.new.one"])
@pytest.mark.parametrize("write", LOGS.values(), ids=LOGS)
def test_a_log_record_that_shows_a_secret_is_found(write: Callable[[logging.Logger], None], name: str) -> None:
    with watching() as eye:
        write(logging.getLogger(name))
    assert set().union(*eye.found.values()) == {"TOKEN"}


def test_a_logger_that_somebody_made_silent_is_heard() -> None:
    log = logging.getLogger("httpcore.silent")
    log.propagate, log.level = False, logging.CRITICAL
    with watching() as eye:
        log.debug(TOKEN)
    assert eye.found
    assert (log.propagate, log.level) == (False, logging.CRITICAL)


def test_a_warning_and_a_callback_of_asyncio_that_show_a_secret_are_found() -> None:
    with watching() as eye:
        warnings.warn(f"do not use {TOKEN}", stacklevel=1)
    assert eye.found == {"warning": {"TOKEN"}}

    async def calls_back() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0
        loop.call_soon(str, TOKEN)
        await asyncio.sleep(0)

    with watching() as eye:
        run_virtually(calls_back)
    assert "asyncio" in eye.names
    assert set().union(*eye.found.values()) == {"TOKEN"}


async def test_a_secret_where_a_request_should_have_none_is_found() -> None:
    def request(path: str = "", headers: Any = None, body: Any = None) -> httpx.Request:
        return httpx.Request("POST", f"https://bms.example.com/{path}", headers=headers, json=body)

    wrong = {
        "the address of a request": request(f"?token={quote(TOKEN)}"),
        "header x-trace of a request": request(headers={"X-Trace": TOKEN}),
        "header x-security-token of a request": request(headers={"X-Security-Token": TOKEN}),
        "the body of a request": request(body={"password": PASSWORD}),
    }
    for where, each in wrong.items():
        eye = Eye()
        await Cloud(eye, answers(lambda _: httpx.Response(200)))(each)
        assert list(eye.found) == [where]
    eye = Eye()
    await Cloud(eye, answers(lambda _: httpx.Response(200)))(request(headers={"X-Auth-Token": TOKEN}))
    assert eye.found == {}
