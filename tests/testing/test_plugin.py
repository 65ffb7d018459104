"""The fixtures and the marker as users have them: in a project of their own, under each plugin for async tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.machine import patience

INI = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p no:xdist -p bms_async.testing.plugin
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

HEAD = """
import asyncio, unittest
import anyio, pytest
from bms_async.testing import CutAfter, VirtualClockLoop, advance, run_virtually

def is_virtual():
    return isinstance(asyncio.get_running_loop(), VirtualClockLoop)

async def stop_all(bms, cloud):
    (await bms.fleet.stop(cloud.ids)).raise_for_failures()
    assert cloud.off == cloud.ids
"""

PLAIN = """
@pytest.mark.bms(servers=2)
def test_plain(bms_simulator, bms_client):
    async def main():
        async with bms_client as bms:
            await stop_all(bms, bms_simulator)
    run_virtually(main)
    assert len(bms_simulator.off) == 2
"""

ASYNCIO = """
import pytest_asyncio

@pytest_asyncio.fixture
async def controller(bms_client):
    yield bms_client
    await bms_client.quotas.get()

@pytest.mark.asyncio
@pytest.mark.bms(virtual=True)
async def test_virtual(bms_simulator, controller, bms_client):
    assert is_virtual() and controller is bms_client
    await stop_all(bms_client, bms_simulator)
    await advance(3600)

@pytest.mark.asyncio
async def test_real(bms_simulator, bms_client):
    assert not is_virtual()
    await bms_client.quotas.get()

@pytest.mark.asyncio(loop_scope="module")
class TestOneLoop:
    @pytest.mark.bms(virtual=True)
    async def test_first(self, bms_simulator, bms_client):
        assert is_virtual()
        await stop_all(bms_client, bms_simulator)

    async def test_second(self, bms_client):
        assert not is_virtual()
        await bms_client.quotas.get()
"""

ANYIO = """
@pytest.fixture
async def controller(bms_client):
    async with anyio.create_task_group() as tasks:
        yield bms_client
        tasks.cancel_scope.cancel()

@pytest.mark.anyio
@pytest.mark.bms(virtual=True)
async def test_virtual(bms_simulator, controller, bms_client):
    assert is_virtual() and controller is bms_client
    await stop_all(bms_client, bms_simulator)
    await advance(3600)

@pytest.mark.anyio
@pytest.mark.parametrize("number", [1, 2])
async def test_real(number, bms_client):
    assert not is_virtual()
    await bms_client.quotas.get()
"""

MIXED = """
from bms_async.testing import CloudSettings, SimulatedCloud

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
async def shared(anyio_backend):
    async with SimulatedCloud(CloudSettings(servers=1)).client() as bms:
        yield bms, is_virtual()

async def test_real(shared):
    assert shared[1] is is_virtual() is False
    await shared[0].quotas.get()

@pytest.mark.bms(virtual=True)
async def test_virtual(shared, bms_client):
    assert shared[1] is is_virtual() is True
    await shared[0].quotas.get()
"""

AUTO = """
@pytest.fixture
async def controller(bms_client):
    yield bms_client

@pytest.mark.bms(virtual=True)
async def test_virtual(bms_simulator, controller, bms_client):
    assert is_virtual() and controller is bms_client
    await stop_all(bms_client, bms_simulator)

async def test_real(bms_client):
    assert not is_virtual()
    await bms_client.quotas.get()

class TestOfUnittest(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def client(self, bms_client):
        self.bms = bms_client

    async def test_that_unittest_runs(self):
        async with self.bms as bms:
            await bms.quotas.get()

@pytest.mark.anyio
async def test_of_two_masters(bms_client):
    await bms_client.quotas.get()
"""

MISTAKES = """
@pytest.mark.bms(sevrers=2)
def test_misspelled(bms_simulator): ...

@pytest.mark.bms(fail_share=2)
def test_impossible(bms_simulator): ...

@pytest.mark.bms(servers="3")
def test_of_another_type(bms_simulator): ...

@pytest.mark.bms(virtual="yes")
def test_not_a_bool(bms_simulator): ...

@pytest.mark.bms(3)
def test_without_a_name(bms_simulator): ...

def test_fault_that_never_happens(bms_simulator):
    bms_simulator.faults.add("servers.stop", CutAfter())

def test_that_fails_before_its_fault(bms_simulator):
    bms_simulator.faults.add("servers.stop", CutAfter())
    assert bms_simulator is None

@pytest.fixture
def broken(bms_simulator):
    bms_simulator.faults.add("servers.stop", CutAfter())
    raise ValueError("of one's own")

def test_whose_fixture_fails(broken, bms_simulator): ...

@pytest.mark.bms(virtual=True)
class TestOfUnittest(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def client(self, bms_client):
        self.bms = bms_client

    async def test_whose_loop_is_made_by_unittest(self):
        pytest.fail("it ran")

@pytest.mark.bms(check_faults=False)
def test_fault_that_may_happen(bms_simulator):
    bms_simulator.faults.add("servers.stop", CutAfter())

@pytest.mark.anyio
@pytest.mark.bms(virtual=True)
async def test_deadlock(bms_client):
    await anyio.Event().wait()

@pytest.mark.bms(virtual=True)
async def test_that_nothing_runs(bms_client): ...

@pytest.mark.anyio
@pytest.mark.bms(virtual=True)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_on_another_clock(bms_client): ...

@pytest.mark.anyio
@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.bms(virtual=True))])
async def test_of_a_virtual_parameter(n, bms_client): ...

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio(bms_client): ...
"""

UNUSED = """
import sys

import pytest

def test_nothing_of_it_is_imported():
    ours = {name for name in sys.modules if name.startswith(("bms_async.simulator", "bms_async.testing"))}
    ours = {name.removeprefix("bms_async.testing") for name in ours}
    assert ours == {"", ".plugin", "._asyncio", "._marker"}
    assert not {"httpx", "starlette", "uvicorn", "aiolimiter"} & set(sys.modules)

@pytest.mark.asyncio
async def test_with_plugins_that_were_named(bms_client):
    await bms_client.quotas.get()

def test_without_the_extra(request):
    for name in list(sys.modules):
        if name.startswith(("bms_async.simulator", "bms_async.testing.", "starlette")):
            del sys.modules[name]
    sys.modules["starlette"] = None
    request.getfixturevalue("bms_simulator")
"""


class Ran:
    """What pytest said of a project."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.outcomes: dict[str, set[str]] = {}
        for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+\.py::([\w:]+)", text, re.MULTILINE):
            self.outcomes.setdefault(name, set()).add(outcome)

    def with_outcome(self, *outcomes: str) -> list[str]:
        return [name for name, told in self.outcomes.items() if told == set(outcomes)]

    def said_of(self, name: str) -> str:
        """Everything that is told of one test."""
        parts = re.split(r"^_{3,} (.*?) _{3,}$", self.text, flags=re.MULTILINE)
        return "\n".join(text for title, text in zip(parts[1::2], parts[2::2], strict=True) if name in title)


def run_pytest(folder: Path, files: Mapping[str, str], *flags: str, alone: bool = False) -> Ran:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    if alone:
        ours["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", "--color=no", *flags],
        cwd=folder,
        env=ours | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=patience(100.0),
        check=False,
    )
    assert done.stderr == "", done.stderr
    return Ran(done.stdout)


def test_with_pytest_asyncio_in_strict_mode_and_anyio_side_by_side(tmp_path: Path) -> None:
    ran = run_pytest(
        tmp_path,
        {
            "pytest.ini": INI,
            "test_plain.py": HEAD + PLAIN,
            "test_asyncio.py": HEAD + ASYNCIO,
            "test_anyio.py": HEAD + ANYIO,
            "test_mixed.py": HEAD + MIXED,
        },
    )
    assert ran.with_outcome("PASSED") == list(ran.outcomes), ran.text
    assert "10 passed" in ran.text


def test_with_pytest_asyncio_in_auto_mode(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, {"pytest.ini": INI, "test_auto.py": HEAD + AUTO + PLAIN}, "-o", "asyncio_mode=auto")
    assert ran.with_outcome("PASSED") == [
        "test_virtual",
        "test_real",
        "TestOfUnittest::test_that_unittest_runs",
        "test_plain",
    ], ran.text
    assert "pytest-asyncio in its auto mode runs it all the same" in ran.said_of("test_of_two_masters")


def test_with_anyio_alone_and_a_backend_of_ones_own(tmp_path: Path) -> None:
    own = "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    ini = INI.replace("asyncio_default_fixture_loop_scope = function", "")
    ran = run_pytest(
        tmp_path,
        {"pytest.ini": ini, "conftest.py": own, "test_anyio.py": HEAD + ANYIO + PLAIN},
        "-p",
        "no:asyncio",
    )
    assert ran.with_outcome("PASSED") == list(ran.outcomes), ran.text
    assert "4 passed" in ran.text


def test_every_mistake_is_told_in_words(tmp_path: Path) -> None:
    # After a deadlock anyio's runner never begins to close the client's fixture, of which Python 3.13 warns.
    ini = INI.replace("= error", "=\n    error\n    ignore:coroutine method 'asend':RuntimeWarning")
    ran = run_pytest(tmp_path, {"pytest.ini": ini, "test_mistakes.py": HEAD + MISTAKES})
    told = {
        "test_misspelled": "@pytest.mark.bms: unknown setting sevrers; did you mean servers",
        "test_impossible": "@pytest.mark.bms: fail_share must lie between 0 and 1",
        "test_of_another_type": "Expected `int`, got `str` - at `$.servers`",
        "test_not_a_bool": "virtual='yes': expected True or False",
        "test_without_a_name": "@pytest.mark.bms: expected keyword arguments, such as servers=3",
        "test_fault_that_never_happens": "<PlannedFault servers.stop, call 1: CutAfter()>: 0 times until now",
        "test_deadlock": "all tasks wait, and nothing will ever happen",
        "test_on_another_clock": "bms(virtual=True) did not get its clock",
        "test_of_a_virtual_parameter": "is for the whole test, and not for a pytest.param",
        "test_on_trio": "bms_async runs on asyncio, and this test runs on trio",
        "test_whose_loop_is_made_by_unittest": "cannot choose the loop of an IsolatedAsyncioTestCase; call",
        "test_that_nothing_runs": "async def functions are not natively supported",
    }
    for name, text in told.items():
        assert text in ran.said_of(name), (name, ran.text)
    # The test itself has said enough.
    assert ran.outcomes["test_that_fails_before_its_fault"] == {"FAILED"}
    assert ran.outcomes["test_whose_fixture_fails"] == {"ERROR"}
    assert "have not happened" not in ran.said_of("test_whose_fixture_fails")
    assert ran.with_outcome("PASSED") == ["test_fault_that_may_happen"]


def test_a_project_that_does_not_use_it_pays_nothing_and_one_without_the_extra_is_told(tmp_path: Path) -> None:
    ran = run_pytest(
        tmp_path,
        {"pytest.ini": INI.replace("-p no:xdist", ""), "test_unused.py": UNUSED},
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "bms_async.testing.plugin",
        alone=True,
    )
    assert ran.with_outcome("PASSED") == ["test_nothing_of_it_is_imported", "test_with_plugins_that_were_named"], (
        ran.text
    )
    assert "needs the extra 'simulator': pip install 'bms-async[simulator]'" in ran.said_of("test_without_the_extra")


def test_the_marker_is_explained_by_pytest_itself(pytestconfig: pytest.Config) -> None:
    assert any(line.startswith("bms(*, virtual=False") for line in pytestconfig.getini("markers"))
