"""An id is an id, however it is written; what is none is one skipped entry, whatever it does when it is looked at."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any, NoReturn

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import (
    BmsClient,
    ForeignCodeError,
    HttpRequest,
    InvalidRequestError,
    Limits,
    Outcome,
    OutcomeState,
    Server,
    StaticToken,
)
from bms_async.fleet.plan import Intake
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.wire import HttpResponse
from tests.fleet._helpers import states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def an_id(number: int) -> str:
    return f"{number:08x}-abcd-4222-8333-123456789abc"


class CapitalCloud:
    """A cloud that writes every id in capitals, whatever it was asked with."""

    def __init__(self, status: str = "SUCCESS", *, names_servers: bool = True) -> None:
        self.status, self.names_servers = status, names_servers
        self.paths: list[str] = []
        self.batches: list[list[str]] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.01)
        self.paths.append(request.url.partition("?")[0])
        return HttpResponse(
            status=200, headers=(("Content-Type", "application/json"),), body=json.dumps(self._answer(request)).encode()
        )

    def _answer(self, request: HttpRequest) -> object:
        if request.method == "POST":
            (asked,) = json.loads(request.body or b"{}").values()
            self.batches.append([server["id"] for server in asked["servers"]])
            return {"job_id": "a-job"}
        if "/jobs/" in request.url:
            servers = self.batches[0] if self.names_servers else []
            subs = [{"status": self.status, "entities": {"server_id": each.upper()}} for each in servers]
            return {"job_id": "a-job", "status": self.status, "entities": {"sub_jobs": subs}}
        if "/detail" in request.url:
            shown = [{"id": each.upper(), "status": "SHUTOFF"} for each in self.batches[0]]
            return {"count": len(shown), "servers": shown}
        return {"server": {"id": request.url.rpartition("/")[2].upper(), "status": "SHUTOFF"}}


def client_of(cloud: CapitalCloud, **options: Any) -> BmsClient:
    return BmsClient(
        endpoint="http://localhost",
        project_id="demo",
        auth=StaticToken("a-token-of-a-test"),
        transport=cloud,
        **options,
    )


@pytest.mark.parametrize("check", [True, False])
def test_one_server_in_two_spellings_is_one_server_that_is_asked_for_once(check: bool) -> None:
    async def main() -> None:
        cloud = CapitalCloud()
        async with client_of(cloud, check=check) as bms:
            report = await bms.fleet.reboot([an_id(1).upper(), an_id(1), an_id(2), an_id(2).upper()])
        assert cloud.batches == [[an_id(1), an_id(2)]]
        assert [(outcome.server_id, outcome.state) for outcome in report.outcomes] == [
            (an_id(1), S.SUCCEEDED),
            (an_id(2), S.SUCCEEDED),
        ]

    run_virtually(main)


@pytest.mark.parametrize("verify", [False, True])
def test_states_that_the_cloud_tells_in_capitals_are_those_of_the_servers_asked_for(verify: bool) -> None:
    async def main() -> None:
        cloud = CapitalCloud(names_servers=False)
        async with client_of(cloud) as bms:
            report = await bms.fleet.stop([an_id(number) for number in range(20)], verify=verify)
        assert {outcome.state for outcome in report.outcomes} <= {S.SUCCEEDED, S.UNCHANGED}
        assert [outcome.server_id for outcome in report.outcomes] == [an_id(number) for number in range(20)]

    run_virtually(main)


def test_servers_of_a_restored_job_are_those_of_the_run_in_whatever_spelling() -> None:
    async def main() -> None:
        cloud = CapitalCloud()
        async with client_of(cloud) as bms:
            job = await bms.servers.stop([an_id(1), an_id(2)])
            saved = job.to_json().replace(an_id(1), an_id(1).upper())
            assert saved != job.to_json()
            report = await bms.fleet.stop([an_id(1), an_id(2).upper()], jobs=[bms.jobs.restore(saved)])
        assert len(cloud.batches) == 1
        assert sorted(outcome.server_id for outcome in report.outcomes) == [an_id(1), an_id(2)]
        assert states(report.outcomes) == {S.SUCCEEDED: 2}

    run_virtually(main)


def test_a_batch_with_one_server_in_two_spellings_is_refused() -> None:
    async def main() -> None:
        async with client_of(CapitalCloud()) as bms:
            with pytest.raises(InvalidRequestError, match="expected each id once"):
                await bms.servers.stop([an_id(1), an_id(1).upper()])

    run_virtually(main)


CALLS: dict[str, Callable[[BmsClient, str], Any]] = {
    "servers.get": lambda bms, server: bms.servers.get(server),
    "servers.rename": lambda bms, server: bms.servers.rename(server, "a-name"),
    "servers.list_volumes": lambda bms, server: bms.servers.list_volumes(server),
    "servers.list_interfaces": lambda bms, server: bms.servers.list_interfaces(server),
    "servers.update_metadata": lambda bms, server: bms.servers.update_metadata(server, {"a": "b"}),
    "servers.can_reset_password": lambda bms, server: bms.servers.can_reset_password(server),
    "servers.get_windows_password": lambda bms, server: bms.servers.get_windows_password(server),
    "servers.delete_windows_password": lambda bms, server: bms.servers.delete_windows_password(server),
    "servers.detach_volume": lambda bms, server: bms.servers.detach_volume(server, "a-volume"),
    "nova.servers.get": lambda bms, server: bms.nova.servers.get(server),
    "nova.servers.delete": lambda bms, server: bms.nova.servers.delete(server),
    "nova.tags.list": lambda bms, server: bms.nova.tags.list(server),
    "nova.tags.add": lambda bms, server: bms.nova.tags.add(server, "a-tag"),
    "nova.metadata.get": lambda bms, server: bms.nova.metadata.get(server),
    "nova.addresses.list": lambda bms, server: bms.nova.addresses.list(server),
    "nova.interfaces.list": lambda bms, server: bms.nova.interfaces.list(server),
    "nova.volumes.list": lambda bms, server: bms.nova.volumes.list(server),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_a_server_is_asked_for_by_its_id_as_the_cloud_writes_it(name: str, check: bool) -> None:
    paths: list[str] = []

    class Closed:
        async def send(self, request: HttpRequest) -> HttpResponse:
            paths.append(request.url)
            return HttpResponse(status=403, headers=(), body=b"{}")

    async def main() -> None:
        async with BmsClient(
            endpoint="http://localhost",
            project_id="demo",
            auth=StaticToken("a-token-of-a-test"),
            transport=Closed(),
            check=check,
        ) as bms:
            with pytest.raises(Exception, match="403"):
                await CALLS[name](bms, an_id(7).upper())

    run_virtually(main)
    assert len(paths) == 1
    assert an_id(7) in paths[0]


def test_two_who_wait_for_one_server_in_two_spellings_share_its_polls() -> None:
    async def main() -> None:
        cloud = CapitalCloud()
        async with client_of(cloud) as bms, anyio.create_task_group() as tasks:
            tasks.start_soon(bms.nova.servers.wait_for, an_id(1), "SHUTOFF")
            tasks.start_soon(bms.nova.servers.wait_for, an_id(1).upper(), "SHUTOFF")
        assert len(cloud.paths) == 1

    run_virtually(main)


class Raising:
    """Raises whatever is done with it."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.__dict__["error"] = error

    def _raise(self, *_: object) -> NoReturn:
        raise self.__dict__["error"]("no")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __bool__ = __format__ = _raise

    @property
    def id(self) -> str:
        self._raise()

    __class__ = property(_raise)  # that is what is odd about it


class RaisingText(str):
    """A text that raises when it is compared."""

    __slots__ = ()

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("no")

    __repr__ = __str__ = __eq__ = __hash__ = lower = __len__ = _raise


class LongRepr:
    def __repr__(self) -> str:
        return "x" * 1_000_000


class Pretending:
    """Says that it is a text."""

    __class__ = property(lambda _: str)  # that is what is odd about it


ODD: list[Callable[[], object]] = [
    Raising,
    lambda: Raising(SystemExit),
    lambda: Raising(asyncio.CancelledError),
    LongRepr,
    Pretending,
    lambda: b"a-server",
    lambda: None,
    lambda: [Server(id="a-server")],
    lambda: "x" * 1_000_000,
    lambda: ["a-server"],
    lambda: float("nan"),
    lambda: lambda: None,
]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("way", ["list", "generator", "async generator", "set of texts"])
def test_whatever_one_entry_is_it_is_skipped_and_the_others_go_on(way: str, check: bool) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=30))
        async with cloud.client(check=check) as bms:
            # Without checking, a text of any length is an id.
            odd = [make() for make in ODD if check or type(make()) is not str]
            given_ids: list[Any] = [*cloud.ids[:10], *odd, *cloud.ids[10:20], *odd[:2], *cloud.ids[20:]]

            async def generate() -> AsyncIterator[Any]:
                for each in given_ids:
                    yield each

            ids: Any = {
                "list": given_ids,
                "generator": (each for each in given_ids),
                "async generator": generate(),
                "set of texts": [*map(RaisingText, cloud.ids), *odd, *odd[:2]],
            }[way]
            report = await bms.fleet.stop(ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 30, S.SKIPPED: len(odd) + 2}
            assert max(Counter(outcome.server_id for outcome in report.outcomes).values()) == 1
            for outcome in report.outcomes:
                assert type(outcome.server_id) is str
                assert len(outcome.server_id) < 300
                if outcome.state is S.SKIPPED:
                    assert isinstance(outcome.error, InvalidRequestError)
                    assert len(str(outcome.error)) < 400
            # What a report holds is the report's, and so it can go to another process.
            assert copy.deepcopy(report).by_state == pickle.loads(pickle.dumps(report)).by_state == report.by_state

    run_virtually(main)


def test_a_number_does_not_take_the_place_of_the_server_that_is_called_so() -> None:
    intake = Intake()
    assert intake.admit(7) is not None
    assert intake.admit("7") is None
    assert intake.pop_batch() == ("7",)


@given(st.lists(st.one_of(st.integers(0, 5), st.none(), st.binary(max_size=2), st.sampled_from(["a", "B", "no/"]))))
def test_every_entry_that_is_different_is_counted_once(values: list[object]) -> None:
    intake = Intake()
    refused = [invalid[0] for invalid in map(intake.admit, values) if invalid is not None]
    assert len(refused) == len(set(refused))
    assert intake.admitted == len(refused) + intake.ready == len({repr(value) for value in values})


class OddCollection(list[str]):
    """A collection that breaks when it is read."""

    def __init__(self, ids: list[str], where: str, error: type[BaseException]) -> None:
        super().__init__(ids)
        self.where, self.error = where, error

    def __len__(self) -> int:
        if self.where == "__len__":
            raise self.error("no length")
        return super().__len__()

    def __iter__(self) -> Iterator[str]:
        if self.where == "__iter__":
            raise self.error("no iterator")
        return self._steps()

    def _steps(self) -> Iterator[str]:
        for place in range(super().__len__()):
            yield self[place]
        if self.where == "__next__":
            raise self.error("no next")


class OddSource:
    """An async source that breaks when it is read."""

    def __init__(self, ids: list[str], where: str, error: type[BaseException]) -> None:
        self.ids, self.where, self.error = iter(ids), where, error

    def __aiter__(self) -> OddSource:
        if self.where == "__aiter__":
            raise self.error("no iterator")
        return self

    async def __anext__(self) -> str:
        for each in self.ids:
            return each
        if self.where == "__anext__":
            raise self.error("no next")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if self.where == "aclose":
            raise self.error("not closed")


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, RuntimeError, GeneratorExit])
@pytest.mark.parametrize("where", ["__iter__", "__next__", "__aiter__", "__anext__", "aclose"])
def test_whatever_a_source_raises_is_the_error_of_its_run_and_what_came_before_has_its_outcomes(
    where: str, error: type[BaseException]
) -> None:
    async def main() -> None:
        async with simulated(servers=1200, limits=Limits.unlimited()) as sim:
            kind = OddCollection if where in ("__iter__", "__next__") else OddSource
            run = sim.bms.fleet.stop(kind(list(sim.ids), where, error))
            other = sim.bms.fleet.start(sim.ids[:1])
            with pytest.raises(error if issubclass(error, Exception) else ForeignCodeError):
                await run
            assert run.report is not None
            read = [] if where in ("__iter__", "__aiter__") else sim.ids
            assert sorted(outcome.server_id for outcome in run.report.outcomes) == sorted(read)
            assert len(await other) == 1

    run_virtually(main)


def test_the_length_of_a_collection_is_not_asked_for() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            report = await sim.bms.fleet.stop(OddCollection(list(sim.ids), "__len__", SystemExit))
            assert states(report.outcomes) == {S.SUCCEEDED: 3}

    run_virtually(main)


class Cursor:
    """A source that must be closed."""

    def __init__(self, closed: list[float], *, hang: bool = False) -> None:
        self.closed, self.hang = closed, hang

    async def read(self) -> AsyncIterator[str]:
        try:
            for number in range(10**6):
                yield f"id-{number}"
        finally:
            if self.hang:
                await asyncio.sleep(10_000)
            self.closed.append(asyncio.get_running_loop().time())

    def read_now(self) -> Iterator[str]:
        try:
            for number in range(10**6):
                yield f"id-{number}"
        finally:
            self.closed.append(asyncio.get_running_loop().time())


@pytest.mark.parametrize("kind", ["read", "read_now"])
@pytest.mark.parametrize("how", ["cancelled", "let go", "aborted", "closed"])
def test_a_source_is_closed_when_its_run_ends_however_it_ends(how: str, kind: str) -> None:
    async def main() -> None:
        closed: list[float] = []
        async with simulated(servers=1) as sim:
            # Servers that are not there are failures.
            options: dict[str, Any] = {"abort_above": 0.1} if how == "aborted" else {}
            run = sim.bms.fleet.stop(getattr(Cursor(closed), kind)(), wave_size=30, **options)
            await advance(1)
            if how == "closed":
                await sim.bms.aclose()
            elif how != "aborted":
                run.cancel(detach=how == "let go")
            await run
            assert len(closed) == 1

    run_virtually(main)


def test_an_iterator_with_a_close_of_its_own_is_closed_too() -> None:
    async def main() -> None:
        closed: list[bool] = []
        numbers = count()

        class Pages:
            def __aiter__(self) -> Pages:
                return self

            async def __anext__(self) -> str:
                return f"id-{next(numbers)}"

            async def aclose(self) -> None:
                closed.append(True)

        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.stop(Pages())
            await advance(1)
            run.cancel(detach=True)
            await run
            assert closed == [True]

    run_virtually(main)


def test_a_file_that_ids_are_read_from_is_left_to_its_owner() -> None:
    async def main() -> None:
        class File:
            closed = False

            def __iter__(self) -> File:
                return self

            def __next__(self) -> str:
                raise StopIteration

            def close(self) -> None:
                self.closed = True

        file = File()
        async with simulated(servers=1) as sim:
            await sim.bms.fleet.stop(file)
            assert not file.closed

    run_virtually(main)


def test_a_source_whose_closing_hangs_is_given_up() -> None:
    async def main() -> None:
        closed: list[float] = []
        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.stop(Cursor(closed, hang=True).read(), wave_size=10)
            await advance(1)
            run.cancel(detach=True)
            await run
            assert asyncio.get_running_loop().time() < 30
            assert closed == []

    run_virtually(main)


@pytest.mark.parametrize("kind", [list, set, dict.fromkeys])
def test_a_large_collection_that_changes_while_it_is_read_is_the_error_of_its_run(kind: Callable[..., Any]) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            ids = kind(f"id-{number}" for number in range(250_000))
            run = sim.bms.fleet.stop(ids)
            ids.clear()
            run.cancel()
            with pytest.raises(RuntimeError, match="change"):
                await run
            assert run.report is not None

    run_virtually(main)


@pytest.mark.parametrize("kind", [list, set, dict.fromkeys])
def test_a_collection_that_is_not_large_may_be_used_again_at_once(kind: Callable[..., Any]) -> None:
    async def main() -> None:
        async with simulated(servers=500) as sim:
            ids = kind(sim.ids)
            run = sim.bms.fleet.stop(ids)
            ids.clear()
            assert states((await run).outcomes) == {S.SUCCEEDED: 500}

    run_virtually(main)


def test_a_cancelled_run_takes_a_collection_in_to_its_end_and_reads_none_of_it_twice() -> None:
    read: list[str] = []

    class Counted(list[str]):
        def __iter__(self) -> Iterator[str]:
            for each in super().__iter__():
                read.append(each)
                yield each

    async def main() -> None:
        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.stop(Counted(f"id-{number}" for number in range(5000)))
            await anyio.lowlevel.checkpoint()
            run.cancel()
            assert states((await run).outcomes) == {S.SKIPPED: 5000}

    run_virtually(main)
    assert len(read) == 5000


def test_an_error_survives_a_value_that_cannot_be_shown() -> None:
    error = InvalidRequestError("ids", Raising(), "an id is wanted")
    assert str(error) == "ids=<a Raising whose repr raises RuntimeError>: an id is wanted"
    assert isinstance(Outcome(server_id="a", state=S.SKIPPED, error=error).error, InvalidRequestError)
