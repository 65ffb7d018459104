"""What every test runs under: no call may block the event loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from tests.support.machine import patience

# How long an example takes is the machine's business; a law does not break because another process was busy.
# The same examples each time, so that a change and not chance breaks a test; `--hypothesis-profile=random` looks for
# new ones.
settings.register_profile("bms_async", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("bms_async")


pytest_plugins = ["bms_async.testing.plugin"]


# pytest-timeout looks after this, and the processes of pytest-xdist are given what it was set to.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.timeout is None and "PYTEST_TIMEOUT" not in os.environ:
        config.option.timeout = patience(float(config.getini("timeout")))


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[BlockBuster]:
    # The virtual clock's loop is in the package, and below it is every test's own code.
    with blockbuster_ctx("bms_async", excluded_modules=["bms_async.testing"]) as watch:
        yield watch
