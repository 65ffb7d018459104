"""From an operation and its arguments to a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.redaction import SecretBytes, Unencodable, encode_secretly

from .messages import HttpRequest
from .operation import Operation, Service

Query: TypeAlias = Mapping[str, str | int | bool | Sequence[str] | None]

_PART = re.compile(r"\{(\w+)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_~-]+")


def build_request(
    operation: Operation[Any],
    *,
    endpoint: str,
    path: Mapping[str, str],
    query: Query | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    user_agent: str = "bms-async",
    timeout: float = 60.0,
) -> HttpRequest:
    """Build the request of a call, without credentials.

    Args:
        operation: What is called.
        endpoint: Scheme and host, and a path before the documented one if a proxy wants it.
        path: A value for each part in braces; each is percent-encoded as one segment.
        query: None values are left out, sequences repeat their name.
        body: What msgspec can encode as JSON, with what is secret as texts that do not show themselves; what
            `encode_body` made of it; None for no body.
        headers: Over the operation's own; what a single call needs.
        user_agent: The ``User-Agent`` header.
        timeout: Seconds for one try.
    """
    url = endpoint.rstrip("/") + "".join(
        [part if name is None else _segment(name, path[name]) for part, name in _split(operation.path)]
    )
    pairs = list(_pairs(query or {}))
    if pairs:
        try:
            url += "?" + urlencode(pairs, quote_via=quote)
        except UnicodeEncodeError as error:
            raise InvalidRequestError("query", error.object, "text that cannot be written as UTF-8") from error
    sent = {"Accept": "application/json", "User-Agent": user_agent}
    if operation.service is Service.COMPUTE:
        # Long connections cannot be used for native calls (API reference, chapter 2).
        sent["Connection"] = "close"
    content = b""
    if body is not None:
        content = body if isinstance(body, SecretBytes) else check_body(encode_body(body))
        sent["Content-Type"] = "application/json"
    sent.update(operation.headers)
    sent.update(headers or {})
    return HttpRequest(
        operation=operation.name,
        method=operation.method,
        url=url,
        headers=sent,
        body=content,
        timeout=timeout,
    )


def encode_body(body: object) -> SecretBytes | Unencodable:
    """Return a body as JSON that does not show itself; what cannot be written is for `check_body` to tell."""
    return encode_secretly(msgspec.json.encode, body)


def check_body(encoded: SecretBytes | Unencodable) -> SecretBytes:
    """Return what `encode_body` made of a body.

    Raises:
        InvalidRequestError: A text in it is half a character.
        TypeError: It is nothing that JSON can hold.
    """
    if isinstance(encoded, SecretBytes):
        return encoded
    # Raised here, where the body is no more: the encoder's own error holds the text, and its frame the body.
    if encoded.error is None:
        raise InvalidRequestError("body", None, "text that cannot be written as UTF-8")
    raise encoded.error


@lru_cache(maxsize=256)
def _split(path: str) -> tuple[tuple[str, str | None], ...]:
    """Return a path's parts, each with its name where a value is to take its place."""
    pieces = _PART.split(path)
    return tuple((piece, piece if number % 2 else None) for number, piece in enumerate(pieces) if piece)


def _segment(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if not value:
        # Without its last part a path may mean all of something: removing the tag "" would remove every tag.
        raise InvalidRequestError(name, value, "a part of a path is not empty")
    try:
        # "." and ".." are steps in a path, and HTTP libraries take them, unless they are encoded.
        return value.replace(".", "%2E") if value in {".", ".."} else quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError(name, value, "text that cannot be written as UTF-8") from None


def _pairs(query: Query) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        if value is None:
            continue
        if isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for item in value:
                yield name, item
        else:
            yield name, str(value)
