"""Keystone's responses, and the validation of arguments for its requests: pure."""

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
from bms_async.models import read_datetime
from bms_async.validation.common import find_unfilled, is_loopback
from bms_async.wire import HttpRequest, HttpResponse, read_error

from .base import TOKEN_OPERATION

_log = logging.getLogger("bms_async.auth")

OPERATION = TOKEN_OPERATION
HINT = "check the user's name, password and domain, the project, and auth_url"
# Seconds, if the response does not have the lifetime, which is documented as a day. Too long costs one 401.
_DEFAULT_LIFETIME = 3600.0
_WHOLE_SECOND = 1.0
_REQUEST_TIMEOUT, _SERVER_ERROR = 408, 500


class IssuedToken(msgspec.Struct):
    # Untyped: a field that is not as documented must not cost the token.
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
    """Return the seconds before its end at which a token is renewed: at most half of its life."""
    return min(margin, lifetime / 2)


def read_lifetime(issued: IssuedToken, response: HttpResponse) -> float:
    """Return the lifetime of a token in seconds, by the cloud's clock alone: ours may be years off."""
    end = read_datetime(issued.expires_at)
    if end is not None:
        for now in (read_date(response.header("Date")), read_datetime(issued.issued_at)):
            if now is None:
                continue
            # A time in whole seconds, as `Date` always is, was rounded down by up to one second.
            lifetime = (end - now).total_seconds() - (_WHOLE_SECOND if now.microsecond == 0 else 0.0)
            if lifetime > 0:
                return lifetime
    _log.warning("%s: the response has no lifetime for its token; assuming %g s", OPERATION, _DEFAULT_LIFETIME)
    return _DEFAULT_LIFETIME


def read_date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date


def is_retryable(error: CallError) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, ApiError):
        return isinstance(error, RateLimitedError) or error.status == _REQUEST_TIMEOUT or error.status >= _SERVER_ERROR
    return True


def refused_error(error: CallError, hint: str = HINT) -> AuthenticationError:
    """Return the error of a call that needed a token, for a refusal by the identity service.

    Always an `AuthenticationError`: a 404 would else read as "no such server", and a 403 as one of the call itself.

    Args:
        error: The refusal.
        hint: What the user should check.
    """
    assert isinstance(error, ApiError)  # noqa: S101 - all others are retryable
    return AuthenticationError(
        status=error.status,
        code=error.code,
        message=f"{error.message.rstrip('.') or 'no token'}; {hint}",
        request_id=error.request_id,
        operation=OPERATION,
    )


def young_refusal(request: HttpRequest, response: HttpResponse, redact: Callable[[str], str]) -> AuthenticationError:
    """Return the error of later calls, for a new token that was refused.

    Args:
        request: The request that was refused.
        response: The refusal.
        redact: Masks secrets in the cloud's text.
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
    """Return the error of a call that needed a token and was not sent, for a failed request for one."""
    status = getattr(error, "status", None)
    last = type(error).__name__ if status is None else f"{type(error).__name__} {status}"
    kind = CallTimeoutError if isinstance(error, CallTimeoutError) else TransportError
    count = f"{attempts} attempts, the last of which" if attempts > 1 else "one attempt, which"
    text = f"no token after {count} failed with {last}; the call was not sent; check auth_url"
    return kind(text, maybe_delivered=False, operation=OPERATION)


def normalize_auth_url(auth_url: str) -> str:
    return auth_url.strip().rstrip("/").removesuffix("/auth/tokens").removesuffix("/v3").rstrip("/")


def without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def validate_user(given: Mapping[str, object], password: object) -> list[str]:
    """Return the problems of the arguments that name user and project, without the password."""
    problems = [
        f"{name}: expected a text that is not empty"
        for name, value in given.items()
        if value is not None and not is_encodable_text(value)
    ]
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
        problems.append("password is missing, or is not a text that can be encoded")
    return problems


def validate_margin(margin: object) -> list[str]:
    if isinstance(margin, int | float) and not isinstance(margin, bool) and 0 <= margin < math.inf:
        return []
    return [f"margin={margin!r}: expected a number of seconds"]


def is_encodable_text(value: object) -> bool:
    """Return whether a value is a text, not blank, without lone surrogates: an encoder's error would show it."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= char <= "\udfff" for char in value)


def validate_auth_url(auth_url: object) -> list[str]:
    """Return the problems of the address that the password is sent to, without any part of it that may be secret."""
    if not isinstance(auth_url, str) or not auth_url.strip():
        return ["auth_url is missing (such as 'https://iam.region.example.com/v3')"]
    text = auth_url.strip()
    if {"@", "?", "#"} & set(text):
        return ["auth_url: expected an address without credentials, a query or a fragment"]
    problem = None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return [f"auth_url={text!r}: {error}"]
    if parts.scheme not in ("https", "http") or not parts.hostname or not text.isprintable() or " " in text:
        problem = "expected an https address"
    elif parts.scheme == "http" and not is_loopback(parts.hostname):
        problem = "expected https, got http, which would expose the password; http is accepted for loopback only"
    elif (unfilled := find_unfilled(text)) is not None:
        problem = f"{unfilled!r} is not filled in; give the address of the identity service alone"
    elif normalize_auth_url(text).endswith("/v2.0"):
        problem = "expected version 3 of the identity service, got 2.0"
    return [f"auth_url={text!r}: {problem}"] if problem else []
