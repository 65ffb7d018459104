"""What a call is made with beside its operation: the keyword arguments that `Session.call` takes and `Call` keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypedDict

import msgspec

from bms_async.wire import HttpResponse, Query, RetryPolicy


class CallKeywords(TypedDict, total=False):
    """What a call is made with beside its operation and its lane: the keyword arguments of `Session.call`."""

    path: Mapping[str, str] | None
    """A value for each parameter of the operation's path but the project."""
    query: Query | None
    """The query."""
    body: object
    """The body."""
    make_body: Callable[[], object] | None
    """Returns the body in place of `body`, called once each attempt has its slot: until then it may grow. What it
    raises keeps the request from being sent, and ends the call."""
    headers: Mapping[str, str] | None
    """Headers that this call needs beside the operation's own."""
    retry: RetryPolicy | None
    """How the call is retried, where that must differ from the options."""
    before_send: Callable[[], Awaitable[None]] | None
    """Awaited once an attempt has its slot and its credentials, and before its request is handed to the transport. What
    it raises keeps the request from being sent, and ends the call."""
    on_send: Callable[[], None] | None
    """Called when a request is handed to the transport: from then on the cloud may act on it."""
    on_refused: Callable[[], None] | None
    """Called when the cloud surely acted on no attempt so far, and the call is to be retried."""
    on_response: Callable[[HttpResponse], None] | None
    """Called with each response as it arrived, whatever its status, before it is read."""
    secrets: Sequence[str | None]
    """Secrets that the call sends, masked where the cloud or a proxy echoes them; None entries are ignored."""


class CallArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The keyword arguments of one call; `CallKeywords` says what each of them is."""

    path: Mapping[str, str] | None = None
    query: Query | None = None
    body: object = None
    make_body: Callable[[], object] | None = None
    headers: Mapping[str, str] | None = None
    retry: RetryPolicy | None = None
    before_send: Callable[[], Awaitable[None]] | None = None
    on_send: Callable[[], None] | None = None
    on_refused: Callable[[], None] | None = None
    on_response: Callable[[HttpResponse], None] | None = None
    secrets: Sequence[str | None] = ()
