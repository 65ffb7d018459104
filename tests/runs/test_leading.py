"""One leader among replicas: `bms.runs.lead`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import BmsClient, ClientClosedError, ConfigurationError, InvalidRequestError, LeadershipLostError, Term
from bms_async.journal.transactions import leaders
from bms_async.runs import leader
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.replicas import cut_off, replicas
from tests.support.virtual_clock import run_patiently

LEASE = 15.0


def with_replicas(count: int, path: Path, main: Callable[..., Awaitable[None]]) -> None:
    async def run() -> None:
        async with replicas(SimulatedCloud(CloudSettings(servers=1)), path / "runs.db", count) as clients:
            await main(*clients)

    run_patiently(run)


class Controlled:
    """What is controlled: it takes orders of the greatest fence it has seen, and of no lesser one."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refused: list[int] = []

    def order(self, fence: int) -> None:
        (self.refused if self.taken and fence < self.taken[-1] else self.taken).append(fence)


async def lead_for(bms: BmsClient, seconds: float, terms: list[tuple[int, float, float]]) -> None:
    async with bms.runs.lead("power") as term:
        began = anyio.current_time()
        await anyio.sleep(seconds)
        assert term.is_valid()
        terms.append((term.fence, began, anyio.current_time()))


async def order_too_late(controlled: Controlled, first: BmsClient, second: BmsClient) -> None:
    async def lead_and_order() -> None:
        async with first.runs.lead("power") as term:
            cut_off(first)
            # Work that cannot be cancelled, such as a request that is on its way.
            with anyio.CancelScope(shield=True):
                async with second.runs.lead("power") as its_term:
                    controlled.order(its_term.fence)
                controlled.order(term.fence)

    with pytest.raises(LeadershipLostError):
        await lead_and_order()


def test_of_many_replicas_one_leads_and_each_term_has_a_greater_fence(tmp_path: Path) -> None:
    async def main(*clients: BmsClient) -> None:
        terms: list[tuple[int, float, float]] = []
        async with anyio.create_task_group() as tasks:
            for bms in clients:
                tasks.start_soon(lead_for, bms, 40.0, terms)
        assert [fence for fence, _, _ in terms] == [1, 2, 3, 4]
        for (_, _, left), (_, began, _) in pairwise(terms):
            assert left <= began <= left + 1.0

    with_replicas(4, tmp_path, main)


def test_a_leader_whose_journal_does_not_answer_is_cancelled_before_the_next_one_leads(tmp_path: Path) -> None:
    async def main(first: BmsClient, second: BmsClient) -> None:
        left_at: list[float] = []
        terms: list[tuple[int, float, float]] = []

        async def lead_without_end() -> None:
            async with first.runs.lead("power") as term:
                cut_off(first)
                try:
                    await anyio.sleep_forever()
                finally:
                    left_at.append(anyio.current_time())
                    assert not term.is_valid()

        async def lead_and_be_lost() -> None:
            with pytest.raises(LeadershipLostError, match="term 1") as caught:
                await lead_without_end()
            assert (caught.value.name, caught.value.fence) == ("power", 1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead_and_be_lost)
            await anyio.sleep(1.0)
            cut_at = anyio.current_time()
            await lead_for(second, 0.0, terms)
        ((fence, began, _),) = terms
        assert fence == 2
        assert left_at[0] < began <= cut_at + LEASE + 5.0

    with_replicas(2, tmp_path, main)


def test_what_is_controlled_refuses_a_leader_whose_term_is_over_by_its_fence(tmp_path: Path) -> None:
    controlled = Controlled()
    with_replicas(2, tmp_path, partial(order_too_late, controlled))
    assert (controlled.taken, controlled.refused) == ([2], [1])


def test_without_fences_that_grow_such_an_order_would_be_taken(tmp_path: Path, monkeypatch: Any) -> None:
    def same_fence(name: str, owner: str) -> Any:
        fence = yield from leaders.lead(name, owner)
        return None if fence is None else 1

    monkeypatch.setattr(leader, "lead", same_fence)

    controlled = Controlled()
    with_replicas(2, tmp_path, partial(order_too_late, controlled))
    assert (controlled.taken, controlled.refused) == ([1, 1], [])


def test_a_leader_that_finds_another_one_in_its_place_is_cancelled(tmp_path: Path) -> None:
    async def main(bms: BmsClient) -> None:
        async def lead_and_be_forgotten() -> None:
            async with bms.runs.lead("power") as term:
                await bms.runs._journal.run(leaders.resign, "power", term._tenure._owner)
                await anyio.sleep(LEASE)
                pytest.fail("the block went on")

        with pytest.raises(LeadershipLostError, match="another process leads"):
            await lead_and_be_forgotten()

    with_replicas(1, tmp_path, main)


def test_a_block_that_ends_after_its_lease_says_so(tmp_path: Path) -> None:
    async def main(bms: BmsClient) -> None:
        async def lead_and_stand_still() -> None:
            async with bms.runs.lead("power") as term:
                term._tenure._valid_until = anyio.current_time()
                assert not term.is_valid()

        with pytest.raises(LeadershipLostError, match="was over before it was renewed"):
            await lead_and_stand_still()

    with_replicas(1, tmp_path, main)


def test_an_error_of_the_block_is_raised_as_it_is_and_the_next_one_leads_at_once(tmp_path: Path) -> None:
    async def main(first: BmsClient, second: BmsClient) -> None:
        terms: list[tuple[int, float, float]] = []
        with pytest.raises(ZeroDivisionError):
            async with first.runs.lead("power"):
                raise ZeroDivisionError
        await lead_for(second, 0.0, terms)
        assert terms[0][1] < 1.0

    with_replicas(2, tmp_path, main)


def test_a_cancelled_caller_that_waits_to_lead_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main(first: BmsClient, second: BmsClient) -> None:
        terms: list[tuple[int, float, float]] = []
        async with first.runs.lead("power"):
            with anyio.move_on_after(3.0):
                await lead_for(second, 0.0, terms)
        await lead_for(first, 0.0, terms)
        assert [fence for fence, _, _ in terms] == [2]

    with_replicas(2, tmp_path, main)


def test_a_client_that_is_closed_inside_of_the_block_hands_the_term_on(tmp_path: Path) -> None:
    async def main(first: BmsClient, second: BmsClient) -> None:
        terms: list[tuple[int, float, float]] = []

        async def lead_and_be_closed() -> None:
            with pytest.raises(ClientClosedError, match="while it led"):
                async with first.runs.lead("power"):
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead_and_be_closed)
            await anyio.sleep(1.0)
            await first.aclose()
        closed_at = anyio.current_time()
        await lead_for(second, 0.0, terms)
        assert terms[0][1] < closed_at + 1.0

    with_replicas(2, tmp_path, main)


def test_names_are_apart_and_must_be_printable(tmp_path: Path) -> None:
    async def main(bms: BmsClient) -> None:
        async with bms.runs.lead("power") as power, bms.runs.lead("names") as names:
            assert isinstance(power, Term)
            assert (power.fence, names.fence) == (1, 1)
            assert repr(power) == "<Term 1 of 'power', valid>"
        for name in ("", "a\nb", "x" * 201, 3):
            with pytest.raises(InvalidRequestError, match="name="):
                async with bms.runs.lead(name):  # type: ignore[arg-type]
                    pass

    with_replicas(1, tmp_path, main)


def test_a_client_without_a_journal_cannot_lead() -> None:
    async def main() -> None:
        async with SimulatedCloud(CloudSettings(servers=1)).client() as bms:
            with pytest.raises(ConfigurationError, match="runs=Runs"):
                bms.runs.lead("power")

    run_patiently(main)
