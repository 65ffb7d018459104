"""What became of a request over httpx or httpx2, told as an error."""

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

# By name, because httpx2 raises classes of its own with the names of httpx. They are asked only where nothing was
# traced: whatever carries requests then, these say that it had not come to carry this one.
_BEFORE_SENDING = frozenset(
    {"ConnectError", "ConnectTimeout", "InvalidURL", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
)
_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout"})


def connect_timeout(request: HttpRequest) -> float:
    """Return the seconds that each step of connecting may take."""
    return min(request.timeout, _CONNECT_TIMEOUT)


def describe(error: Exception, request: HttpRequest, progress: Progress | None, proxy: str | None) -> TransportError:
    """Tell what became of a request.

    Args:
        error: What a library raised.
        request: The request.
        progress: How far it got; None where no library was asked for it.
        proxy: Host and port of the proxy that a connection was made to, if it was one.
    """
    if isinstance(error, TransportError):
        return error
    kind, text = type(error).__name__, mask_message(str(error), request)
    told = f"{kind}: {text}" if text else kind
    traced = progress is not None and progress.began
    sent = progress is not None and (progress.sent if traced else kind not in _BEFORE_SENDING)
    if progress is not None and traced and not sent:
        told = _describe_no_connection(kind, text, request, progress, proxy)
    elif kind in _NO_CONNECTION and not sent:
        told = describe_connect_failure(request, told)
    elif isinstance(error, zlib.error):
        told = "DecodingError: the body of the answer is not packed as its headers say"
    elif kind in {"ReadTimeout", "WriteTimeout"}:
        told = f"{kind}: no whole answer within {request.timeout:g} s"
    described = (CallTimeoutError if kind.endswith("Timeout") else TransportError)(
        told, maybe_delivered=sent, operation=request.operation
    )
    written = progress is not None and (progress.sent or progress.asked)
    described.__cause__ = keep_cause(error, request, written=written)
    return described


def describe_timeout(request: HttpRequest, progress: Progress | None, proxy: str | None) -> CallTimeoutError:
    """Tell that the time was over, and for what."""
    if progress is not None and progress.began and not progress.sent:
        told = _describe_no_connection("ConnectTimeout", "", request, progress, proxy)
        return CallTimeoutError(told, maybe_delivered=False, operation=request.operation)
    kind = "WriteTimeout" if progress is not None and progress.sent and not progress.written else "ReadTimeout"
    told = f"{kind}: no whole answer within {request.timeout:g} s"
    return CallTimeoutError(told, maybe_delivered=True, operation=request.operation)


def _describe_no_connection(kind: str, text: str, request: HttpRequest, progress: Progress, proxy: str | None) -> str:
    if kind.endswith("Timeout"):
        return describe_connect_failure(
            request, f"ConnectTimeout: nothing within {connect_timeout(request):g} s", proxy
        )
    told = f"{kind}: {text}" if text else kind
    if proxy is None:
        return describe_connect_failure(request, told)
    if not progress.asked:
        return describe_proxy_unreachable(request, text or kind, proxy)
    if not progress.answered:
        return describe_proxy_refusal(request, None, proxy)
    status = re.match(r"\d{3}", text) if kind == "ProxyError" else None
    return (
        describe_proxy_refusal(request, int(status[0]), proxy)
        if status
        else describe_connect_failure(request, told, proxy)
    )
