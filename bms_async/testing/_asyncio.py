"""The open client for tests under pytest-asyncio: one fixture for each scope of a test's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from bms_async.testing._marker import check_loop

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.testing.cloud import SimulatedCloud

__all__: list[str] = []


def _define(scope: Any) -> Any:
    @pytest_asyncio.fixture(loop_scope=scope, name=f"_bms_client_of_asyncio_{scope}")
    async def opened(request: pytest.FixtureRequest, bms_simulator: SimulatedCloud) -> AsyncIterator[BmsClient]:
        check_loop(request.node)
        async with bms_simulator.client() as bms:
            yield bms

    return opened


_function = _define("function")
_class = _define("class")
_module = _define("module")
_package = _define("package")
_session = _define("session")
