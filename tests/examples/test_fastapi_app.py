"""`examples/fastapi_app.py`, tested as its users test theirs: FastAPI's client before a simulated cloud."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.testclient import TestClient

from bms_async.testing import SimulatedCloud, Throttled
from examples import fastapi_app as example
from tests.examples.first_screen import EXAMPLES, requests, server_of, traced
from tests.examples.processes import running, simulator
from tests.examples.sse import Event, read_events
