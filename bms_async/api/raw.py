"""The way out: calls that this package does not know, by method and path."""

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
"""The name that a call has which the reference does not tell of; nothing limits it."""

_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_READS = frozenset({"GET", "HEAD"})
_PART = re.compile(r"\{(\w*)\}")
_PATH = re.compile(r"/[!-~]*")
_PATH_RULE = "a path such as '/v1/{project_id}/anything': it begins with '/', and what is no ASCII is percent-encoded"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_SHORTEST_SECRET = 8
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
    """Make a call by its method and path; what `BmsClient.request` does.

    Args:
        session: What makes the call.
        method: GET, HEAD, POST, PUT, PATCH or DELETE.
        path: The path, where ``{project_id}`` stands for the client's project.
        query: None values are left out, sequences repeat their name.
        body: What is sent as JSON, as `wrap_body_secrets` made it.
        headers: Beside those that all calls have.
        service: Whose endpoint it goes to.

    Raises:
        InvalidRequestError: An argument cannot be sent.
    """
    verb = _check_method(method)
    if isinstance(body, Unencodable):
        raise InvalidRequestError("body", body.kind, f"what JSON can hold: {body.error}")
    operation = _operation(verb, _check_path(path), _check_service(service), body)
    _check_headers(headers or {})
    return await session.call(operation, query=query, body=body, headers=headers, secrets=_texts(body, headers or {}))


def _texts(body: object, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a call sends that may be a secret, as nobody can tell of an unknown one; ids are none."""
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
    return tuple(text for text in texts if len(text) >= _SHORTEST_SECRET and not _ID.fullmatch(text))


def match_operation(method: str, path: str, service: Service, body: object = None) -> Operation[Any] | None:
    """Return the documented call that this is, None if it is none.

    Args:
        method: Upper case.
        path: As asked for.
        service: Whose endpoint it goes to.
        body: What tells the actions of one path apart.
    """
    path = path.rstrip("/") or "/"
    fitting = [
        operation
        for operation in operations()
        if operation.method == method and operation.service is service and _template(operation.path).fullmatch(path)
    ]
    # ".../detail" is also ".../{server_id}": what has the fewest parts in braces is meant.
    fewest = min((len(_PART.findall(operation.path)) for operation in fitting), default=0)
    meant = [operation for operation in fitting if len(_PART.findall(operation.path)) == fewest]
    if len(meant) == 1 and not path.endswith("/action"):
        return meant[0]
    actions = {str(key).removeprefix("os-") for key in body} if isinstance(body, Mapping) else set()
    return next((operation for operation in meant if operation.name.rpartition(".")[2] in actions), None)


def _operation(method: str, path: str, service: Service, body: object) -> Operation[Any]:
    known = match_operation(method, path, service, body)
    return Operation(
        name=known.name if known else UNKNOWN_CALL,
        method=method,
        path=path,
        result=type(None) if method == "HEAD" else object,
        # Whether an unknown call may be sent twice nobody can tell; and who comes here for a known one asked for it.
        safety=Safety.READ if method in _READS else Safety.UNSAFE,
        chapter=known.chapter if known else "",
        service=service,
    )


@lru_cache(maxsize=512)
def _template(path: str) -> re.Pattern[str]:
    parts = _PART.split(path.rstrip("/") or "/")
    # split() puts the names between the texts.
    return re.compile("".join("[^/]+" if number % 2 else re.escape(text) for number, text in enumerate(parts)))


def wrap_body_secrets(body: object) -> object:
    """Return a body as dicts and lists, whose keys tell the actions of one path apart and whose texts show nothing.

    Args:
        body: What is to be sent as JSON.

    Returns:
        What `request` takes; of what JSON cannot hold, it tells there.
    """
    try:
        return wrap_secrets(msgspec.to_builtins(body, enc_hook=write_secret))
    except (TypeError, ValueError, RecursionError) as error:
        return Unencodable(error.with_traceback(None), kind=type(body).__name__)


def _check_method(method: object) -> str:
    verb = method.upper() if isinstance(method, str) else None
    if verb not in _METHODS:
        raise InvalidRequestError("method", method, f"one of {', '.join(sorted(_METHODS))}")
    return verb


def _check_path(path: object) -> str:
    if not isinstance(path, str) or not _PATH.fullmatch(path) or path.startswith("//"):
        shown = path.partition("?")[0].partition("#")[0] if isinstance(path, str) else path
        raise InvalidRequestError("path", shown, _PATH_RULE)
    if "?" in path or "#" in path:
        raise InvalidRequestError(
            "path", path.partition("?")[0].partition("#")[0], "a path without a query; give that as query={...}"
        )
    unknown = [part for part in _PART.findall(path) if part != "project_id"]
    if unknown or len(_PART.findall(path)) != path.count("{") or path.count("{") != path.count("}"):
        raise InvalidRequestError("path", path, "of what is in braces only {project_id} is filled in")
    # HTTP libraries take them for steps, and the signature would be another path's.
    if {".", ".."} & set(path.split("/")):
        raise InvalidRequestError("path", path, "no step '.' or '..' in the path")
    return path


def _check_service(service: object) -> Service:
    try:
        return Service(str(service))
    except ValueError as error:
        raise InvalidRequestError("service", service, f"one of {', '.join(Service)}") from error


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise InvalidRequestError("headers", name, "not the name of a header")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequestError(f"headers[{name!r}]", None, "a header's value is printable ASCII")
