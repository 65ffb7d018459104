"""A process with a reconciler, which kills itself at points that its part says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from bms_async import Backoff, BmsClient, Http1Transport, Limits, RetryPolicy, StaticToken
from bms_async.journal.transactions import leaders
from bms_async.limits.table import DOCUMENTED_LIMITS
from bms_async.runs import Runs, leader
from tests.runs.failures._points import Fate, Points, hook
from tests.runs.failures._times import SHORT, use
from tests.runs.failures._worker import Mouth


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """What a process is to do.

    Attributes:
        name: Its name.
        journal: The address of the journal.
        endpoint: The cloud's.
        project: The project.
        token: The token.
        ids: The servers that are to be off.
        points: The folder in which all processes count how often they have passed a point.
        fates: What happens at which passage of which point.
    """

    name: str
    journal: str
    endpoint: str
    project: str
    token: str
    ids: list[str]
    points: str
    fates: dict[str, dict[int, Fate]]


def run(part: Part, control: int) -> None:
    """Be that process.

    Args:
        part: What it does.
        control: The port of whoever is to know.
    """
    mouth = Mouth(part.name, control)
    use(SHORT, batch=4)
    for module in (leaders, leader):
        module.__dict__["LEASE"] = SHORT.lease
    leader.__dict__.update(_RENEW_EVERY=SHORT.renew, _RETRY_EVERY=SHORT.look, _LOOK_EVERY=0.1, _MARGIN=SHORT.lease / 15)
    hook(Points(Path(part.points), part.fates, mouth.say), mouth.say)
    asyncio.run(_reconcile(part, mouth))


async def _reconcile(part: Part, mouth: Mouth) -> None:
    ended = asyncio.Event()
    mouth.wait_for_end(ended, asyncio.get_running_loop())
    async with (
        BmsClient(
            endpoint=part.endpoint,
            project_id=part.project,
            auth=StaticToken(part.token),
            transport=Http1Transport(),
            limits=Limits(dict.fromkeys(DOCUMENTED_LIMITS)),
            retry=RetryPolicy(initial_delay=0.1),
            runs=Runs(part.journal),
        ) as bms,
        bms.reconciler(resync=0.5, backoff=Backoff(0.5, cap=1.0)) as power,
    ):
        power.want("SHUTOFF", part.ids)
        mouth.say("ready")
        await power.synced()
        mouth.say("synced")
        await ended.wait()
    mouth.say("done")
