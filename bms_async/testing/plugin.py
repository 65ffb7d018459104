"""The pytest plugin: the fixtures `bms_simulator` and `bms_client`, and the marker `bms`.

A test run loads it where its ``conftest.py`` says ``pytest_plugins = ["bms_async.testing.plugin"]``, and no other does.
It imports what it needs when a fixture is used.
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
# On a real clock nobody wants to wait for what takes a real cloud a minute.
_REAL_JOB_SECONDS = (0.05, 0.25)


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest about the marker, and give pytest-asyncio its fixtures where it is at work."""
    config.addinivalue_line("markers", _MARKER)
    if _has_asyncio(config):
        from bms_async.testing import _asyncio

        config.pluginmanager.register(_asyncio, "bms_async_asyncio")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Have a test that is marked as virtual run on the virtual clock, by the means of the plugin that runs it."""
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
    # pytest-asyncio asks every test for its loops once anybody answers, so we answer for this one alone.
    answer = _VirtualLoop()
    metafunc.config.pluginmanager.register(answer)
    try:
        return (yield)
    finally:
        metafunc.config.pluginmanager.unregister(answer)


class _VirtualLoop:
    """The loop that a test runs on, as pytest-asyncio wants to be told."""

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
    # By anyio's own fixture, async fixtures of a module know that they belong to another loop. A fixture of the user's
    # takes no parameters, and is passed over.
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
    # A test that has failed has more to say than that it did not come so far.
    if unused and not request.node.stash.get(_FAILED, False):
        told = "\n".join(f"  {each}: {each.happened} times until now" for each in unused)
        pytest.fail(f"faults were planned and have not happened:\n{told}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Remember that a test or one of its fixtures has failed, for the end of its fixtures."""
    if call.when != "teardown":
        item.stash[_FAILED] = call.excinfo is not None
    return (yield)


@pytest.fixture
def bms_client(request: pytest.FixtureRequest, bms_simulator: SimulatedCloud) -> BmsClient:
    """A client of the cloud of `bms_simulator`: open in an async test, and not opened yet in a plain one.

    A plain test, and one of unittest's, opens it in the loop that it runs itself: ``async with bms_client as bms``.
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
        # Nothing runs it, and pytest says so.
        opened = bms_simulator.client()
    return opened


@pytest.fixture
async def _bms_client_of_anyio(request: pytest.FixtureRequest, bms_simulator: SimulatedCloud) -> Any:
    check_loop(request.node)
    async with bms_simulator.client() as bms:
        yield bms


def make_cloud(marker: dict[str, Any]) -> SimulatedCloud:
    """Make the cloud that a test asks for by its markers."""
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
        problem = f"there is no {', '.join(unknown)}; perhaps {', '.join(near)}"
    for name in _OWN:
        if not isinstance(marker.get(name, False), bool):
            problem = f"{name}={marker[name]!r}: True or False is needed"
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
    """Fail a test that would wait on a real clock for what is to take no time."""
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
    """Whether a plugin for async tests is to run it; a class of unittest's runs a loop of its own."""
    if _is_of_unittest(item):
        return False
    function = getattr(item, "obj", None)
    # What Hypothesis wraps is a plain function, around the one that the user wrote.
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", None)
    return inspect.iscoroutinefunction(inner or function)


def _is_of_unittest(item: pytest.Item) -> bool:
    own = getattr(item, "cls", None)
    return isinstance(own, type) and issubclass(own, unittest.TestCase)


def _has_asyncio(config: pytest.Config) -> bool:
    # The second name is that of ``-p``, where plugins are not loaded by themselves.
    return any(config.pluginmanager.hasplugin(name) for name in ("asyncio", "pytest_asyncio.plugin"))


def _runs_with_asyncio(item: pytest.Item) -> bool:
    """Whether pytest-asyncio runs a test: in its auto mode it marks the tests itself."""
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
