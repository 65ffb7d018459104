"""What may be wished, how, and what is said of what cannot be."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from bms_async import (
    Backoff,
    ClientClosedError,
    Degraded,
    InvalidRequestError,
    NotSyncedError,
    Progressing,
    ReconcilerStatistics,
    ServerStatus,
    Synced,
)
from bms_async.reconcile import inbox as inbox_module
from bms_async.reconcile import reconciler as reconciler_module
from bms_async.reconcile.inbox import read_server
from bms_async.testing import Answer, CloudSettings, SimulatedCloud
from tests.reconcile._helpers import RESYNC, keeping
from tests.support.virtual_clock import advance, run_virtually


@pytest.mark.parametrize("status", ["REBOOT", "ERROR", "active", "", None, 1, ServerStatus.BUILD])
def test_a_status_that_no_server_can_be_brought_to_is_refused_at_once(status: Any) -> None:
    async def main() -> None:
        async with keeping(servers=2) as kept:
            with pytest.raises(InvalidRequestError, match=r"expected ServerStatus\.ACTIVE or ServerStatus\.SHUTOFF"):
                kept.power.want(status, kept.ids)
            with pytest.raises(InvalidRequestError, match=f"of '{kept.ids[1]}'"):
                kept.power.replace({kept.ids[0]: "ACTIVE", kept.ids[1]: status})
            assert kept.power.statistics().desired == 0

    run_virtually(main)


@pytest.mark.parametrize("servers", [7, None, "an-id", b"an-id", object()])
def test_what_is_no_iterable_of_servers_is_refused_at_once(servers: Any) -> None:
    async def main() -> None:
        async with keeping(servers=2) as kept:
            for call in (lambda it: kept.power.want("ACTIVE", it), kept.power.forget, kept.power.refresh):
                with pytest.raises(InvalidRequestError, match="servers="):
                    call(servers)
            with pytest.raises(InvalidRequestError):
                kept.power.replace(servers)
            with pytest.raises(InvalidRequestError):
                kept.power.replace({kept.ids[0]: []})  # type: ignore[dict-item]
            if servers is not None:
                with pytest.raises(InvalidRequestError):
                    await kept.power.synced(servers)

    run_virtually(main)


def test_what_is_asked_of_a_reconciler_that_is_not_open_is_refused_and_not_waited_for() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=1))
        async with cloud.client() as bms:
            power = bms.reconciler()
            calls: list[Callable[[], object]] = [
                lambda: power.want("ACTIVE", cloud.ids),
                lambda: power.forget(cloud.ids),
                lambda: power.replace({}),
                lambda: power.refresh(cloud.ids),
                power.changes,
            ]
            for call in calls:
                with pytest.raises(ClientClosedError, match="not open; use it inside `async with`"):
                    call()
            with anyio.fail_after(1), pytest.raises(ClientClosedError, match="not open"):
                await power.synced()

    run_virtually(main)


def test_an_error_of_the_callers_own_iterable_is_raised_to_the_caller_and_wishes_nothing() -> None:
    def ids() -> Iterator[str]:
        yield "a"
        raise OSError("the file is gone")

    async def main() -> None:
        async with keeping(servers=2) as kept:
            with pytest.raises(OSError, match="the file is gone"):
                kept.power.want("ACTIVE", ids())
            await advance(1.0)
            assert len(kept.power.conditions()) == 0

    run_virtually(main)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, deque, dict.fromkeys, iter])
def test_any_iterable_of_ids_or_servers_will_do(kind: Callable[[list[Any]], Any]) -> None:
    async def main() -> None:
        async with keeping(servers=6) as kept:
            servers = [server async for server in kept.bms.servers.list()]
            kept.power.want("ACTIVE", kind([server.id.upper() for server in servers[:3]]))
            await kept.power.synced()
            assert kept.power.statistics().synced == 3
            kept.power.want("ACTIVE", servers)
            await kept.power.synced([server.id.upper() for server in servers], timeout=5)
            await kept.power.synced(servers, timeout=5)
            assert set(kept.power.conditions()) == set(kept.ids)
            assert isinstance(kept.power.condition(kept.ids[0].upper()), Synced)

    run_virtually(main)


def test_what_is_no_id_is_degraded_and_harms_nothing_else() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise SystemExit

    async def main() -> None:
        async with keeping(servers=3) as kept:
            kept.power.want("SHUTOFF", [*kept.ids, "a b", "", 7, Bad()])  # type: ignore[list-item]
            await kept.power.synced(kept.ids, timeout=60)
            refused = {name: each for name, each in kept.power.conditions().items() if isinstance(each, Degraded)}
            assert {"a b", "", "7"} < set(refused)
            assert len(refused) == 4
            assert isinstance(refused["a b"].reason, InvalidRequestError)
            assert kept.power.statistics().degraded == 4
            kept.power.forget(["a b", ""])
            await advance(1.0)
            assert kept.power.statistics().degraded == 2
            kept.power.replace(dict.fromkeys(kept.ids, "SHUTOFF"))
            await kept.power.synced(timeout=5)

    run_virtually(main)


def test_waiting_for_servers_of_which_nothing_is_desired_is_a_mistake() -> None:
    async def main() -> None:
        async with keeping(servers=3) as kept:
            kept.power.want("ACTIVE", kept.ids[:2])
            with pytest.raises(InvalidRequestError, match="want"):
                await kept.power.synced(kept.ids)
            with pytest.raises(InvalidRequestError, match="timeout"):
                await kept.power.synced(timeout=-1)

    run_virtually(main)


def test_who_waits_in_vain_reads_what_is_not_as_desired_and_why() -> None:
    async def main() -> None:
        async with keeping(servers=20, job_seconds=(1.0, 300.0)) as kept:
            kept.cloud.lock(kept.ids[0])
            kept.power.want("SHUTOFF", kept.ids)
            with pytest.raises(NotSyncedError, match=r"\d+ of 20 servers are not as desired after 30 s") as caught:
                await kept.power.synced(timeout=30)
            error = caught.value
            assert isinstance(error, TimeoutError)
            assert error.reasons[kept.ids[0]] == "it is locked: unlock it"
            wrong = {each for each, condition in kept.power.conditions().items() if not isinstance(condition, Synced)}
            assert set(error.reasons) == wrong
            assert "more" in str(error)
            again = pickle.loads(pickle.dumps(error))
            assert (str(again), again.reasons) == (str(error), error.reasons)
            with pytest.raises(NotSyncedError, match="1 of 1"):
                await kept.power.synced(kept.ids[:1], timeout=0)

    run_virtually(main)


def test_who_waits_in_vain_for_a_cloud_that_is_away_reads_that_it_is_away() -> None:
    async def main() -> None:
        async with keeping(servers=2, resync=5.0) as kept:
            for operation in ("servers.list", "servers.get"):
                kept.cloud.faults.add(operation, Answer(status=503), times=None)
            kept.power.want("ACTIVE", kept.ids)
            with pytest.raises(NotSyncedError, match=r"not read yet; states cannot be read now: servers\.\w+: 503"):
                await kept.power.synced(timeout=60)
            kept.cloud.faults.clear()
            await kept.power.synced(timeout=120)
            kept.power.want("ACTIVE", ["no-such-server"])
            with pytest.raises(NotSyncedError) as caught:
                await kept.power.synced(timeout=60)
            assert "cannot be read" not in str(caught.value)

    run_virtually(main)


def test_one_server_that_is_waited_for_in_vain_is_one() -> None:
    async def main() -> None:
        async with keeping(servers=1) as kept:
            kept.power.want("ACTIVE", ["no-such-server"])
            with pytest.raises(NotSyncedError, match="1 of 1 servers is not as desired after 5 s: no-such-server: the"):
                await kept.power.synced(timeout=5)

    run_virtually(main)


def test_servers_are_looked_at_at_once_when_that_is_asked_for() -> None:
    async def main() -> None:
        async with keeping(servers=30, resync=10_000.0) as kept:
            kept.power.want("ACTIVE", kept.ids[:20])
            await kept.power.synced()
            await advance(100)
            kept.cloud.turn_off(kept.ids[3])
            before = kept.arrived("servers.list", "servers.get")
            kept.power.refresh([kept.ids[3], kept.ids[29], "no id"])
            await advance(30.0)
            assert kept.cloud.server(kept.ids[3]).powered
            assert kept.arrived("servers.list", "servers.get") == before + 1

    run_virtually(main)


def test_it_says_honestly_how_it_stands() -> None:
    async def main() -> None:
        async with keeping(servers=20, wave_size=5, job_seconds=(10.0, 10.0)) as kept:
            assert repr(kept.power) == "<Reconciler power open: 0 of 0 servers synced>"
            assert kept.power.name == "power"
            kept.cloud.lock(kept.ids[0])
            kept.power.want("SHUTOFF", kept.ids[:11])
            kept.power.want("ACTIVE", kept.ids[11:])
            await advance(5.0)
            assert kept.power.is_leading
            assert kept.power.statistics() == ReconcilerStatistics(
                desired=20, synced=9, progressing=10, degraded=1, waiting=5, under_way=5, runs=1, asked=5, succeeded=0,
                failed=0, readings=1, targeted_readings=0, failed_readings=0, reading_calls=1,
            )  # fmt: skip
            assert repr(kept.power) == "<Reconciler power open, leading: 9 of 20 servers synced>"
            assert repr(kept.power.conditions()) == "<Conditions of 20 servers>"
            condition = kept.power.condition(kept.ids[10])
            assert isinstance(condition, Progressing)

    run_virtually(main)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("resync", 0), ("resync", float("inf")), ("resync", True), ("wave_size", 0), ("wave_size", 1.5),
        ("backoff", 60), ("rollout", 1), ("name", ""), ("name", "a\nb"), ("name", 7),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused(option: str, value: Any) -> None:
    async def main() -> None:
        async with keeping(servers=1) as kept:
            with pytest.raises(InvalidRequestError, match=f"^{option}="):
                kept.bms.reconciler(**{option: value})

    run_virtually(main)


@pytest.mark.parametrize(
    "given",
    [{"base": 0}, {"base": 60, "cap": 59}, {"factor": 0.5}, {"jitter": 2}, {"base": float("nan")}, {"base": "1"}],
)
def test_a_back_off_that_makes_no_sense_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequestError):
        Backoff(**given)


def test_a_back_off_grows_up_to_its_cap_and_is_made_shorter_at_random() -> None:
    backoff = Backoff(60, cap=3600)
    assert [backoff.delay(attempts, 0.0) for attempts in (1, 2, 3, 7, 8, 100_000)] == [60, 120, 240, 3600, 3600, 3600]
    assert backoff.delay(2, 1.0) == pytest.approx(108)
    assert Backoff(1e300, cap=1e308, factor=1e300).delay(50, 0.0) == 1e308


def test_r9_a_hundred_thousand_wishes_are_admitted_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def admitted_at_once(number: int) -> int:
        """Wish, and return how many servers were admitted between two turns of the event loop at most."""
        async with keeping(servers=1) as kept:
            most = before = 0
            kept.power.want("ACTIVE", [f"server-{each:06}" for each in range(number)])
            while before < number:
                await asyncio.sleep(0)
                now = len(kept.power.conditions())
                most, before = max(most, now - before), now
            return most

    async def main() -> None:
        assert await admitted_at_once(100_000) <= 1000
        monkeypatch.setattr(inbox_module, "AT_ONCE", 100_000)
        assert await admitted_at_once(10_000) == 10_000

    run_virtually(main)


def test_r9_the_servers_that_are_waited_for_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_at_once(number: int) -> int:
        """Wait for servers, and return how many were read between two turns of the event loop at most."""
        most = read = 0

        def count(server: object) -> str:
            nonlocal read
            read += 1
            return read_server(server)

        monkeypatch.setattr(reconciler_module, "read_server", count)
        async with keeping(servers=1) as kept, anyio.create_task_group() as tasks:
            names = [f"server-{each:06}" for each in range(number)]
            kept.power.want("ACTIVE", names)
            tasks.start_soon(kept.power.synced, names)
            before = 0
            while before < number:
                await asyncio.sleep(0)
                most, before = max(most, read - before), read
            tasks.cancel_scope.cancel()
        return most

    async def main() -> None:
        assert await read_at_once(3000) == 500
        monkeypatch.setattr(reconciler_module, "AT_ONCE", 100_000)
        assert await read_at_once(3000) == 3000

    run_virtually(main)


def test_a_replacement_forgets_what_is_no_id_a_few_at_a_time() -> None:
    async def main() -> None:
        async with keeping(servers=1) as kept:
            kept.power.want("ACTIVE", [f"no id {each}" for each in range(1200)])
            with pytest.raises(NotSyncedError):
                await kept.power.synced(timeout=5.0)
            kept.power.replace({})
            seen = set()
            while left := len(kept.power.conditions()):
                seen.add(left)
                await asyncio.sleep(0)
            assert {1200, 700, 200} <= seen

    run_virtually(main)


def test_a_large_list_of_wishes_is_copied_at_once() -> None:
    async def main() -> None:
        async with keeping(servers=3) as kept:
            mine = list(kept.ids)
            kept.power.want("ACTIVE", mine)
            desired = dict.fromkeys(mine, "ACTIVE")
            kept.power.replace(desired)
            mine.clear()
            desired.clear()
            await kept.power.synced()
            assert kept.power.statistics().synced == 3
            await anyio.sleep(RESYNC)

    run_virtually(main)
