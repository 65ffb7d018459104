"""The path of one call: network latency, rate limit, injected faults, credentials, handler."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.faults import (
    Answer,
    CutAfter,
    CutBefore,
    Delay,
    DroppedMarker,
    Fault,
    GarbledJob,
    HalfBody,
    NotFoundJob,
    ShortPage,
    SimulatedCut,
    Throttled,
    Unauthorized,
    garble,
    shorten,
)
from bms_async.simulator.core.refusals import Refusal, bad_request, not_this_token, throttled
from bms_async.simulator.http.requests import read_object
from bms_async.simulator.http.signatures import http_date, is_signed, verify

__all__ = ["Call", "Endpoint", "Gateway", "OperationOf", "Reply", "refuse", "respond"]

# Named in a 429 for a call without a documented limit.
_DEFAULT_LIMIT: Final = 100
_NATIVE: Final = "nova."
_OK: Final = 200
_NO_CONTENT: Final = 204
_UNAUTHORIZED: Final = 401
_BODILESS_METHODS: Final = {"GET", "HEAD", "DELETE"}


class Call(NamedTuple):
    """A call as handlers receive it; `content` is the decoded body, if there is one."""

    request: Request
    content: dict[str, Any] | None

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    @property
    def base(self) -> str:
        """The address by which the caller reached the cloud."""
        return str(self.request.base_url).rstrip("/")


class Reply(NamedTuple):
    """A response that is more than status 200 and a body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] | None = None


Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Call], Awaitable[bytes | Reply]]
OperationOf = Callable[[dict[str, Any] | None], str]
"""Returns the operation by the body, for a URI that several operations share."""


class Gateway:
    """The gateway in front of every documented call of one cloud."""

    __slots__ = ("_cloud",)

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def guard(self, operation: str | OperationOf, handler: Handler, *, public: bool = False) -> Endpoint:
        """Make an endpoint of a handler.

        Args:
            operation: The operation's name, or a function that returns it by the body.
            handler: Does the work and returns the body of the response.
            public: Whether no credentials are needed.
        """

        async def endpoint(request: Request) -> Response:
            there, back = self._cloud.draw_latency()
            if there:
                await anyio.sleep(there)
            # Bodies are read only where there can be one: a poll must stay cheap.
            content = None if request.method in _BODILESS_METHODS else read_object(await request.body())
            name = operation if isinstance(operation, str) else operation(content)
            response = await self._serve(name, Call(request, content), handler, public=public)
            if name.startswith(_NATIVE):
                # The native endpoints close every connection (API reference, chapter 2).
                response.headers["Connection"] = "close"
            if back:
                await anyio.sleep(back)
            return response

        return endpoint

    async def _serve(self, operation: str, call: Call, handler: Handler, *, public: bool) -> Response:
        cloud = self._cloud
        nth, wait = cloud.arrive(operation)
        if wait > 0.0:
            settings = cloud.settings
            return self._throttled(operation, math.ceil(wait) if settings.retry_after else None)

        response = await self._handle(operation, nth, call, handler, public=public)
        if response.status_code == _UNAUTHORIZED:
            cloud.note_unauthorized(operation)
        return response

    async def _handle(self, operation: str, nth: int, call: Call, handler: Handler, *, public: bool) -> Response:
        cloud = self._cloud

        fault = cloud.fault(operation, nth, call.request.url.path)
        if isinstance(fault, DroppedMarker):
            call = _without_offset(call)

        async def act() -> Response:
            try:
                if not public:
                    await self._check(call.request)
                result = await handler(call)
                status, body, headers = result if isinstance(result, Reply) else (200, result, None)
                return respond(cloud, status, body, headers)
            except Refusal as refusal:
                return refuse(cloud, refusal)

        if fault is None:
            return await act()
        return await self._apply_fault(fault, operation, act)

    async def _apply_fault(self, fault: Fault, operation: str, act: Callable[[], Awaitable[Response]]) -> Response:
        if isinstance(fault, Delay):
            if not fault.acted:
                await anyio.sleep(fault.seconds)
            response = await act()
            if fault.acted:
                await anyio.sleep(fault.seconds)
            return response
        if isinstance(fault, HalfBody | GarbledJob | ShortPage):
            return _corrupt(await act(), fault)
        if isinstance(fault, DroppedMarker):
            return await act()
        if isinstance(fault, CutAfter) or (isinstance(fault, Answer) and fault.acted):
            await act()
        return self._fault_response(fault, operation)

    def _fault_response(
        self, fault: Answer | Throttled | Unauthorized | NotFoundJob | CutBefore | CutAfter, operation: str
    ) -> Response:
        cloud = self._cloud
        match fault:
            case Answer():
                return respond(cloud, fault.status, fault.body, fault.headers)
            case Throttled():
                return self._throttled(operation, fault.retry_after)
            case Unauthorized():
                return refuse(cloud, not_this_token())
            case NotFoundJob():
                return refuse(cloud, Refusal(404, "BMS.0018", "There is no such job."))
            case CutBefore() | CutAfter():
                return _Cut(delivered=isinstance(fault, CutAfter))

    async def _check(self, request: Request) -> None:
        served = self._cloud.settings.project_id
        granted: str | None = served
        if is_signed(request):
            await verify(request, self._cloud.access_keys, self._cloud.unix_now())
        else:
            grant = self._cloud.grant_of(request.headers.get("x-auth-token"))
            if grant is None:
                raise not_this_token()
            granted = grant.project_id
        project_id = request.path_params.get("project_id")
        if project_id is None:
            return
        if granted is None:
            # All calls belong to a project (API reference 3.2), so that the gateway refuses a token without one.
            raise not_this_token()
        if not project_id == granted == served:
            if request.url.path.startswith("/v2.1/"):
                raise bad_request("The project of the URL is not the one of the credentials.")
            raise Refusal(400, "Common.0018", "The credentials belong to another project.")

    def _throttled(self, operation: str, retry_after: int | None) -> Response:
        settings = self._cloud.settings
        limit = settings.limit_of(settings.budget_of(operation)) or _DEFAULT_LIMIT
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return refuse(self._cloud, throttled(limit), headers)


class _Cut(Response):
    """Begins a response and breaks off, so that uvicorn closes the connection instead of sending a 500."""

    def __init__(self, *, delivered: bool) -> None:
        super().__init__(headers={"Content-Length": "1"})
        self._delivered = delivered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        raise SimulatedCut(delivered=self._delivered)


def _without_offset(call: Call) -> Call:
    """Return the call without its marker and offset."""
    query = call.request.query_params.multi_items()
    left = urlencode([(name, value) for name, value in query if name not in {"marker", "offset"}])
    return Call(Request({**call.request.scope, "query_string": left.encode()}), call.content)


def _corrupt(response: Response, fault: HalfBody | GarbledJob | ShortPage) -> Response:
    body = bytes(response.body)
    if isinstance(fault, HalfBody):
        body = body[: int(len(body) * fault.share)]
    elif response.status_code == _OK:
        body = shorten(body, fault) if isinstance(fault, ShortPage) else garble(body, fault)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(body, response.status_code, headers)


def respond(cloud: Cloud, status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    """Make a response, with the request id and date that all responses carry."""
    given = {"X-Request-Id": cloud.new_request_id(), "Date": http_date(cloud.unix_now())}
    if status != _NO_CONTENT:
        given["Content-Type"] = "application/json"
    for name, value in (headers or {}).items():
        given = {k: v for k, v in given.items() if k.lower() != name.lower()}
        given[name] = value
    return Response(body, status, given)


def refuse(cloud: Cloud, refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
    """Make the response of a refusal; body and header have the same request id."""
    request_id = cloud.new_request_id()
    named = {"X-Request-Id": request_id, **(headers or {})}
    return respond(cloud, refusal.status, refusal.body(request_id), named)
