"""The libraries that the transports carry requests with."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import aiohttp
import httptools
import httpx
import httpx2
import pytest

from tests.transport._transports import POOLS
from tests.transport.loopback import CERTIFICATE

MakeClient: TypeAlias = Callable[..., Any]


@pytest.fixture(
    params=[POOLS, httpx, httpx2, aiohttp, httptools],
    ids=["httpx by itself", "httpx", "httpx2", "aiohttp", "httptools"],
)
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def one_of_httpx(request: pytest.FixtureRequest) -> ModuleType:
    """Give a library that `HttpxTransport` takes a client of."""
    module: ModuleType = request.param
    return module


@pytest.fixture(params=[POOLS, httpx, httpx2, httptools], ids=["httpx by itself", "httpx", "httpx2", "httptools"])
def strict_library(request: pytest.FixtureRequest) -> ModuleType:
    """Give a library whose parser shows that a next response has begun, and drops trailers; aiohttp's does neither."""
    module: ModuleType = request.param
    return module


@pytest.fixture(scope="session")
def trusting() -> ssl.SSLContext:
    """Trust the certificate of the tests and no other; made once, for a context takes long to make."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))
