"""What Keystone is asked and answers, and what cannot be asked: pure."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bms_async.errors import (
    ApiError,
    AuthenticationError,
    CallError,
    CallTimeoutError,
    RateLimitedError,
    TransportError,
)
from bms_async.models.base import read_datetime
from bms_async.validation.common import find_unfilled, is_loopback
from bms_async.wire import HttpRequest, HttpResponse, read_error

from .base import TOKEN_OPERATION

_log = logging.getLogger("bms_async.auth")

OPERATION = TOKEN_OPERATION
CHECK = "check the user's name, password and domain, the project, and auth_url"
# Where an answer does not tell how long its token lives, which is a day as documented. A 401 mends what is left wrong.
_DEFAULT_LIFETIME = 3600.0
_WHOLE_SECOND = 1.0


class IssuedToken(msgspec.Struct):
    # Of no type, for a field that is not as documented is no reason to have no token.
    expires_at: object = None
    issued_at: object = None
    project: object = None

    @property
    def project_id(self) -> str | None:
        value = self.project.get("id") if isinstance(self.project, dict) else None
        return value if isinstance(value, str) and value else None


class TokenResponse(msgspec.Struct):
    token: IssuedToken


def renewal_margin(lifetime: float, margin: float) -> float:
    """Return how long before its end a token is renewed; a short-lived one would otherwise be renewed at every call."""
    return min(margin, lifetime / 2)


def read_lifetime(issued: IssuedToken, response: HttpResponse) -> float:
    """Return the seconds that a token lives, by the cloud's clock alone: ours may be years off."""
    end = read_datetime(issued.expires_at)
    if end is not None:
        for now in (read_date(response.header("Date")), read_datetime(issued.issued_at)):
            if now is None:
                continue
            # A time in whole seconds, as `Date` always is, was up to one later than it says.
            lifetime = (end - now).total_seconds() - (_WHOLE_SECOND if now.microsecond == 0 else 0.0)
            if lifetime > 0:
                return lifetime
    _log.warning(
        "%s: the answer does not tell how long its token lives; %g s are assumed", OPERATION, _DEFAULT_LIFETIME
    )
    return _DEFAULT_LIFETIME


def read_date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date


def is_retryable(error: CallError) -> bool:
    """Tell whether the same request may be answered better later."""
    if isinstance(error, ApiError):
        return isinstance(error, RateLimitedError) or error.status == 408 or error.status >= 500  # noqa: PLR2004
    return True


def refused_error(error: CallError, check: str = CHECK) -> AuthenticationError:
    """Return what a refusal means to the call that needed the token.

    Always of this class: a 404 of the identity service would else be read as "no such server", a 403 as the call's own.

    Args:
        error: The refusal.
        check: What its reader should look at.
    """
    assert isinstance(error, ApiError)  # noqa: S101 - what is none may pass
    return AuthenticationError(
        status=error.status,
        code=error.code,
        message=f"{error.message.rstrip('.') or 'no token'}; {check}",
        request_id=error.request_id,
        operation=OPERATION,
    )


def young_refusal(request: HttpRequest, response: HttpResponse, redact: Callable[[str], str]) -> AuthenticationError:
    """Return what it means to later calls that a token was refused a moment after it was given.

    Args:
        request: What was sent with it.
        response: The refusal.
        redact: Takes secrets out of what the cloud says.
    """
    error = read_error(request.operation, response, redact=redact)
    return AuthenticationError(
        status=error.status,
        code=error.code,
        message=f"{request.operation} was refused with a new token ({error.message.rstrip('.') or error.status}); "
        "check that the token is for this cloud and this project",
        request_id=error.request_id,
        operation=OPERATION,
    )


def unavailable_error(error: CallError, attempts: int) -> TransportError:
    """Return what a failure means to the call that needed the token: it was not sent, whatever became of ours."""
    status = getattr(error, "status", None)
    last = type(error).__name__ if status is None else f"{type(error).__name__} {status}"
    kind = CallTimeoutError if isinstance(error, CallTimeoutError) else TransportError
    tries = f"{attempts} tries, the last" if attempts > 1 else "a try that"
    text = f"no token after {tries} ended in {last}, so that the call was not sent; check auth_url"
    return kind(text, maybe_delivered=False, operation=OPERATION)


def normalize_auth_url(auth_url: str) -> str:
    return auth_url.strip().rstrip("/").removesuffix("/auth/tokens").removesuffix("/v3").rstrip("/")


def without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def validate_user(given: Mapping[str, object], password: object) -> list[str]:
    """Return all that is wrong with who the token is for; no password is in it."""
    problems = [
        f"{name} is no text" if value is not None else ""
        for name, value in given.items()
        if not is_encodable_text(value)
    ]
    problems = [problem for problem in problems if problem]
    has = {name for name, value in given.items() if value is not None}
    pairs = (
        ("username", "user_id"),
        ("user_domain_name", "user_domain_id"),
        ("project_name", "project_id"),
        ("user_id", "user_domain_name"),
        ("user_id", "user_domain_id"),
        ("project_domain_name", "project_domain_id"),
        ("project_id", "project_domain_name"),
        ("project_id", "project_domain_id"),
    )
    problems += [f"give {one} or {other}, not both" for one, other in pairs if {one, other} <= has]
    if not has & {"username", "user_id"}:
        problems.append("username or user_id is missing")
    elif "user_id" not in has and not has & {"user_domain_name", "user_domain_id"}:
        problems.append("user_domain_name or user_domain_id is missing (the account that the user belongs to)")
    if not has & {"project_name", "project_id"}:
        problems.append("project_name or project_id is missing")
    if not is_encodable_text(password):
        problems.append("password is missing, or no text that can be sent")
    return problems


def validate_margin(margin: object) -> list[str]:
    if isinstance(margin, int | float) and not isinstance(margin, bool) and 0 <= margin < math.inf:
        return []
    return [f"margin={margin!r} is no number of seconds"]


def is_encodable_text(value: object) -> bool:
    """Tell whether something can be sent: half a character cannot, and what the encoder raises would show the text."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= each <= "\udfff" for each in value)


def validate_auth_url(auth_url: object) -> list[str]:
    """Return what is wrong with the address that the password goes to; no part of it that may be secret is shown."""
    if not isinstance(auth_url, str) or not auth_url.strip():
        return ["auth_url is missing (such as 'https://iam.region.example.com/v3')"]
    text = auth_url.strip()
    if {"@", "?", "#"} & set(text):
        return ["auth_url has credentials, a query or a fragment, which do not belong there"]
    problem = None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return [f"auth_url={text!r}: {error}"]
    if parts.scheme not in ("https", "http") or not parts.hostname or not text.isprintable() or " " in text:
        problem = "no https address"
    elif parts.scheme == "http" and not is_loopback(parts.hostname):
        problem = "plain http would show the password to everybody on the way; use https (http is for loopback only)"
    elif (unfilled := find_unfilled(text)) is not None:
        problem = f"{unfilled!r} in it is not filled in; give the address of the identity service alone"
    elif normalize_auth_url(text).endswith("/v2.0"):
        problem = "version 3 of the identity service is needed"
    return [f"auth_url={text!r}: {problem}"] if problem else []
