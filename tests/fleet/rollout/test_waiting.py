"""A run that may begin nothing waits, and does not look again and again whether it may."""

from __future__ import annotations

import anyio
import pytest

from bms_async import Rollout
from bms_async.fleet.rollout.gate import Gate
from bms_async.simulator import CloudSettings
from bms_async.testing import SimulatedCloud, run_virtually


@pytest.mark.parametrize("each", [False, True])
def test_a_paused_run_of_servers_that_are_due_waits_to_be_resumed(each: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    why_closed, is_open = Gate.why_closed, Gate.is_open

    def count() -> None:
        nonlocal looks
        looks += 1
        assert looks < 1000, "it looks again and again"

    def counted_why(gate: Gate, at: object) -> str | None:
        count()
        return why_closed(gate, at)  # type: ignore[arg-type]  # handed on

    def counted_open(gate: Gate, at: object) -> bool:
        count()
        return is_open(gate, at)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(Gate, "why_closed", counted_why)
    monkeypatch.setattr(Gate, "is_open", counted_open)

    async def main() -> int:
        cloud = SimulatedCloud(CloudSettings(servers=60, job_seconds=(60, 60)))
        async with cloud.client() as bms:
            rollout = Rollout(max_unavailable=2)
            run = (
                bms.fleet.each(cloud.ids, bms.servers.get, rollout=rollout)
                if each
                else bms.fleet.reboot(cloud.ids, rollout=rollout)
            )
            run.pause()
            await anyio.sleep(600)
            assert run.progress.done == 0
            run.resume()
            return len(await run)

    assert run_virtually(main) == 60
    assert looks > 0
