"""Both libraries that `HttpxTransport` takes a client of."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import httpx
import httpx2
import pytest

from .loopback import CERTIFICATE

MakeClient: TypeAlias = Callable[..., Any]


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(scope="session")
def trusting() -> ssl.SSLContext:
    """Trust the certificate of the tests and no other; made once, for a context takes long to make."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))
