"""Errors of httpx and httpx2, translated into transport errors (rule R3)."""

from __future__ import annotations

import re
import zlib

from bms_async.errors import CallTimeoutError, TransportError
from bms_async.wire import HttpRequest

from ._causes import keep_cause
from ._connect import describe_connect_failure, describe_proxy_refusal, describe_proxy_unreachable
from ._httpx_trace import Progress
from ._log_filter import mask_message

_CONNECT_TIMEOUT = 10.0

# By name, because httpx2 has classes of its own with the names of httpx. Used only where nothing was traced: by these
# errors, the request was not sent.
_BEFORE_SENDING = frozenset(
    {"ConnectError", "ConnectTimeout", "InvalidURL", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
)
_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout"})


def connect_timeout(request: HttpRequest) -> float:
    """Return the seconds that each step of connecting may take."""
    return min(request.timeout, _CONNECT_TIMEOUT)


def to_transport_error(
    error: Exception, request: HttpRequest, progress: Progress | None, proxy: str | None
) -> TransportError:
    """Return the error of a request that failed.

    Args:
        error: The error of a library.
        request: The request.
        progress: How far it got; None if it was not passed to a library.
        proxy: Host and port of the proxy that was connected to, if any.
    """
    if isinstance(error, TransportError):
        return error
    kind, text = type(error).__name__, mask_message(str(error), request)
    message = f"{kind}: {text}" if text else kind
    traced = progress is not None and progress.began
    sent = progress is not None and (progress.sent if traced else kind not in _BEFORE_SENDING)
    if progress is not None and traced and not sent:
        message = _describe_no_connection(kind, text, request, progress, proxy)
    elif kind in _NO_CONNECTION and not sent:
        message = describe_connect_failure(request, message)
    elif isinstance(error, zlib.error):
        message = "DecodingError: the response body is not encoded as its headers say"
    elif kind in {"ReadTimeout", "WriteTimeout"}:
        message = f"{kind}: no complete response within {request.timeout:g} s"
    failure = (CallTimeoutError if kind.endswith("Timeout") else TransportError)(
        message, maybe_delivered=sent, operation=request.operation
    )
    written = progress is not None and (progress.sent or progress.connect_sent)
    failure.__cause__ = keep_cause(error, request, written=written)
    return failure


def timeout_error(request: HttpRequest, progress: Progress | None, proxy: str | None) -> CallTimeoutError:
    """Return the error of a request whose time is over."""
    if progress is not None and progress.began and not progress.sent:
        message = _describe_no_connection("ConnectTimeout", "", request, progress, proxy)
        return CallTimeoutError(message, maybe_delivered=False, operation=request.operation)
    kind = "WriteTimeout" if progress is not None and progress.sent and not progress.written else "ReadTimeout"
    message = f"{kind}: no complete response within {request.timeout:g} s"
    return CallTimeoutError(message, maybe_delivered=True, operation=request.operation)


def _describe_no_connection(kind: str, text: str, request: HttpRequest, progress: Progress, proxy: str | None) -> str:
    if kind.endswith("Timeout"):
        return describe_connect_failure(
            request, f"ConnectTimeout: no connection within {connect_timeout(request):g} s", proxy
        )
    message = f"{kind}: {text}" if text else kind
    if proxy is None:
        return describe_connect_failure(request, message)
    if not progress.connect_sent:
        return describe_proxy_unreachable(request, text or kind, proxy)
    if not progress.responded:
        return describe_proxy_refusal(request, None, proxy)
    status = re.match(r"\d{3}", text) if kind == "ProxyError" else None
    return (
        describe_proxy_refusal(request, int(status[0]), proxy)
        if status
        else describe_connect_failure(request, message, proxy)
    )
