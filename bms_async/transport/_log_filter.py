"""Masking secrets in the errors and logs of the HTTP libraries (rule R5).

httpcore quotes what it cannot parse, and logs the headers of every response at DEBUG. Keystone returns its token in a
header, and a faulty server may echo a request.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bms_async.redaction import MASK, mask
from bms_async.wire import HttpRequest

_TOKEN = b"x-subject-token"
_BASIC = re.compile(r"(?<=Basic )[\w+/=-]+")
# Quoted bytes, which may be an echo of the request; a short secret in them cannot be distinguished from a word.
_QUOTE = re.compile(r"(?:bytearray\()?\bb\\*['\"].*", re.DOTALL)
_PAIR = 2
MIN_SECRET_LENGTH = 8
_PUBLIC_HEADERS = frozenset(
    {
        "accept",
        "connection",
        "content-type",
        "host",
        "user-agent",
        "x-openstack-nova-api-version",
        "x-project-id",
        "x-sdk-date",
    }
)


class MaskedArgs:
    """Replaces a value whose repr would show a secret."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def mask_message(text: str, request: HttpRequest) -> str:
    """Return a text of a library with quoted bytes, the request's secrets and a proxy's password masked."""
    return mask(_BASIC.sub(MASK, _QUOTE.sub(MASK, text)), *secrets_of(request)) if text else text


def mask_headers(value: Any, request: HttpRequest) -> Any:
    """Return the head of a response, as a library logs it, with secrets masked.

    Args:
        value: Texts, numbers and headers, in tuples and lists.
        request: The request, which the server may have echoed.
    """
    if isinstance(value, bytes):
        return mask_message(value.decode("latin-1"), request).encode("latin-1")
    if isinstance(value, list | tuple):
        if len(value) == _PAIR and isinstance(value[0], bytes) and value[0].lower() == _TOKEN:
            return (value[0], MASK.encode())
        return type(value)([mask_headers(item, request) for item in value])
    return value


def mask_exception(error: object, request: HttpRequest) -> object:
    """Return an exception for a log: itself, or a stand-in with the same repr and secrets masked."""
    text = repr(error)
    masked = mask_message(text, request)
    return error if masked == text else MaskedArgs(masked)


def secrets_of(request: HttpRequest) -> list[str]:
    """Return the values in a request that may be secret: those of its headers, and the texts of its body."""
    texts = [value for name, value in request.headers.items() if name.lower() not in _PUBLIC_HEADERS]
    try:
        pending = [msgspec.json.decode(request.body)] if request.body else []
    except (msgspec.DecodeError, ValueError):
        pending = []
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
    return [text for text in texts if len(text) >= MIN_SECRET_LENGTH]
