"""Transports, which send requests to the cloud over an HTTP library.

`HttpxTransport` lives in `bms_async.transport.httpx`, so that importing the package does not import httpx.
"""

from ._pending import PendingRequest, no_slot_error
from ._queue import SendQueue, TransportStatistics
from .base import MAX_RESPONSE_BYTES, OwningTransport, TaskRunningTransport, Transport
from .default import DefaultTransport

__all__ = [
    "MAX_RESPONSE_BYTES",
    "DefaultTransport",
    "OwningTransport",
    "PendingRequest",
    "SendQueue",
    "TaskRunningTransport",
    "Transport",
    "TransportStatistics",
    "no_slot_error",
]
