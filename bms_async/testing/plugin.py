"""The pytest plugin: the fixtures `bms_simulator` and `bms_client`, and the marker `bms`.

A test run loads it only if its ``conftest.py`` has ``pytest_plugins = ["bms_async.testing.plugin"]``. What the fixtures
need is imported when one is used.
"""

from __future__ import annotations

import difflib
import inspect
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from bms_async.testing._marker import check_loop, read_marker

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.testing.cloud import SimulatedCloud

__all__ = ["bms_client", "bms_simulator"]

_MARKER = (
    "bms(*, virtual=False, check_faults=True, **settings): what the fixtures bms_simulator and bms_client give."
    " `virtual` runs an async test on a clock that jumps; `check_faults` fails a test whose planned faults did not all"
    " happen; the others are those of bms_async.testing.CloudSettings, such as servers=100"
)
_OWN = frozenset({"virtual", "check_faults"})
_LOOP_FACTORIES = "pytest_asyncio_loop_factories"
_BACKEND = "anyio_backend"

_FAILED = pytest.StashKey[bool]()

_SERVERS = 10
# A real clock needs shorter jobs than those of a real cloud, which take a minute.
_REAL_JOB_SECONDS = (0.05, 0.25)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the fixtures for pytest-asyncio if it is loaded."""
    config.addinivalue_line("markers", _MARKER)
    if _has_asyncio(config):
        from bms_async.testing import _asyncio

        config.pluginmanager.register(_asyncio, "bms_async_asyncio")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Run a test that is marked as virtual on the virtual clock, by the hooks of the plugin that runs it."""
    item = metafunc.definition
    if not (_is_async(item) and any(mark.kwargs.get("virtual") for mark in item.iter_markers("bms"))):
        return (yield)
    if read_marker(item).get("virtual") is not True:
        return (yield)
    if not _runs_with_asyncio(item):
        if _BACKEND in metafunc.fixturenames:
            _choose_backend(metafunc)
        return (yield)
    if not hasattr(metafunc.config.hook, _LOOP_FACTORIES):
        return (yield)
    # Registered for this test only: once the hook is implemented, pytest-asyncio calls it for every test.
    implementation = _VirtualLoop()
    metafunc.config.pluginmanager.register(implementation)
    try:
        return (yield)
    finally:
        metafunc.config.pluginmanager.unregister(implementation)


class _VirtualLoop:
    """The hook by which pytest-asyncio gets the loop of a test."""

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        from bms_async.testing.clock import VirtualClockLoop

        return {"virtual": VirtualClockLoop}


def _choose_backend(metafunc: pytest.Metafunc) -> None:
    from bms_async.testing.clock import VirtualClockLoop

    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if _BACKEND in (names.split(",") if isinstance(names, str) else names):
            return
    backend = ("asyncio", {"loop_factory": VirtualClockLoop})
    # Through anyio's own fixture, async fixtures of a module notice that they belong to another loop. A fixture of the
    # user's takes no parameters, and is overridden.
    defined = metafunc.definition._fixtureinfo.name2fixturedefs.get(_BACKEND, ())  # noqa: SLF001 - no other way
    theirs = bool(defined) and defined[-1].func.__module__ == "anyio.pytest_plugin"
    chosen = pytest.mark.parametrize(_BACKEND, [backend], ids=["virtual"], scope="module", indirect=theirs)
    metafunc.definition.add_marker(chosen)


@pytest.fixture
def bms_simulator(request: pytest.FixtureRequest) -> Iterator[SimulatedCloud]:
    """A simulated cloud of 10 servers, in this process; `@pytest.mark.bms(...)` changes it.

    Faults that were planned and have not happened fail the test at its end.
    """
    marker = read_marker(request.node)
    if marker.get("virtual") is True:
        _check_clock(request)
    cloud = make_cloud(marker)
    yield cloud
    unused = cloud.faults.unused if marker.get("check_faults", True) else []
    # A test that has failed may not have come far enough for its faults.
    if unused and not request.node.stash.get(_FAILED, False):
        lines = "\n".join(f"  {fault}: {fault.happened} times until now" for fault in unused)
        pytest.fail(f"faults were planned and have not happened:\n{lines}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Remember that a test or one of its fixtures has failed, for the end of its fixtures."""
    if call.when != "teardown":
        item.stash[_FAILED] = call.excinfo is not None
    return (yield)


@pytest.fixture
def bms_client(request: pytest.FixtureRequest, bms_simulator: SimulatedCloud) -> BmsClient:
    """A client of the cloud of `bms_simulator`: open in an async test, not opened yet in a plain one.

    A plain test or a unittest opens it in the loop that it runs itself: ``async with bms_client as bms``.
    """
    item = request.node
    if not _is_async(item):
        return bms_simulator.client()
    if _runs_with_asyncio(item):
        if _BACKEND in request.fixturenames:
            pytest.fail(
                "the test is marked with anyio, and pytest-asyncio in its auto mode runs it all the same; use"
                " asyncio_mode = strict, or take the mark away",
                pytrace=False,
            )
        opened: BmsClient = request.getfixturevalue(f"_bms_client_of_asyncio_{_loop_scope(item)}")
    elif _BACKEND in request.fixturenames:
        backend = request.getfixturevalue(_BACKEND)
        name = backend if isinstance(backend, str) else backend[0]
        if name != "asyncio":
            pytest.fail(f"bms_async runs on asyncio, and this test runs on {name}; set its {_BACKEND}", pytrace=False)
        opened = request.getfixturevalue("_bms_client_of_anyio")
    else:
        # No plugin runs it, and pytest reports that.
        opened = bms_simulator.client()
    return opened


@pytest.fixture
async def _bms_client_of_anyio(request: pytest.FixtureRequest, bms_simulator: SimulatedCloud) -> Any:
    check_loop(request.node)
    async with bms_simulator.client() as bms:
        yield bms


def make_cloud(marker: dict[str, Any]) -> SimulatedCloud:
    """Make the cloud by the markers of a test."""
    import msgspec

    problem = ""
    try:
        from bms_async.testing import CloudSettings, SimulatedCloud
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
    settings = {name: value for name, value in marker.items() if name not in _OWN}
    unknown = sorted(set(settings) - set(CloudSettings.__struct_fields__))
    if unknown:
        known = [*sorted(_OWN), *CloudSettings.__struct_fields__]
        near = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)] or known
        problem = f"unknown setting {', '.join(unknown)}; did you mean {', '.join(near)}?"
    for name in _OWN:
        if not isinstance(marker.get(name, False), bool):
            problem = f"{name}={marker[name]!r}: expected True or False"
    defaults: dict[str, Any] = {"servers": _SERVERS}
    if marker.get("virtual") is not True:
        defaults["job_seconds"] = _REAL_JOB_SECONDS
    if not problem:
        try:
            return SimulatedCloud(msgspec.convert(defaults | settings, CloudSettings))
        except ValueError as error:
            problem = str(error)
    pytest.fail(f"@pytest.mark.bms: {problem}", pytrace=False)


def _check_clock(request: pytest.FixtureRequest) -> None:
    """Fail a test that asks for the virtual clock but would run on a real one."""
    if _is_of_unittest(request.node) and inspect.iscoroutinefunction(request.function):
        pytest.fail(
            "@pytest.mark.bms(virtual=True) cannot choose the loop of an IsolatedAsyncioTestCase; call run_virtually()"
            " in a plain test of it",
            pytrace=False,
        )
    if not _is_async(request.node):
        return
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and any(mark.name == "bms" and "virtual" in mark.kwargs for mark in callspec.marks):
        pytest.fail("@pytest.mark.bms(virtual=True) is for the whole test, and not for a pytest.param", pytrace=False)
    if _runs_with_asyncio(request.node):
        if not hasattr(request.config.hook, _LOOP_FACTORIES):
            pytest.fail(
                "@pytest.mark.bms(virtual=True) needs pytest-asyncio 1.4 or later, which needs pytest 8.4 or later;"
                " under anyio's mark, pytest.mark.anyio, it needs neither",
                pytrace=False,
            )
    elif _BACKEND in request.fixturenames:
        from bms_async.testing.clock import VirtualClockLoop

        backend = request.getfixturevalue(_BACKEND)
        if isinstance(backend, str) or backend[1].get("loop_factory") is not VirtualClockLoop:
            pytest.fail(
                f"@pytest.mark.bms(virtual=True) did not get its clock: the test chooses its {_BACKEND} itself,"
                f" {backend!r}; take one of them away",
                pytrace=False,
            )


def _is_async(item: pytest.Item) -> bool:
    """Return whether a plugin for async tests runs it; a unittest runs its own loop."""
    if _is_of_unittest(item):
        return False
    function = getattr(item, "obj", None)
    # Hypothesis wraps the user's function in a plain one.
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", None)
    return inspect.iscoroutinefunction(inner or function)


def _is_of_unittest(item: pytest.Item) -> bool:
    own = getattr(item, "cls", None)
    return isinstance(own, type) and issubclass(own, unittest.TestCase)


def _has_asyncio(config: pytest.Config) -> bool:
    # The second name is used with ``-p``, where plugins are not loaded automatically.
    return any(config.pluginmanager.hasplugin(name) for name in ("asyncio", "pytest_asyncio.plugin"))


def _runs_with_asyncio(item: pytest.Item) -> bool:
    """Return whether pytest-asyncio runs a test; in its auto mode it marks the tests itself."""
    if not _has_asyncio(item.config):
        return False
    if item.get_closest_marker("asyncio") is not None:
        return True
    mode = item.config.getoption("asyncio_mode", None) or item.config.getini("asyncio_mode")
    return str(mode) == "auto"


def _loop_scope(item: pytest.Item) -> str:
    marker = item.get_closest_marker("asyncio")
    given = None if marker is None else marker.kwargs.get("loop_scope")
    return str(given or item.config.getini("asyncio_default_test_loop_scope"))
