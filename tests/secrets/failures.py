"""All that can come instead of a good answer; whatever can echo, echoes all that it was sent."""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import anyio
import httpx

Behaviour: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]


def whole(request: httpx.Request) -> str:
    """Return a request as it was sent."""
    head = "".join(f"{name}: {value}\n" for name, value in request.headers.items())
    return f"{request.method} {request.url}\n{head}\n{request.content.decode()}"


def echo_of(request: httpx.Request) -> str:
    """Return what a request says once its JSON is read, secrets first."""
    texts = list(_texts(json.loads(request.content))) if request.content else []
    texts += [request.headers.get(name, "") for name in ("x-auth-token", "x-security-token")]
    return " ".join(texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def raises(make: Callable[[httpx.Request], Exception]) -> Behaviour:
    async def behave(request: httpx.Request) -> httpx.Response:
        raise make(request)

    return behave


def answers(make: Callable[[httpx.Request], httpx.Response]) -> Behaviour:
    async def behave(request: httpx.Request) -> httpx.Response:
        return make(request)

    return behave


async def never(request: httpx.Request) -> httpx.Response:
    await anyio.sleep_forever()
    raise AssertionError("nobody waits that long")


def _error(status: int, text: Callable[[httpx.Request], str]) -> Behaviour:
    return answers(
        lambda request: httpx.Response(status, json={"error": {"code": "BMS.0018", "message": text(request)}})
    )


def _gateway(status: int, text: Callable[[httpx.Request], str]) -> Behaviour:
    def make(request: httpx.Request) -> httpx.Response:
        body = {"error_code": text(request), "error_msg": text(request), "request_id": text(request)}
        return httpx.Response(status, json=body)

    return answers(make)


def _page(status: int) -> Behaviour:
    return answers(
        lambda request: httpx.Response(status, html=f"<html><pre>{html.escape(whole(request))}</pre></html>")
    )


def _headers(status: int) -> Behaviour:
    def make(request: httpx.Request) -> httpx.Response:
        text = quote(echo_of(request)) if status == 302 else echo_of(request).replace("\n", " ").encode()
        names = ("X-Request-Id", "Retry-After", "Content-Type", "Date", "X-Auth-Token", "Location")
        return httpx.Response(status, headers=dict.fromkeys(names, text), content=b"{}")  # type: ignore[arg-type]

    return answers(make)


_SPELLINGS: Mapping[str, Callable[[httpx.Request], str]] = {
    "as it was sent": whole,
    "once read": echo_of,
    "in a repr": lambda request: repr(dict(request.headers)) + repr(request.content),
    "in a URL": lambda request: quote(echo_of(request), safe=""),
    "in JSON of JSON": lambda request: json.dumps(whole(request)),
    "in HTML": lambda request: html.escape(echo_of(request)),
}

FAILURES: dict[str, Behaviour] = {
    "connection refused": raises(lambda _: httpx.ConnectError("All connection attempts failed")),
    "no trust in the certificate": raises(lambda _: httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")),
    "no connection in time": raises(lambda _: httpx.ConnectTimeout("")),
    "no answer in time": raises(lambda _: httpx.ReadTimeout("")),
    "no answer ever": never,
    "reset": raises(lambda _: httpx.ReadError("")),
    "cut while writing": raises(lambda _: httpx.WriteError("[Errno 32] Broken pipe")),
    "half a body": raises(
        lambda _: httpx.RemoteProtocolError("peer closed connection, received 3 bytes, expected 100")
    ),
    "bad chunks that echo": raises(
        lambda r: httpx.RemoteProtocolError(f"illegal chunk header: {bytearray(r.content)}")
    ),
    "a bad header that echoes": raises(lambda r: httpx.RemoteProtocolError(f"illegal header line: {whole(r)!r}")),
    "an error of no HTTP library": raises(lambda request: ValueError(whole(request), request.headers)),
    "200 that is no JSON": answers(lambda request: httpx.Response(200, text=whole(request))),
    "200 of half a JSON": answers(lambda r: httpx.Response(200, text=json.dumps({"server": whole(r)})[:-2])),
    "200 of HTML": _page(200),
    "200 of half a character": answers(lambda r: httpx.Response(200, content=b'{"server": "\xff' + r.content)),
    "200 of a list": answers(lambda request: httpx.Response(200, json=[whole(request)])),
    "200 that echoes for a server": answers(
        lambda request: httpx.Response(200, json=dict.fromkeys(("server", "keypair", "metadata"), whole(request)))
    ),
    "302 to where the secrets are in the address": _headers(302),
    "400 with headers that echo": _headers(400),
    "400 with nothing": answers(lambda _: httpx.Response(400)),
    **{f"400 that echoes {name}": _error(400, spelled) for name, spelled in _SPELLINGS.items()},
    **{f"400 of the gateway that echoes {name}": _gateway(400, spelled) for name, spelled in _SPELLINGS.items()},
    **{
        f"{status} of the service": _error(status, echo_of)
        for status in (401, 403, 404, 409, 413, 429, 500, 502, 503, 504)
    },
    **{f"{status} of the gateway": _gateway(status, echo_of) for status in (401, 403, 409, 429, 500, 503)},
    "400 of HTML": _page(400),
    "403 of HTML": _page(403),
    "502 of HTML": _page(502),
}


def cut_at(length: int) -> Behaviour:
    """Echo behind so many letters, so that the message ends in the middle of what is echoed."""
    return _error(400, lambda request: "." * length + echo_of(request))


FAILURES |= {f"400 that echoes after {length} letters": cut_at(length) for length in (240, 246, 249)}
