"""States read by pages: what a page leaves out proves nothing, and no server is taken for gone because of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bms_async import BmsClient, OutcomeState, StaticToken
from bms_async.fleet.page_totals import PageTotals
from bms_async.fleet.state_reader import StateReader
from bms_async.limits import Lane
from bms_async.models import ServerStatus
from bms_async.simulator import DroppedMarker, Fault, ShortPage
from bms_async.wire import HttpRequest, HttpResponse
from tests.fleet._helpers import by_state_and_code, states
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

S = OutcomeState
Hook = Callable[[str, int, str], Fault | None]


def at(*calls: int, fault: Fault, operation: str = "servers.list") -> Hook:
    return lambda called, nth, path: fault if called == operation and nth in calls else None


def always(fault: Fault) -> Hook:
    return lambda called, nth, path: fault if called == "servers.list" else None


async def read(sim: Simulated, ids: Sequence[str], **options: Any) -> set[str] | None:
    found = await StateReader(sim.bms._session, Lane.INTERACTIVE).read(ids, **options)
    return None if found is None else set(found)


@pytest.mark.parametrize(
    "fault", [ShortPage(), ShortPage(share=0.4), ShortPage(counted=False), ShortPage(share=0.4, counted=False)]
)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_page_that_comes_short_once_is_read_again(fault: Fault, call: int) -> None:
    async def main() -> None:
        async with simulated(servers=3000) as sim:
            sim.cloud.faults.append(at(call, fault=fault))
            assert await read(sim, sim.ids) == set(sim.ids)
            assert sim.arrived("servers.get") == 0
            assert sim.arrived("servers.list") <= 9

    run_virtually(main)


@pytest.mark.parametrize("page_cap", [1000, 100])
@pytest.mark.parametrize("list_count", ["all", "page", "none"])
@pytest.mark.parametrize("servers", [950, 1000, 300])
def test_all_states_are_found_whatever_the_pages_and_their_count_are_like(
    page_cap: int, list_count: str, servers: int
) -> None:
    async def main() -> None:
        async with simulated(servers=servers, page_cap=page_cap, list_count=list_count) as sim:
            unknown = [f"no-such-{number}" for number in range(60)]
            assert await read(sim, [*sim.ids, *unknown]) == set(sim.ids)
            # The pages prove that the others are not there.
            assert sim.arrived("servers.get") == 0

    run_virtually(main)


def test_pages_that_stay_short_have_the_others_read_one_by_one_or_prove_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=1000) as sim:
            sim.cloud.faults.append(always(ShortPage(share=0.97)))
            assert await read(sim, sim.ids) == set(sim.ids)
            assert sim.arrived("servers.get") == 30

            sim.cloud.faults.append(always(ShortPage(share=0.5)))
            assert await read(sim, sim.ids) == set(sim.ids)
        async with simulated(servers=1000) as sim:
            sim.cloud.faults.append(always(ShortPage(share=0.5)))
            assert await read(sim, sim.ids) is None
            assert sim.arrived("servers.get") == 0
            assert await read(sim, sim.ids, exhaustive=True) == set(sim.ids)

    run_virtually(main)


def test_a_cloud_that_gives_its_first_page_for_any_proves_nothing_of_the_others() -> None:
    async def main() -> None:
        async with simulated(servers=3000, list_count="none") as sim:
            sim.cloud.faults.append(always(DroppedMarker()))
            assert await read(sim, sim.ids) is None
            assert sim.arrived("servers.list") < 10

    run_virtually(main)


@pytest.mark.parametrize("settings", [{"page_cap": 100, "list_count": "page"}, {"page_cap": 100, "list_count": "none"}])
def test_a_refused_batch_tells_none_from_another_by_the_first_page_alone(settings: dict[str, Any]) -> None:
    async def main() -> None:
        async with simulated(servers=1000, refuse_batches=True, job_seconds=(10, 20), **settings) as sim:
            bad = [f"no-such-{number}" for number in range(20)]
            report = await sim.bms.fleet.stop([*bad, *sim.ids[200:900]])
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None): 700, ("FAILED", "BMS.0040"): 20}

    run_virtually(main)


def test_a_good_run_is_verified_although_a_page_comes_empty() -> None:
    async def main() -> None:
        async with simulated(servers=3000) as sim:
            sim.cloud.faults.append(at(2, fault=ShortPage()))
            report = await sim.bms.fleet.stop(sim.ids, verify=True)
            assert states(report.outcomes) == {S.SUCCEEDED: 3000}

    run_virtually(main)


def test_a_state_is_found_however_the_cloud_spells_its_id() -> None:
    """Read by pages, and one by one."""

    class Shouting:
        """A cloud that prints ids in capitals."""

        async def send(self, request: HttpRequest) -> HttpResponse:
            _, _, server_id = request.url.partition("?")[0].rpartition("/")
            shown = ids if server_id == "detail" else [server_id]
            servers = [{"id": each.upper(), "status": "ACTIVE"} for each in shown]
            document = {"servers": servers, "count": len(ids)} if server_id == "detail" else {"server": servers[0]}
            return HttpResponse(status=200, headers=(), body=json.dumps(document).encode())

    ids = [f"{number:08x}-aaaa-4222-8333-123456789abc" for number in range(10)]

    async def main() -> None:
        async with BmsClient(
            endpoint="http://127.0.0.1:1", project_id="p", auth=StaticToken("token-of-a-test"), transport=Shouting()
        ) as bms:
            reader = StateReader(bms._session, Lane.INTERACTIVE)
            for wanted in (ids, ids[:3]):
                found = await reader.read(wanted) or {}
                shown = {key: server_state.status for key, server_state in found.items()}
                assert shown == dict.fromkeys(wanted, ServerStatus.ACTIVE)

    run_virtually(main)


def note(totals: PageTotals, *pages: tuple[int, int, int | None]) -> None:
    for number, size, count in pages:
        totals.add_page(number, size, f"first of {number}" if size else None, count)


@pytest.mark.parametrize(
    ("pages", "is_complete"),
    [
        ([(1, 1000, 2500), (2, 1000, 2500), (3, 500, 2500)], True),
        ([(1, 1000, 2500), (2, 1000, 2500)], False),
        ([(1, 1000, 2500), (2, 999, 2500), (3, 500, 2500)], False),
        ([(1, 1000, 2500), (3, 500, 2500), (2, 1000, 2500)], True),
        ([(1, 1000, 2500), (2, 1000, 2499), (3, 499, 2499)], False),
        ([(1, 7, 7)], True),
        ([(1, 0, 0)], True),
        ([(1, 0, 9)], False),
        ([(1, 100, 100)], False),
        ([(1, 100, 100), (2, 0, 100)], True),
        ([(1, 100, 100), (2, 100, 100), (3, 40, 40), (4, 0, 0)], True),
        ([(1, 100, None), (2, 100, None), (3, 40, None), (4, 0, None)], True),
        ([(1, 100, None), (2, 40, None), (3, 100, None), (4, 0, None), (4, 0, None)], False),
        ([(1, 100, None), (2, 0, None)], False),
        ([(1, 100, None), (2, 0, None), (2, 0, None)], True),
    ],
)
def test_pages_are_whole_where_each_is_as_large_as_the_count_or_the_first_page_wants_it(
    pages: list[tuple[int, int, int | None]], is_complete: bool
) -> None:
    totals = PageTotals(1000)
    note(totals, *pages)
    assert totals.is_complete is is_complete
