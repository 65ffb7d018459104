"""A batch that a worker takes over and leaves before it has done anything for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bms_async.fleet.durable import DurableBatch
from bms_async.runs import held
from tests.runs._virtual import Site, at_a_site, kill
from tests.support.virtual_clock import advance


def test_a_reboot_that_was_found_as_sent_is_never_handed_back_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = DurableBatch.run
    breaks = 0

    async def breaking_once(self: DurableBatch, state: Any, job: Any = None) -> None:
        nonlocal breaks
        if state == "sending" and not breaks:
            breaks += 1
            raise RuntimeError("before anything was done")
        await honest(self, state, job)

    monkeypatch.setattr(DurableBatch, "run", breaking_once)
    monkeypatch.setattr(held, "PAUSE_AFTER_BUG", 1.0)

    async def main(site: Site) -> None:
        first, second = await site.client(), await site.client()
        await first.runs.reboot(site.ids, key="k")
        while not site.calls("servers.reboot"):
            await advance(0.1)
        # Not earlier: the batch may be any worker's that is there.
        await site.works(second)
        await kill(first)
        report = await (await second.runs.get("k"))
        assert breaks == 1
        assert len(report) == 30
        assert site.calls("servers.reboot") == 1

    # The response is nearly always on its way for longer than the kill takes.
    at_a_site(tmp_path, main, latency=(30, 30), job_seconds=(40, 60))
