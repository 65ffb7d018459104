"""Keeping what we send and are given as secrets out of the HTTP libraries' own logs.

At DEBUG httpcore logs the headers of every answer as they came, and quotes what it cannot read; httpx tells an answer's
status text at INFO. Keystone hands out its token in a header, and a strange server may send back what it was sent. What
an application logs, and where to, stays its own; only the secrets in the records of our own requests are masked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from bms_async.redaction import mask
from bms_async.wire import HttpRequest

_LOGGERS = (
    *(f"{library}.{part}" for library in ("httpcore", "httpcore2") for part in ("http11", "http2", "proxy")),
    "httpx",
    "httpx2",
)
_TOKEN = re.compile(r"""(x-subject-token['"]\s*,\s*b?)(['"]).*?\2""", re.IGNORECASE)
_BASIC = re.compile(r"(?<=Basic )[\w+/=-]+")
_SHORTEST_SECRET = 8
_NO_SECRETS = frozenset(
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

_sending: ContextVar[HttpRequest | None] = ContextVar("bms_async_sending", default=None)


class _MaskSecrets(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        masked = text
        if "x-subject-token" in text.lower():
            masked = _TOKEN.sub(r"\1'***'", text)
        request = _sending.get()
        if request is not None:
            masked = mask(_BASIC.sub("***", masked), *secrets_of(request))
        if masked != text:
            record.msg, record.args = masked, None
        return True


_MASK = _MaskSecrets()


def mask_logs() -> None:
    """Mask secrets in the logs of httpcore, httpx and their successors; once is enough, and more changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_MASK)


@contextmanager
def masking(request: HttpRequest) -> Iterator[None]:
    """Mask what this request carries in all that this task logs meanwhile, and hold it no longer."""
    before = _sending.set(request)
    try:
        yield
    finally:
        _sending.reset(before)


def secrets_of(request: HttpRequest) -> list[str]:
    """Return what a request says that may be a secret: its headers, and the texts of its body."""
    texts = [value for name, value in request.headers.items() if name.lower() not in _NO_SECRETS]
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
    return [text for text in texts if len(text) >= _SHORTEST_SECRET]
