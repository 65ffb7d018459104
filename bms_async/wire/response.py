"""Rule R7: whatever the cloud responds, its own words reach the user, and nothing unknown in them breaks a read.

How: a 2xx response is decoded into the operation's result, by models that ignore unknown fields. Any other response
becomes the `ApiError` of its status and code. The code, the message and the request id are looked up under every name
and nesting that BMS, Nova, Keystone and the API gateway use. Several messages are joined, and where no known name has
one, the texts below the error's own fields are taken. A body that is not JSON (a proxy's page) is described by its type
and size and never quoted: it may hold anything. Messages are cut to 256 characters; secrets of ours are masked in what
is shown, while decisions are made on the original words, in which a secret may occur by chance.

Retry hints are read from wherever a service puts them: the ``Retry-After`` header in seconds or as a date, Nova's
``retryAfter`` in the body, and the quota that the gateway names in a message.

Rejected: one model per documented error body. Three shapes are in use, gateways and proxies add theirs, and a body that
fits none would lose its words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar, cast

import msgspec

from bms_async.errorcodes import explain
from bms_async.errors import ApiError, DecodeError
from bms_async.errors.calls import error_class
from bms_async.models import decode
from bms_async.redaction import MaskedStr, mask_when_shown

from .messages import HttpResponse
from .operation import Operation

T = TypeVar("T")

_SUCCESS, _REDIRECTION = 2, 3
_RATE_LIMITED = frozenset({413, 429})
_QUOTA_EXCEEDED = "quota exceeded"
_REQUEST_IDS = ("X-Request-Id", "X-Openstack-Request-Id", "X-Compute-Request-Id")
_MAX_MESSAGE = 256
_MAX_CODE = 80
_MAX_QUOTED = 4096
# Bounded, for int() refuses numbers of too many digits.
_QUOTA = re.compile(
    r"ratelimit\s*,?\s*limit:\s*(\d{1,9})\s*,\s*time:\s*(\d{1,9})\s*(second|minute|hour|day)?", re.IGNORECASE
)
# msgspec raises RecursionError for JSON that is nested too deeply.
_UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, AttributeError, RecursionError)
_NO_CONTENT = 204
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def read_response(operation: Operation[T], response: HttpResponse, *, redact: Callable[[str], str] = str) -> T:
    """Return the operation's result from a 2xx response, or raise the error that another one describes.

    Any 2xx is a success: chapter 6.2 says that statuses may not be accurate, and Nova sends 202 where the reference has
    204.

    Raises:
        ApiError: The cloud refused; the class depends on the status and the code.
        DecodeError: The status is a success, but the body cannot be decoded.
    """
    if response.status // 100 != _SUCCESS:
        raise read_error(operation.name, response, redact=redact)
    if operation.result is type(None) and response.status != _NO_CONTENT and _is_html(response):
        # The cloud answers these calls without a page: this one is a login's or a proxy's, and tells of no success.
        text = f"answered {response.status} with {_describe(response, redact)}, which is not the cloud's answer"
        raise DecodeError(
            text,
            status=response.status,
            request_id=read_request_id(response, redact=redact),
            operation=operation.name,
        )
    if operation.result is type(None) or (not response.body and operation.result is object):
        return cast("T", None)
    if operation.result is bytes:
        return cast("T", response.body)
    try:
        return decode(response.body, operation.result)
    except _UNREADABLE as error:
        failure = _DecodeFailure(error, redact)
    raise DecodeError(
        f"answered {response.status} with {_describe(response, redact)}, which cannot be read: {failure.text}",
        status=response.status,
        request_id=read_request_id(response, redact=redact),
        operation=operation.name,
    ) from failure.cause


def read_fragment(operation: str, part: bytes | msgspec.Raw, into: type[T], *, redact: Callable[[str], str] = str) -> T:
    """Return one part of a successful response, which was kept undecoded.

    Raises:
        DecodeError: It cannot be decoded.
    """
    try:
        return decode(part, into)
    except _UNREADABLE as error:
        failure = _DecodeFailure(error, redact)
    text = f"answered with a part that cannot be read as {into.__name__}: {failure.text}"
    raise DecodeError(text, status=200, operation=operation) from failure.cause


class _DecodeFailure:
    """Why a body cannot be decoded, without any of its contents: they may be an echo of what was sent.

    Attributes:
        text: The decoder's message, redacted.
        cause: The decoder's error without its traceback, whose frames hold the body; None if it quotes the body.
    """

    __slots__ = ("cause", "text")

    def __init__(self, error: BaseException, redact: Callable[[str], str]) -> None:
        text = str(error)
        self.text = redact(text)
        may_quote = self.text != text or not isinstance(error, msgspec.DecodeError | RecursionError)
        error.__context__ = None
        self.cause = None if may_quote else error.with_traceback(None)


def read_request_id(response: HttpResponse, *, redact: Callable[[str], str] = str) -> str | None:
    """Return the cloud's id of a call, to be quoted to its support; None if there is none."""
    request_id = response.header(*_REQUEST_IDS)
    return None if request_id is None else mask_when_shown(request_id, redact)


def read_error(operation: str, response: HttpResponse, *, redact: Callable[[str], str] = str) -> ApiError:
    """Return the error that a response other than 2xx describes: by a JSON body, a proxy's page, or the status alone.

    Args:
        operation: The name of the call.
        response: The response.
        redact: Removes secrets from the parts of the response that are shown.
    """
    code, said, request_id = _read_error_body(response)
    request_id = response.header(*_REQUEST_IDS) or request_id
    # Cut before it is masked, for it may be long; a secret that is cut in its middle is masked all the same.
    request_id = None if request_id is None else mask_when_shown(request_id[:_MAX_QUOTED], redact)
    # Neither a documented code nor the status can be a secret.
    if code is not None and code != str(response.status) and not explain(code):
        code = mask_when_shown(code, redact)
    said = said[:_MAX_QUOTED]
    message = redact(said)
    if response.status // 100 == _REDIRECTION:
        message = f"the endpoint redirects, which is never followed: check the endpoint ({message or 'no message'})"
    quota = _QUOTA.search(said)
    retry_after = _read_retry_after(response)
    is_over_limit = False
    if response.status in _RATE_LIMITED:
        is_over_limit, retry_after_of_body = _read_over_limit(response)
        retry_after = retry_after_of_body if retry_after is None else retry_after
        # Older Nova releases send the same for an exhausted quota of servers or cores, which no waiting repairs; they
        # then ask for no wait.
        is_over_limit = (is_over_limit or retry_after is not None) and not (
            not retry_after and _QUOTA_EXCEEDED in said.lower()
        )
    return error_class(response.status, code, is_over_limit=is_over_limit)(
        status=response.status,
        code=code,
        message=message[:_MAX_MESSAGE],
        request_id=request_id,
        operation=operation,
        retry_after=retry_after,
        quota=(int(quota[1]), int(quota[2]) * _SECONDS[(quota[3] or "second").lower()]) if quota else None,
        said=message if message == said else MaskedStr(said, message),
    )


def _read_error_body(response: HttpResponse) -> tuple[str | None, str, str | None]:
    try:
        body = msgspec.json.decode(response.body)
    except _UNREADABLE:
        return None, f"answered with {_describe(response)}", None
    if isinstance(body, list) and body and all(isinstance(item, dict) for item in body):
        body = {"errors": body}
    if not isinstance(body, dict):
        return None, f"answered with {_describe(response)}", None
    parts, texts = _find_parts(body)
    codes = [code for part in parts if (code := _short_text(_first(part, _CODES)))]
    # A number is usually the status again, so a code that is not one says more.
    code = next((code for code in codes if not code.isdigit()), codes[0] if codes else None)
    messages: list[str] = []
    for text in (
        *(text for part in parts for text in _texts(_first(part, _MESSAGES))),
        *texts,
        *(text for part in parts for text in _texts(_first(part, _DETAILS))),
    ):
        if not any(text in message for message in messages):
            messages.append(text)
    if not messages:
        messages = [text for part in parts for text in _texts(_first(part, _TITLES))][:1] or _leaves(parts)
    request_id = next((found for part in parts if (found := _short_text(_first(part, _REQUEST_ID)))), None)
    return code, "; ".join(messages), request_id


_CODES = ("error_code", "errorCode", "errCode", "errcode", "errorcode", "code")
_MESSAGES = ("error_msg", "errorMsg", "errMsg", "errmsg", "error_message", "errorMessage", "message", "faultstring")
_DETAILS = ("details", "detail", "error_description", "reason", "msg")
_TITLES = ("title", "type")
_REQUEST_ID = ("request_id", "requestId")
_NESTED = ("errors", "error", "details", "detail", "fault")
_MAX_PARTS = 8
_MAX_LEAVES = 64


def _find_parts(body: dict[str, object]) -> tuple[list[dict[str, object]], list[str]]:
    """Return the objects of an error body that may describe the error, outer ones first, and its unnamed texts.

    BMS and Keystone name the envelope "error", Nova names it after the error ("itemNotFound"); the gateway has none.
    Others list several errors, each a text or an object, or nest the code in an object of its own.
    """
    parts: list[dict[str, object]] = [body]
    texts: list[str] = []
    for part in parts:
        for name, value in part.items():
            items = value if isinstance(value, list) else [value]
            if part is body or name in _NESTED:
                parts += [item for item in items if isinstance(item, dict)][: _MAX_PARTS - len(parts)]
            if name in ("errors", "error"):
                texts += [item for item in items if isinstance(item, str)][: _MAX_PARTS - len(texts)]
    return parts, texts


def _first(part: dict[str, object], names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := part.get(name)) and not isinstance(value, dict)), None)


def _texts(value: object) -> list[str]:
    """Return a value that may be a text or a list of texts as a list; `_find_parts` handles objects in a list."""
    if isinstance(value, list):
        return [item for item in value[:_MAX_PARTS] if isinstance(item, str) and item]
    text = _text(value)
    return [] if text is None else [text]


def _leaves(parts: list[dict[str, object]]) -> list[str]:
    """Return all texts below the fields of an error in an unknown shape, each with its field's name.

    Only below fields that are named like errors: elsewhere there may be anything, even a new password.
    """
    texts: list[str] = []
    named = [part[name] for part in parts for name in (*_NESTED, *_MESSAGES) if name in part]
    pending: list[tuple[str, object]] = [("", value) for value in named[:_MAX_PARTS]]
    for name, value in pending:
        room = max(0, _MAX_LEAVES - len(pending))
        if isinstance(value, str) and value and name not in (*_CODES, *_REQUEST_ID):
            texts.append(f"{name}: {value}" if name else value)
        elif isinstance(value, list):
            pending += [(name, item) for item in value[:room]]
        elif isinstance(value, dict):
            pending += list(value.items())[:room]
    return list(dict.fromkeys(texts))[:_MAX_PARTS]


def _describe(response: HttpResponse, redact: Callable[[str], str] = str) -> str:
    """Return a body's type and size; it is not quoted, for what is not JSON may hold anything, secrets included."""
    if not response.body:
        return "no body"
    kind = _kind_of(response)
    if _is_html(response):
        kind = "an HTML page (a proxy or another service? check the endpoint)"
    return f"{redact(kind) or 'a body of unknown type'}, {len(response.body)} bytes"


def _kind_of(response: HttpResponse) -> str:
    return (response.header("Content-Type") or "").partition(";")[0].strip()[:_MAX_CODE]


def _is_html(response: HttpResponse) -> bool:
    """Return whether a body is a page: it is not enough that an empty one is called so."""
    return bool(response.body) and ("html" in _kind_of(response) or response.body.lstrip()[:1] == b"<")


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _short_text(value: object) -> str | None:
    text = None if isinstance(value, list) else _text(value)
    return None if text is None else text[:_MAX_CODE]


def _read_over_limit(response: HttpResponse) -> tuple[bool, float | None]:
    """Return whether a body is Nova's "over limit", and its ``retryAfter`` in seconds, which no header may repeat."""
    try:
        body = msgspec.json.decode(response.body)
    except _UNREADABLE:
        return False, None
    if not isinstance(body, dict):
        return False, None
    parts = [part for part in (body, *body.values()) if isinstance(part, dict) and "retryAfter" in part]
    return "overLimit" in body, _seconds(str(parts[0]["retryAfter"])) if parts else None


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _read_retry_after(response: HttpResponse) -> float | None:
    value = response.header("Retry-After")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    # A date is compared with the response's own Date header: both are from one clock, while ours may be off.
    until, now = _date(value), _date(response.header("Date"))
    return max(0.0, (until - now).total_seconds()) if until and now else None


def _date(value: str | None) -> datetime | None:
    # Imported by every transport anyway, but not when this package is.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    # "-0000" means UTC from a host in an unknown zone.
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date
