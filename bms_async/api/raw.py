"""The escape hatch: any call, by its method and path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.redaction import Unencodable, wrap_secrets, write_secret
from bms_async.session import Session
from bms_async.wire import Operation, Query, Safety, Service

from ._registry import operations

ServiceName: TypeAlias = Literal["bms", "compute", "identity"]

UNKNOWN_CALL = "request"
"""The name of an undocumented call; it has no rate limit."""

_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_READS = frozenset({"GET", "HEAD"})
_PARAMETER = re.compile(r"\{(\w*)\}")
_PATH = re.compile(r"/[!-~]*")
_PATH_RULE = "expected a path such as '/v1/{project_id}/anything', in ASCII; percent-encode the rest"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_MIN_SECRET_LENGTH = 8
_HEADER_VALUE = re.compile(r"[ -~]*")


async def request(
    session: Session,
    method: str,
    path: str,
    *,
    query: Query | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    service: ServiceName = "bms",
) -> object:
    """Make a call by its method and path; implements `BmsClient.request`.

    Args:
        session: The session that makes the call.
        method: GET, HEAD, POST, PUT, PATCH or DELETE.
        path: The path; ``{project_id}`` is replaced by the client's project.
        query: None values are left out, sequences repeat their name.
        body: The JSON body, as returned by `wrap_body_secrets`.
        headers: Headers beyond the common ones.
        service: The service whose endpoint the call goes to.

    Raises:
        InvalidRequestError: An argument cannot be sent.
    """
    verb = _check_method(method)
    if isinstance(body, Unencodable):
        raise InvalidRequestError("body", None, f"expected JSON, got {body.kind}: {body.error}", secret=True)
    operation = _operation(verb, _check_path(path), _check_service(service), body)
    _check_headers(headers or {})
    return await session.call(operation, query=query, body=body, headers=headers, secrets=_texts(body, headers or {}))


def _texts(body: object, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return every text that a call sends except ids: any may be a secret, for nothing is known of the call."""
    pending: list[object] = [body, *headers.values()]
    texts: list[str] = []
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return tuple(text for text in texts if len(text) >= _MIN_SECRET_LENGTH and not _ID.fullmatch(text))


def match_operation(method: str, path: str, service: Service, body: object = None) -> Operation[Any] | None:
    """Return the documented call of a method and path; None if there is none.

    Args:
        method: Upper case.
        path: The path, as given.
        service: The service whose endpoint the call goes to.
        body: The body, which distinguishes the actions of one path.
    """
    path = path.rstrip("/") or "/"
    matches = [
        operation
        for operation in operations()
        if operation.method == method and operation.service is service and _template(operation.path).fullmatch(path)
    ]
    # ".../detail" matches ".../{server_id}" too: the path with the fewest parameters wins.
    fewest = min((len(_PARAMETER.findall(operation.path)) for operation in matches), default=0)
    matches = [operation for operation in matches if len(_PARAMETER.findall(operation.path)) == fewest]
    if len(matches) == 1 and not path.endswith("/action"):
        return matches[0]
    actions = {str(key).removeprefix("os-") for key in body} if isinstance(body, Mapping) else set()
    return next((operation for operation in matches if operation.name.rpartition(".")[2] in actions), None)


def _operation(method: str, path: str, service: Service, body: object) -> Operation[Any]:
    known = match_operation(method, path, service, body)
    return Operation(
        name=known.name if known else UNKNOWN_CALL,
        method=method,
        path=path,
        result=type(None) if method == "HEAD" else object,
        # It is unknown whether an unknown call may be repeated; a known one made this way is treated alike.
        safety=Safety.READ if method in _READS else Safety.UNSAFE,
        chapter=known.chapter if known else "",
        service=service,
    )


@lru_cache(maxsize=512)
def _template(path: str) -> re.Pattern[str]:
    parts = _PARAMETER.split(path.rstrip("/") or "/")
    # split() returns texts and parameter names alternately.
    return re.compile("".join("[^/]+" if index % 2 else re.escape(text) for index, text in enumerate(parts)))


def wrap_body_secrets(body: object) -> object:
    """Return a body as dicts and lists, with every text in it as a `SecretStr`.

    Args:
        body: A body that can be encoded as JSON.

    Returns:
        The body for `request`, which also raises the error of one that cannot be encoded.
    """
    try:
        return wrap_secrets(msgspec.to_builtins(body, enc_hook=write_secret))
    except (TypeError, ValueError, RecursionError) as error:
        return Unencodable(error.with_traceback(None), kind=type(body).__name__)


def _check_method(method: object) -> str:
    verb = method.upper() if isinstance(method, str) else None
    if verb not in _METHODS:
        raise InvalidRequestError("method", method, f"expected one of {', '.join(sorted(_METHODS))}")
    return verb


def _check_path(path: object) -> str:
    if not isinstance(path, str) or not _PATH.fullmatch(path) or path.startswith("//"):
        shown = path.partition("?")[0].partition("#")[0] if isinstance(path, str) else path
        raise InvalidRequestError("path", shown, _PATH_RULE)
    if "?" in path or "#" in path:
        rule = "expected a path without a query; pass it as query={...}"
        raise InvalidRequestError("path", path.partition("?")[0].partition("#")[0], rule)
    unknown = [part for part in _PARAMETER.findall(path) if part != "project_id"]
    if unknown or len(_PARAMETER.findall(path)) != path.count("{") or path.count("{") != path.count("}"):
        raise InvalidRequestError("path", path, "expected no braces but {project_id}; fill in the other parts")
    # HTTP libraries resolve dot segments, and the signature would be that of another path.
    if {".", ".."} & set(path.split("/")):
        raise InvalidRequestError("path", path, "expected a path without '.' and '..' segments")
    return path


def _check_service(service: object) -> Service:
    try:
        return Service(str(service))
    except ValueError as error:
        raise InvalidRequestError("service", service, f"expected one of {', '.join(Service)}") from error


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise InvalidRequestError("headers", name, "expected the name of a header")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequestError(f"headers[{name!r}]", value, "expected printable ASCII", secret=True)
