"""From an answer to a result, or to the error that it tells of."""

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

_RATE_LIMITED = frozenset({413, 429})
_OF_A_QUOTA = "quota exceeded"
_REQUEST_IDS = ("X-Request-Id", "X-Openstack-Request-Id", "X-Compute-Request-Id")
_MAX_MESSAGE = 256
_MAX_CODE = 80
_MAX_QUOTED = 4096
# No more digits than a limit can have: a number without end is an error for Python.
_QUOTA = re.compile(
    r"ratelimit\s*,?\s*limit:\s*(\d{1,9})\s*,\s*time:\s*(\d{1,9})\s*(second|minute|hour|day)?", re.IGNORECASE
)
# msgspec stops at JSON that is nested too deeply with a RecursionError.
_UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, AttributeError, RecursionError)
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def read_response(operation: Operation[T], response: HttpResponse, *, redact: Callable[[str], str] = str) -> T:
    """Read a good answer into the operation's result, or raise what a bad one tells of.

    Any 2xx is good: chapter 6.2 says that statuses may not be accurate, and Nova answers 202 where 204 is documented.

    Raises:
        ApiError: The cloud refused; the class tells by status and code what that means.
        DecodeError: The answer is good by its status but cannot be read.
    """
    if not 200 <= response.status < 300:  # noqa: PLR2004 - the HTTP classes are numbers
        raise read_error(operation.name, response, redact=redact)
    if operation.result is type(None) or (not response.body and operation.result is object):
        return cast("T", None)
    if operation.result is bytes:
        return cast("T", response.body)
    try:
        return decode(response.body, operation.result)
    except _UNREADABLE as error:
        reason = _Reason(error, redact)
    raise DecodeError(
        f"answered {response.status} with {_describe(response, redact)}, which cannot be read: {reason.text}",
        status=response.status,
        request_id=read_request_id(response, redact=redact),
        operation=operation.name,
    ) from reason.cause


def read_fragment(operation: str, part: bytes | msgspec.Raw, into: type[T], *, redact: Callable[[str], str] = str) -> T:
    """Read one part of a good answer that was kept as it came, by the same rules.

    Raises:
        DecodeError: It cannot be read.
    """
    try:
        return decode(part, into)
    except _UNREADABLE as error:
        reason = _Reason(error, redact)
    text = f"answered with a part that cannot be read as {into.__name__}: {reason.text}"
    raise DecodeError(text, status=200, operation=operation) from reason.cause


class _Reason:
    """Why something cannot be read, without any of what it says: that may be an echo of what was sent.

    Attributes:
        text: What may be told of it.
        cause: The decoder's own error, without the frames that have the answer taken apart; None where the error has a
            part of the answer in it.
    """

    __slots__ = ("cause", "text")

    def __init__(self, error: BaseException, redact: Callable[[str], str]) -> None:
        told = str(error)
        self.text = redact(told)
        quotes = self.text != told or not isinstance(error, msgspec.DecodeError | RecursionError)
        error.__context__ = None
        self.cause = None if quotes else error.with_traceback(None)


def read_request_id(response: HttpResponse, *, redact: Callable[[str], str] = str) -> str | None:
    """Return the cloud's id of a call, by which its support finds it; None if it gave none."""
    request_id = response.header(*_REQUEST_IDS)
    return None if request_id is None else mask_when_shown(request_id, redact)


def read_error(operation: str, response: HttpResponse, *, redact: Callable[[str], str] = str) -> ApiError:
    """Read an answer that is not 2xx: three shapes of body, a proxy's page, or nothing at all.

    Args:
        operation: The name of the call.
        response: The answer.
        redact: Takes secrets out of what is told of the answer. What is concluded goes by what the cloud said, in whose
            words a secret may stand by chance.
    """
    code, said, request_id = _read_error_body(response)
    request_id = response.header(*_REQUEST_IDS) or request_id
    # Cut first, for a proxy's page may be long: what is cut in the middle of a secret is masked all the same.
    request_id = None if request_id is None else mask_when_shown(request_id[:_MAX_QUOTED], redact)
    # A code that the reference prints is no secret, and the status is none either.
    if code is not None and code != str(response.status) and not explain(code):
        code = mask_when_shown(code, redact)
    said = said[:_MAX_QUOTED]
    message = redact(said)
    if 300 <= response.status < 400:  # noqa: PLR2004
        message = f"the endpoint redirects, which is never followed: check the endpoint ({message or 'no message'})"
    quota = _QUOTA.search(said)
    retry_after = _read_retry_after(response)
    is_over_limit = False
    if response.status in _RATE_LIMITED:
        is_over_limit, told = _read_over_limit(response)
        retry_after = told if retry_after is None else retry_after
        # Nova's older releases say the same of a quota of servers or cores, which no waiting mends, and ask for none.
        is_over_limit = (is_over_limit or retry_after is not None) and not (
            not retry_after and _OF_A_QUOTA in said.lower()
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
    if isinstance(body, list) and body and all(isinstance(each, dict) for each in body):
        body = {"errors": body}
    if not isinstance(body, dict):
        return None, f"answered with {_describe(response)}", None
    parts, texts = _find_parts(body)
    codes = [word for part in parts if (word := _short_text(_first(part, _CODES)))]
    # A number is mostly the status once more, and a code beside it says more.
    code = next((word for word in codes if not word.isdigit()), codes[0] if codes else None)
    told: list[str] = []
    for text in (
        *(text for part in parts for text in _texts(_first(part, _MESSAGES))),
        *texts,
        *(text for part in parts for text in _texts(_first(part, _DETAILS))),
    ):
        # What is said twice is told once.
        if not any(text in each for each in told):
            told.append(text)
    if not told:
        told = [text for part in parts for text in _texts(_first(part, _TITLES))][:1] or _leaves(parts)
    request_id = next((word for part in parts if (word := _short_text(_first(part, _REQUEST_ID)))), None)
    return code, "; ".join(told), request_id


_CODES = ("error_code", "errorCode", "errCode", "errcode", "errorcode", "code")
_MESSAGES = ("error_msg", "errorMsg", "errMsg", "errmsg", "error_message", "errorMessage", "message", "faultstring")
_DETAILS = ("details", "detail", "error_description", "reason", "msg")
_TITLES = ("title", "type")
_REQUEST_ID = ("request_id", "requestId")
_NESTED = ("errors", "error", "details", "detail", "fault")
_MAX_PARTS = 8
_MAX_LEAVES = 64


def _find_parts(body: dict[str, object]) -> tuple[list[dict[str, object]], list[str]]:
    """Return the objects of an error answer that may tell of it, the outer ones first, and the texts without a name.

    BMS and Keystone name the envelope "error", Nova names it after what happened ("itemNotFound"); the gateway has
    none. Others list several errors, each a text or an object, or have the code in an object of its own.
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
    """Return what may be a text or a list of them; objects in a list are parts of their own."""
    if isinstance(value, list):
        return [each for each in value[:_MAX_PARTS] if isinstance(each, str) and each]
    text = _text(value)
    return [] if text is None else [text]


def _leaves(parts: list[dict[str, object]]) -> list[str]:
    """Return the texts below what is named like errors and is in no known shape, each with the name it stands at.

    Below other names there may be anything, a password that was just made included.
    """
    told: list[str] = []
    named = [(name, part[name]) for part in parts for name in (*_NESTED, *_MESSAGES) if name in part]
    left: list[tuple[str, object]] = [("", value) for _, value in named[:_MAX_PARTS]]
    for name, value in left:
        room = max(0, _MAX_LEAVES - len(left))
        if isinstance(value, str) and value and name not in (*_CODES, *_REQUEST_ID):
            told.append(f"{name}: {value}" if name else value)
        elif isinstance(value, list):
            left += [(name, each) for each in value[:room]]
        elif isinstance(value, dict):
            left += list(value.items())[:room]
    return list(dict.fromkeys(told))[:_MAX_PARTS]


def _describe(response: HttpResponse, redact: Callable[[str], str] = str) -> str:
    """Name a body without quoting it: what is not JSON may be anything, secrets included."""
    if not response.body:
        return "no body"
    kind = (response.header("Content-Type") or "").partition(";")[0].strip()[:_MAX_CODE]
    if "html" in kind or response.body.lstrip()[:1] == b"<":
        kind = "an HTML page (a proxy or another service? check the endpoint)"
    return f"{redact(kind) or 'a body of unknown type'}, {len(response.body)} bytes"


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _short_text(value: object) -> str | None:
    text = None if isinstance(value, list) else _text(value)
    return None if text is None else text[:_MAX_CODE]


def _read_over_limit(response: HttpResponse) -> tuple[bool, float | None]:
    """Return whether a body is Nova's "over limit", and the seconds that it asks to wait, which may be its alone."""
    try:
        body = msgspec.json.decode(response.body)
    except _UNREADABLE:
        return False, None
    if not isinstance(body, dict):
        return False, None
    told = [each["retryAfter"] for each in (body, *body.values()) if isinstance(each, dict) and "retryAfter" in each]
    return "overLimit" in body, _seconds(str(told[0])) if told else None


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
    # A date is taken against the answer's own Date header: the two come from one clock, ours may be off.
    until, now = _date(value), _date(response.header("Date"))
    return max(0.0, (until - now).total_seconds()) if until and now else None


def _date(value: str | None) -> datetime | None:
    # A transport has imported it long since; importing this package needs not wait for it.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    # "-0000" is UTC from a clock whose zone is not known.
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date
