"""A worker whose credentials are wrong: it neither uses up the attempts of others, nor makes unknown what they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from bms_async import AuthenticationError, FleetReport, Limits, StaticToken
from bms_async.runs.standing import Standing
from tests.support.virtual_clock import advance

from ._virtual import Site, at_a_site, kill

WORK = {"job_seconds": (100, 120), "latency": (2, 2)}


class WrongPassword(StaticToken):
    """Credentials that never get a token."""

    def headers(self, request: Any) -> Any:
        raise AuthenticationError(operation=request.operation, status=401, message="wrong password")


class StaleToken(StaticToken):
    """Credentials with a token that the cloud refuses."""

    def headers(self, request: Any) -> Any:
        return {"X-Auth-Token": "stale"}


KINDS = pytest.mark.parametrize("kind", [WrongPassword, StaleToken])


def counted(report: FleetReport) -> dict[str, int]:
    return {state.value: count for state, count in report.by_state.items() if count}


@pytest.mark.parametrize("guarded", [True, False])
@KINDS
def test_beside_a_worker_that_sends_nothing_is_given_up_but_without_the_guard(
    tmp_path: Path, kind: type[StaticToken], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(self: Standing) -> bool:
        return True

    if not guarded:
        monkeypatch.setattr(Standing, "may_try", always)

    async def main(site: Site) -> None:
        wrong = await site.client(auth=kind("wrong"))
        good = await site.client(limits=Limits({"servers.reboot": 3}))
        async with wrong.runs.work(), good.runs.work():
            report = await (await good.runs.reboot(site.ids, key="k", detach=True, wave_size=40))
        assert (counted(report) == {"SUCCEEDED": 100}) is guarded

    at_a_site(tmp_path, main, servers=100, job_seconds=(5, 10))


@KINDS
def test_alone_it_ends_the_run_after_all(tmp_path: Path, kind: type[StaticToken]) -> None:
    async def main(site: Site) -> None:
        wrong = await site.worker(auth=kind("wrong"))
        report = await (await wrong.runs.reboot(site.ids, key="k", detach=True, wave_size=40))
        assert counted(report) == {"SKIPPED" if kind is WrongPassword else "FAILED": 30}
        assert {type(outcome.error) for outcome in report.outcomes} == {AuthenticationError}
        assert 600 < anyio.current_time() < 1500

    at_a_site(tmp_path, main)


@pytest.mark.parametrize(
    ("kind", "state", "action"),
    [
        (WrongPassword, "sending", "stop"),
        (WrongPassword, "watching", "reboot"),
        (StaleToken, "sending", "reboot"),
        (StaleToken, "watching", "stop"),
    ],
)
def test_it_leaves_to_others_what_a_dead_worker_has_left(
    tmp_path: Path, kind: type[StaticToken], state: str, action: str
) -> None:
    async def main(site: Site) -> None:
        first, wrong = await site.client(), await site.client(auth=kind("wrong"))
        await getattr(first.runs, action)(site.ids, key="k")
        while not site.calls(f"servers.{action}"):
            await advance(0.1)
        # Not earlier: the batch may be any worker's that is there.
        await site.works(wrong)
        if state == "watching":
            await anyio.sleep(5)
        await kill(first)
        await anyio.sleep(30)
        good = await site.worker()
        assert counted(await (await good.runs.get("k"))) == {"SUCCEEDED": 30}
        assert site.calls(f"servers.{action}") == 1 or action == "stop"

    at_a_site(tmp_path, main, **WORK)


def test_alone_it_ends_what_a_dead_worker_has_left_as_unknown(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, wrong = await site.client(), await site.client(auth=WrongPassword("wrong"))
        await first.runs.reboot(site.ids, key="k")
        while not site.calls("servers.reboot"):
            await advance(0.1)
        await site.works(wrong)
        await anyio.sleep(5)
        await kill(first)
        assert counted(await (await wrong.runs.get("k"))) == {"UNKNOWN": 30}
        assert 600 < anyio.current_time() < 1200

    at_a_site(tmp_path, main, **WORK)


def test_a_worker_whose_batch_is_accepted_while_it_asks_for_others_may_take_one() -> None:
    class Asked:
        async def run(self, *_: object, **__: object) -> bool:
            standing.note(None)
            return False

    now = 0.0
    standing = Standing(cast("Any", Asked()), cast("Any", None), place="p", owner="o", clock=lambda: now)

    async def main() -> None:
        nonlocal now
        standing.note(0.0)
        assert not await standing.may_try()
        now = 1000.0
        assert await standing.may_try()
        now = 1000.1
        assert await standing.may_try()

    anyio.run(main)
