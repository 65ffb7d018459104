"""The clients whose calls are measured, each behind one function that makes a call.

Every client polls the same job. Raw libraries read its JSON into dicts with msgspec; ours and the floor read it into a
typed Job.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks._floor import FloorClient
from benchmarks._samples import ACCESS_KEY, JOB_ID, JOB_PATH, PROJECT, REQUEST_HEADERS, SECRET_KEY, TOKEN
from bms_async import (
    AiohttpTransport,
    AkSkAuth,
    Auth,
    BmsClient,
    Http1Transport,
    HttpRequest,
    HttpxTransport,
    Limits,
    StaticToken,
)
from bms_async.models import Job, decode
from bms_async.transport import DefaultTransport, OwningTransport

AsyncCall = Callable[[], Awaitable[object]]
BlockingCall = Callable[[], object]

BASELINE = "aiohttp"
OURS, SIGNED = "ours", "ours signed"
OURS_ON_AIOHTTP, OURS_ON_HTTP1, OURS_ON_HTTPX = "ours on aiohttp", "ours on http1", "ours on httpx"
SEAM, FLOOR, FLOOR_RAW = "ours seam", "floor", "floor-raw"


class Site(NamedTuple):
    """Where a server is.

    Attributes:
        address: Scheme, host and port.
        authority: The file of the certificate that TLS trusts; None for plain HTTP.
    """

    address: str
    authority: str | None

    @property
    def context(self) -> ssl.SSLContext | None:
        """What a client verifies TLS with."""
        return None if self.authority is None else ssl.create_default_context(cafile=self.authority)

    def read_authority(self) -> bytes:
        """Return that certificate as a text, for clients that read no files."""
        return b"" if self.authority is None else Path(self.authority).read_bytes()

    @property
    def url(self) -> str:
        """The address of the job."""
        return self.address + JOB_PATH


_LIMITS = Limits({"jobs.get": 1_000_000_000})
"""The only change of a default: 2,000 calls a minute would be used up in a second. One for all, as of one project."""


def _default(site: Site) -> OwningTransport:
    return DefaultTransport(ca_bundle=site.authority)


def _http1(site: Site) -> OwningTransport:
    return Http1Transport(ca_bundle=site.authority)


def _on_aiohttp(site: Site) -> OwningTransport:
    import aiohttp

    return AiohttpTransport(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context or True)))


def _on_httpx(site: Site) -> OwningTransport:
    return HttpxTransport(ca_bundle=site.authority)


def _on_httpx2(site: Site) -> OwningTransport:
    import httpx2

    limits, trust = httpx2.Limits(max_connections=1), site.context or httpx2.create_ssl_context()
    return HttpxTransport(lambda: httpx2.AsyncClient(limits=limits, verify=trust))


Makes = Callable[[Site], OwningTransport]
Opens = Callable[[Site], AbstractAsyncContextManager[AsyncCall]]


def ours(make: Makes, auth: Callable[[], Auth] = lambda: StaticToken(TOKEN)) -> Opens:
    """Our client: limited, logged, retried, read into a typed job."""

    @asynccontextmanager
    async def opened(site: Site) -> AsyncIterator[AsyncCall]:
        async with BmsClient(
            endpoint=site.address,
            project_id=PROJECT,
            auth=auth(),
            transport=make(site),
            limits=_LIMITS,
        ) as bms:
            yield lambda: bms.jobs.get(JOB_ID)

    return opened


def seam(make: Makes) -> Opens:
    """A transport of ours by itself: a request that is ready is sent, and its response is not read."""

    @asynccontextmanager
    async def opened(site: Site) -> AsyncIterator[AsyncCall]:
        headers = {**REQUEST_HEADERS, "User-Agent": "bms-async"}
        request = HttpRequest(operation="jobs.get", method="GET", url=site.url, headers=headers)
        transport = make(site)
        await transport.open()
        try:
            yield lambda: transport.send(request)
        finally:
            await transport.aclose()

    return opened


@asynccontextmanager
async def floor(site: Site) -> AsyncIterator[AsyncCall]:
    """The least client that reads a typed job."""
    client = FloorClient(site.address, site.context)

    async def call() -> object:
        return decode(await client.get(JOB_PATH), Job)

    yield call
    client.close()


@asynccontextmanager
async def floor_raw(site: Site) -> AsyncIterator[AsyncCall]:
    """The same without reading."""
    client = FloorClient(site.address, site.context)
    yield lambda: client.get(JOB_PATH)
    client.close()


@asynccontextmanager
async def raw_aiohttp(site: Site) -> AsyncIterator[AsyncCall]:
    """An aiohttp session with its defaults."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context or True)) as session:

        async def call() -> object:
            async with session.get(site.url, headers=REQUEST_HEADERS) as response:
                return msgspec.json.decode(await response.read())

        yield call


def raw_httpx(library: str) -> Opens:
    """An httpx client with its defaults."""

    @asynccontextmanager
    async def opened(site: Site) -> AsyncIterator[AsyncCall]:
        async with import_module(library).AsyncClient(timeout=120, verify=site.context or True) as client:

            async def call() -> object:
                response = await client.get(site.url, headers=REQUEST_HEADERS)
                return msgspec.json.decode(response.content)

            yield call

    return opened


@asynccontextmanager
async def raw_pyreqwest(site: Site) -> AsyncIterator[AsyncCall]:
    """A client of pyreqwest, which sends in a thread of its own."""
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().error_for_status()
    if site.authority is not None:
        builder = builder.add_root_certificate_pem(site.read_authority())
    async with builder.build() as client:

        async def call() -> object:
            response = await client.get(site.url).headers(REQUEST_HEADERS).build().send()
            return msgspec.json.decode(await response.bytes())

        yield call


@asynccontextmanager
async def raw_wreq(site: Site) -> AsyncIterator[AsyncCall]:
    """A client of wreq, which sends in threads of its own."""
    import wreq

    client = wreq.Client() if site.authority is None else wreq.Client(tls_verify=Path(site.authority))

    async def call() -> object:
        response = await client.get(site.url, headers=REQUEST_HEADERS)
        return msgspec.json.decode(await response.bytes())

    yield call
    client.close()


def _vendor(kind: str, site: Site) -> tuple[Any, Any]:
    from huaweicloudsdkbms import v1
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig

    builder = getattr(v1, kind).new_builder().with_http_config(HttpConfig(timeout=120, ssl_ca_cert=site.authority))
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY, PROJECT)
    client = builder.with_credentials(credentials).with_endpoint(site.address).build()
    return client, v1.ShowJobInfosRequest(job_id=JOB_ID)


@asynccontextmanager
async def vendor_async(site: Site) -> AsyncIterator[AsyncCall]:
    """The vendor's client that returns futures of its own threads."""
    client, request = _vendor("BmsAsyncClient", site)

    async def call() -> object:
        # Its own `result` blocks; awaiting the futures inside costs it less than a thread for each caller.
        sending = client.show_job_infos_async(request)._future  # noqa: SLF001
        response: Any = await asyncio.wrap_future(await asyncio.wrap_future(sending))
        return response.data

    yield call


@contextmanager
def vendor_in_threads(site: Site) -> Iterator[BlockingCall]:
    """The vendor's blocking client."""
    client, request = _vendor("BmsClient", site)
    yield lambda: client.show_job_infos(request)


@contextmanager
def openstacksdk(site: Site) -> Iterator[BlockingCall]:
    """A blocking proxy of openstacksdk, which has no call for jobs; its response is read as JSON."""
    import openstack
    from keystoneauth1 import session, token_endpoint
    from openstack.proxy import Proxy

    endpoint = f"{site.address}/v1/{PROJECT}"
    given = session.Session(auth=token_endpoint.Token(endpoint, TOKEN), verify=site.authority or True)
    # A proxy finds its connection by the session, which holds no reference to it.
    connection = openstack.connection.Connection(session=given)
    given._sdk_connection = connection  # type: ignore[attr-defined]  # noqa: SLF001
    proxy: Any = Proxy(session=given, service_type="compute", endpoint_override=endpoint)
    yield lambda: proxy.get(f"/jobs/{JOB_ID}").json()


ASYNC: Mapping[str, Opens] = {
    BASELINE: raw_aiohttp,
    OURS: ours(_default),
    SIGNED: ours(_default, lambda: AkSkAuth(ACCESS_KEY, SECRET_KEY)),
    OURS_ON_HTTP1: ours(_http1),
    OURS_ON_AIOHTTP: ours(_on_aiohttp),
    OURS_ON_HTTPX: ours(_on_httpx),
    "ours on httpx2": ours(_on_httpx2),
    SEAM: seam(_default),
    "ours seam, http1": seam(_http1),
    "ours seam, aiohttp": seam(_on_aiohttp),
    FLOOR: floor,
    FLOOR_RAW: floor_raw,
    "pyreqwest": raw_pyreqwest,
    "wreq": raw_wreq,
    "httpx2": raw_httpx("httpx2"),
    "httpx": raw_httpx("httpx"),
    "vendor's BmsAsyncClient": vendor_async,
}
"""The clients that are awaited, the baseline first."""

BLOCKING: Mapping[str, Callable[[Site], Any]] = {
    "vendor's BmsClient in threads": vendor_in_threads,
    "openstacksdk in threads": openstacksdk,
}
"""The clients that block, each caller in a thread of its own."""

SDKS = {
    "vendor's BmsAsyncClient": SIGNED,
    "vendor's BmsClient in threads": SIGNED,
    "openstacksdk in threads": OURS,
}
"""The other SDKs, each with our client that does the same work: the vendor's sign, openstacksdk has a token."""

MOST_CALLERS = {"httpx": 100, "httpx2": 100}
"""The callers that a client is measured with at most: the pools of these scan all connections for each request, so that
a thousand calls at once take them a minute."""

BRIEF = (BASELINE, OURS, SIGNED, OURS_ON_AIOHTTP, SEAM, FLOOR, FLOOR_RAW, "pyreqwest", "wreq")
"""The clients that are measured over TLS and on uvloop, unless others are named: the SDKs differ too much to repeat."""
