"""Reports as the pictures in the docs show them: the same at every run, whatever the clock says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from bms_async import BmsError, FleetReport, Outcome, OutcomeState
from bms_async.cli.access.known import KnownServer, KnownServers
from bms_async.cli.access.place import Place
from bms_async.cli.report_page.head import PageHead
from bms_async.cli.report_page.history import CallHistory
from bms_async.errors import NotReadyError, SubJobFailedError
from bms_async.fleet.rollout.report import Pause, RolloutTally

BEGAN = datetime(2026, 3, 7, 22, 0, 3, tzinfo=UTC)
FAILURES = (
    ("BMS.3037", "The node did not power on within 600 s."),
    ("BMS.3037", "The node did not power on within 600 s."),
    ("BMS.0006", "The service is busy."),
    ("BMS.0055", "The capacity service did not answer."),
)


class Sample(NamedTuple):
    """A report, and what its page needs beside it."""

    report: FleetReport
    calls: CallHistory
    head: PageHead
    known: KnownServers
    left: int = 0


def head(command: str, *terms: str) -> PageHead:
    place = Place(
        endpoint="https://bms.eu-west-1.example.com",
        cloud="production",
        project_id="0d9a4c1f5b7e4b0c8f0f6f6a2f1c3b55",
        project_name="billing",
        user="night-operator",
    )
    return PageHead(
        verb=command.split()[1],
        place=place,
        key=command.partition("--key ")[2].split()[0],
        host="jump-1",
        ran_by="operator",
        command=command,
        terms=terms,
        version="1.0.0",
    )


def servers(count: int, rng: random.Random, racks: int) -> Iterator[tuple[str, KnownServer]]:
    for number in range(count):
        rack = number * racks // count
        known = KnownServer(
            f"billing-{number + 1:05}" if count > 1000 else f"billing-{number + 1:02}",
            f"eu-west-1{'abc'[rack % 3]}",
            "physical.s4.large" if rng.random() < 0.7 else "physical.h2.large",
            (f"rack-{rack + 1}", "kernel-42"),
            "ACTIVE",
        )
        yield f"{rng.getrandbits(128):032x}", known


def dashed(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def rollout_of_80() -> Sample:
    """A reboot of 80 servers in waves, with readiness; five of them failed."""
    rng = random.Random(42)
    known, outcomes, tally = KnownServers(), list[Outcome](), RolloutTally()
    rows: list[tuple[float, str, Outcome, bool, bool]] = []
    for number, (digits, server) in enumerate(servers(80, rng, 6)):
        server_id, zone = dashed(digits), server.zone
        known.note(server_id, server)
        place = sum(each[1] == zone for each in rows)
        begin = 2.0 if number < 2 else 260.0 + (place // 3) * 250.0 + rng.uniform(0, 20)
        if number in {37, 55, 71}:
            error: BmsError = SubJobFailedError(
                server_id=server_id, job_id=job_of(rng), code=FAILURES[number % 4][0], reason=FAILURES[number % 4][1]
            )
        else:
            error = NotReadyError(
                server_id=server_id,
                asked="tcp 22 at 192.168.0.7",
                answered="connection refused",
                seconds=900.0,
                attempts=60,
            )
        bad = number in {37, 48, 55, 63, 71}
        outcome = Outcome(
            server_id=server_id,
            state=OutcomeState.FAILED if bad else OutcomeState.SUCCEEDED,
            job_id=job_of(rng),
            error=error if bad else None,
            attempts=1,
            started=BEGAN + timedelta(seconds=begin),
            ended=BEGAN + timedelta(seconds=begin + (600 if bad else rng.uniform(150, 240))),
        )
        rows.append((begin, zone, outcome, number < 2, bad))
    for _, zone, outcome, is_canary, is_lost in sorted(rows, key=lambda row: row[2].ended or BEGAN):
        tally.add(outcome, zone, is_canary=is_canary, is_lost=is_lost)
        outcomes.append(outcome)
    groups = tuple(tally.groups(lambda _: 5, lambda _: False))
    ended = max(each.ended for each in outcomes if each.ended)
    pause = Pause(started=BEGAN + timedelta(minutes=22), ended=BEGAN + timedelta(minutes=25), reason="paused")
    report = msgspec.structs.replace(
        report_of("servers.reboot", outcomes, ended, batches=32), rollout=tally.report(groups, [pause])
    )
    seconds = (ended - BEGAN).total_seconds()
    calls = CallHistory(
        operation="servers.reboot",
        limit=50,
        started=BEGAN,
        calls=sorted(
            (round((each.started - BEGAN).total_seconds(), 1), place)
            for place, each in enumerate(
                sorted((each for each in outcomes if each.started), key=lambda each: each.started or BEGAN), 1
            )
            if each.started
        ),
        polls=[(at, int(at * 1.4)) for at in range(0, int(seconds), 10)],
        poll_limit=2000,
    )
    command = (
        "bms reboot --tag kernel-42 --canary 2 --group-by az --max-unavailable 5 --ready tcp:22 --key kernel-42"
        " --report kernel-42.html"
    )
    return Sample(
        report,
        calls,
        head(
            command,
            "2 canaries first",
            "grouped by availability_zone",
            "at most 5 of a group unavailable",
            "each well again within 15\N{NO-BREAK SPACE}min",
        ),
        known,
    )


def run_of_12000() -> Sample:
    """A stop of 12,000 servers, of which 3 in 100 failed, most of them in two racks."""
    rng = random.Random(7)
    known, outcomes = KnownServers(), list[Outcome]()
    for number, (digits, server) in enumerate(servers(12_000, rng, 24)):
        server_id = dashed(digits)
        known.note(server_id, server)
        begin = number // 1000 * 1.3
        is_bad = rng.random() < (0.2 if server.tags[0] in {"rack-5", "rack-17"} else 0.015)
        code, reason = rng.choice(FAILURES)
        error = SubJobFailedError(server_id=server_id, job_id=job_of(rng), code=code, reason=reason)
        outcomes.append(
            Outcome(
                server_id=server_id,
                state=OutcomeState.FAILED if is_bad else OutcomeState.SUCCEEDED,
                job_id=job_of(rng),
                error=error if is_bad else None,
                attempts=1,
                started=BEGAN + timedelta(seconds=begin),
                ended=BEGAN + timedelta(seconds=begin + rng.gammavariate(6.0, 12.0)),
            )
        )
    outcomes.sort(key=lambda each: each.ended or BEGAN)
    report = report_of("servers.stop", outcomes, outcomes[-1].ended or BEGAN, batches=12)
    calls = CallHistory(
        operation="servers.stop",
        limit=50,
        started=BEGAN,
        calls=[(round(each * 1.3, 1), each + 1) for each in range(12)],
        polls=[(at / 2, at * 6) for at in range(int(report.seconds * 2))],
        poll_limit=2000,
    )
    command = "bms stop --tag kernel-42 --abort-above 5% --key power-off --report power-off.html"
    return Sample(report, calls, head(command, "ended when more than 5 % have failed"), known)


def report_of(action: str, outcomes: list[Outcome], ended: datetime, *, batches: int) -> FleetReport:
    by_state, by_code = dict.fromkeys(OutcomeState, 0), dict[str, int]()
    for outcome in outcomes:
        by_state[outcome.state] += 1
        if not outcome.state.is_success:
            by_code[outcome.reason] = by_code.get(outcome.reason, 0) + 1
    return FleetReport(
        action=action,
        outcomes=outcomes,
        by_state=by_state,
        by_code=dict(sorted(by_code.items(), key=lambda pair: -pair[1])),
        batches=batches,
        cancelled=False,
        started=BEGAN,
        ended=ended,
    )


def job_of(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def part_of(sample: Sample, share: float) -> Sample:
    """The same run while it goes on: so much of it has ended."""
    outcomes = list(sample.report.outcomes)[: int(len(sample.report.outcomes) * share)]
    ended = outcomes[-1].ended or BEGAN
    seconds = (ended - BEGAN).total_seconds()
    calls = msgspec.structs.replace(
        sample.calls,
        calls=[each for each in sample.calls.calls if each[0] <= seconds],
        polls=[each for each in sample.calls.polls if each[0] <= seconds],
    )
    report = report_of(sample.report.action, outcomes, ended, batches=sample.report.batches)
    return sample._replace(report=report, calls=calls, left=len(sample.report.outcomes) - len(outcomes))
