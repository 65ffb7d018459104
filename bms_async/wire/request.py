"""Building the request of a call from its operation and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.redaction import SecretBytes, Unencodable, encode_secretly
from bms_async.validation.common import ENCODABLE_RULE

from .messages import HttpRequest
from .operation import Operation, Service

Query: TypeAlias = Mapping[str, str | int | bool | Sequence[str] | None]

_PARAMETER = re.compile(r"\{(\w+)\}")
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
        operation: The call.
        endpoint: Scheme and host, and a path prefix if a proxy requires one.
        path: A value for each parameter in braces; each is percent-encoded as one segment.
        query: None values are left out, sequences repeat their name.
        body: Anything that msgspec can encode as JSON, with its secrets as `SecretStr`; the result of `encode_body`;
            None for no body.
        headers: Headers of this call alone; they override the operation's, in whatever case they are written.
        user_agent: The ``User-Agent`` header.
        timeout: Seconds for one attempt.
    """
    url = _build_url(endpoint, operation.path, path, query)
    all_headers = {"Accept": "application/json", "User-Agent": user_agent}
    if operation.service is Service.COMPUTE:
        # Long connections cannot be used for native calls (API reference, chapter 2).
        all_headers["Connection"] = "close"
    content = b""
    if body is not None:
        content = _encode(body)
        all_headers["Content-Type"] = "application/json"
    if operation.headers:
        all_headers.update(operation.headers)
    if headers:
        given = {name.lower() for name in headers}
        all_headers = {name: value for name, value in all_headers.items() if name.lower() not in given} | {**headers}
    return HttpRequest(
        operation=operation.name, method=operation.method, url=url, headers=all_headers, body=content, timeout=timeout
    )


def _build_url(endpoint: str, template: str, path: Mapping[str, str], query: Query | None) -> str:
    url = endpoint.rstrip("/")
    for part, name in _split(template):
        url += part if name is None else _segment(name, path[name])
    pairs = list(_pairs(query)) if query else ()
    if not pairs:
        return url
    try:
        return f"{url}?{urlencode(pairs, quote_via=quote)}"
    except UnicodeEncodeError as error:
        raise InvalidRequestError("query", error.object, ENCODABLE_RULE) from error


def with_body(request: HttpRequest, body: object) -> HttpRequest:
    """Return a request with another body, whose kind its headers name already.

    Args:
        request: The request of a call that has a body.
        body: As for `build_request`, and not None.
    """
    return msgspec.structs.replace(request, body=_encode(body))


def _encode(body: object) -> SecretBytes:
    return body if isinstance(body, SecretBytes) else check_body(encode_body(body))


def encode_body(body: object) -> SecretBytes | Unencodable:
    """Return a body as JSON; one that cannot be encoded is reported by `check_body`."""
    return encode_secretly(msgspec.json.encode, body)


def check_body(encoded: SecretBytes | Unencodable) -> SecretBytes:
    """Return the result of `encode_body`.

    Raises:
        InvalidRequestError: A text in the body has a lone surrogate.
        TypeError: The body cannot be represented as JSON.
    """
    if isinstance(encoded, SecretBytes):
        return encoded
    # Raised here, where the body is out of scope: the encoder's own error holds the text, and its frame the body.
    if encoded.error is None:
        raise InvalidRequestError("body", None, ENCODABLE_RULE, secret=True)
    raise encoded.error


@lru_cache(maxsize=256)
def _split(path: str) -> tuple[tuple[str, str | None], ...]:
    """Return a path's parts, each with its name if it is a parameter."""
    parts = _PARAMETER.split(path)
    return tuple((part, part if index % 2 else None) for index, part in enumerate(parts) if part)


def _segment(name: str, value: str) -> str:
    if (value.isalnum() and value.isascii()) or _PLAIN.fullmatch(value):
        return value
    if not value:
        # Without its last segment a path may mean the whole collection: removing the tag "" would remove every tag.
        raise InvalidRequestError(name, value, "expected a non-empty str; it becomes a part of the path")
    try:
        # HTTP libraries resolve the dot segments "." and "..", unless they are encoded.
        return value.replace(".", "%2E") if value in {".", ".."} else quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError(name, value, ENCODABLE_RULE) from None


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
