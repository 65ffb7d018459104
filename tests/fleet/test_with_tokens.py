"""A fleet whose token ends or is revoked on the way: no server notices (R1, R2, R8)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from bms_async import AuthenticationError, FleetReport, Limits, OutcomeState
from bms_async.simulator import Answer, CallCounts
from tests.simulator.logged_in import logged_in, unauthorized
from tests.support.virtual_clock import advance, run_virtually

SERVERS, AT_ONCE = 20_000, {"servers.stop": 10}
DICTATED = 60.0
"""Seconds until the last of twenty batches may go: ten at once, and ten more a minute later."""

FEWER, FEWER_AT_ONCE = 10_000, {"servers.stop": 5}
"""The same in small: ten batches, five a minute."""


class Ran(NamedTuple):
    report: FleetReport
    tracker: CallCounts
    unauthorized: dict[str, int]
    seconds: float
    asked_at: list[float]
    stops: set[int]

    def arrived(self, operation: str) -> int:
        return self.tracker.operations[operation].arrived


def stop_everything(
    servers: int, *, revoked_at: float | None = None, limits: Mapping[str, int] | None = None, **settings: Any
) -> Ran:
    """Stop all servers of a cloud that is logged in to, and revoke the tokens once if it is said when."""

    async def main() -> Ran:
        options = {"seed": 7, "latency": (0.02, 0.3), "auth": {"margin": 10.0}, **settings}
        async with logged_in(servers=servers, limits=Limits(limits), **options) as (bms, cloud):
            loop = asyncio.get_running_loop()
            began = loop.time()
            asked_at: list[float] = []

            def note(operation: str, *_: object) -> None:
                if operation == "identity.create_token":
                    asked_at.append(loop.time())

            cloud.faults.append(note)
            run = bms.fleet.stop(list(cloud.servers))
            if revoked_at is not None:
                await advance(revoked_at)
                assert cloud.revoke_tokens() == 1
            report = await run
            stops = {server.stops for server in cloud.servers.values()}
            return Ran(report, cloud.call_counts(), unauthorized(cloud), loop.time() - began, asked_at, stops)

    return run_virtually(main)


def assert_every_server_was_stopped_once(ran: Ran, servers: int) -> None:
    assert ran.report.by_state[OutcomeState.SUCCEEDED] == servers
    assert len({outcome.server_id for outcome in ran.report.outcomes}) == len(ran.report) == servers
    assert ran.stops == {1}
    assert ran.tracker.refused == 0


def test_r8_a_token_revoked_in_the_middle_of_a_run_is_renewed_once_and_costs_no_time() -> None:
    # Half of the servers are done, and the jobs of the others are being polled.
    ran = stop_everything(SERVERS, limits=AT_ONCE, revoked_at=64.0, job_seconds=(2, 8), latency=(0.3, 0.3))
    assert_every_server_was_stopped_once(ran, SERVERS)
    assert ran.arrived("identity.create_token") == 2
    assert ran.unauthorized.keys() == {"jobs.get"}
    assert ran.unauthorized["jobs.get"] > 1
    book = ran.tracker.operations["servers.stop"]
    assert book.arrived == 20
    assert book.last is not None
    assert DICTATED <= book.last <= DICTATED * 1.02
    # The last job may take eight seconds.
    assert ran.seconds <= (DICTATED + 8.0) * 1.05


def test_tokens_of_half_a_minute_are_renewed_ahead_of_time_and_no_call_is_refused_for_them() -> None:
    # Jobs of up to a minute, so that there is always something to poll.
    ran = stop_everything(FEWER, limits=FEWER_AT_ONCE, token_lifetime=30.0, job_seconds=(5, 60))
    assert_every_server_was_stopped_once(ran, FEWER)
    assert ran.unauthorized == {}
    # Ten seconds before its end, by the first call from then on; never only when it had ended.
    assert ran.arrived("identity.create_token") == len(ran.asked_at) >= 5
    assert all(19.0 < later - earlier < 29.0 for earlier, later in pairwise(ran.asked_at))
    assert ran.arrived("servers.stop") == 10
    assert ran.seconds <= (DICTATED + 60.0) * 1.1


def test_r8_a_token_revoked_while_batches_are_on_their_way_is_renewed_once_and_no_batch_is_lost() -> None:
    # After a minute the second half of the batches goes, all at once.
    ran = stop_everything(FEWER, limits=FEWER_AT_ONCE, revoked_at=60.1, job_seconds=(2, 8))
    assert_every_server_was_stopped_once(ran, FEWER)
    assert ran.arrived("identity.create_token") == 2
    refused = ran.unauthorized["servers.stop"]
    assert 1 <= refused <= 5
    book = ran.tracker.operations["servers.stop"]
    # What was refused was counted as well, and waits for the next minute.
    assert book.arrived == 10 + refused
    assert book.worst_minute <= 5
    assert ran.seconds <= (2 * DICTATED + 8.0) * 1.05


def test_servers_whose_batch_was_never_sent_for_want_of_a_token_are_skipped_and_say_why() -> None:
    def keeps_tokens(operation: str, *_: object) -> Answer | None:
        return Answer(status=401) if operation == "identity.create_token" else None

    async def main() -> FleetReport:
        async with logged_in(servers=3000, limits=Limits({"servers.stop": 2}), job_seconds=(20, 50)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(10)
            sim.cloud.revoke_tokens()
            sim.cloud.faults.append(keeps_tokens)
            report = await run
            # Polls found out that the token is good no more, and so the third batch was never sent.
            assert sim.arrived("servers.stop") == 2
            return report

    report = run_virtually(main)
    skipped = [outcome for outcome in report.outcomes if outcome.state is OutcomeState.SKIPPED]
    assert len(skipped) == 1000
    assert {type(outcome.error) for outcome in skipped} == {AuthenticationError}
    assert report.by_state[OutcomeState.FAILED] == 0
