"""Sans-I/O HTTP: how a call becomes a request, and what a response means; no socket and no clock."""

from .messages import HttpRequest, HttpResponse, ResponseHeaders
from .operation import Operation, Safety, Service
from .request import Query, build_request, with_body
from .response import read_error, read_fragment, read_request_id, read_response
from .retry import DEFAULT_RETRY, MAX_RETRY_AFTER, NO_RETRY, RetryPolicy, may_retry, retry_delay

__all__ = [
    "DEFAULT_RETRY",
    "MAX_RETRY_AFTER",
    "NO_RETRY",
    "HttpRequest",
    "HttpResponse",
    "Operation",
    "Query",
    "ResponseHeaders",
    "RetryPolicy",
    "Safety",
    "Service",
    "build_request",
    "may_retry",
    "read_error",
    "read_fragment",
    "read_request_id",
    "read_response",
    "retry_delay",
    "with_body",
]
