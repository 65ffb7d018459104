"""What a call costs, beside the least that it can cost and beside the alternatives.

    python -m benchmarks.calls [--quick] [--only ours,floor] [--parts calls,big] [--base CHECKOUT]

A job of one server is polled while it runs, by 1 to 1,000 callers at once, on asyncio and on uvloop, over plain HTTP
and over TLS that is verified. All clients live in one process and take turns in slices of a tenth of a second or less.
The server is in another process; it sends the headers of a gateway and does nothing else. The figure is the CPU of a
call, threads included, as a ratio to the slices of raw aiohttp around it, which reads the JSON into dicts; its median
is printed. So other load on the machine falls on all alike. With one caller it tells still: a process that waits after
each call finds its caches used by others.

``floor`` is the least client there can be, into a typed job, and ``floor-raw`` the same without reading. ``ours seam``
is a transport of ours by itself. ``ours`` is everything: limited, logged, retried, and read into a typed job.

The other parts: a job of 1,000 servers that run (``big``); a server that takes its time, where what counts is how many
calls come through and how long the slowest take (``latency``); and what the client costs above its transport, beside
another checkout of it where one is given (``above``). The exit status is 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

from benchmarks._authority import make_certificates
from benchmarks._clients import (
    ASYNC,
    BASELINE,
    BLOCKING,
    BRIEF,
    FLOOR,
    FLOOR_RAW,
    OURS,
    OURS_ON_AIOHTTP,
    OURS_ON_HTTPX,
    SDKS,
    SEAM,
    SIGNED,
    Site,
)
from benchmarks._compared import compare
from benchmarks._report import judge, report
from benchmarks._samples import job_document
from benchmarks._serving import serving
from benchmarks._sliced import Figures, Plan

PARTS = ("calls", "big", "latency", "above")
PACKAGES = (
    "aiohttp", "httptools", "httpx", "httpx2", "huaweicloudsdkbms", "msgspec", "openstacksdk", "pyreqwest", "uvloop",
    "wreq",
)  # fmt: skip
CALLERS = (1, 16, 100, 1000)
SLOW = {100: 0.1, 1000: 0.05}
"""Seconds that a slow server takes, by the number of callers that wait for it."""
CONNECTIONS, HTTPX_CONNECTIONS = 100, 64
MAX_RATIO = {1: 0.75, 16: 0.65, 100: 0.65, 1000: 0.65}
MAX_SIGNING, MAX_TLS, MAX_ABOVE, MAX_BIG = 0.2, 0.7, 0.45, 0.75
MIN_RATE, MIN_HTTPX_RATE, MIN_TIMES_SDK, MAX_FLAT = 0.98, 0.9, 6, 1.25
NOISE = 1.02
"""How far two clients that do the same are apart in one run."""

Targets = dict[str, bool]
Found = dict[int, dict[str, Figures]]


class Setting(NamedTuple):
    """Where calls are measured."""

    is_tls: bool
    uvloop: bool

    def __str__(self) -> str:
        return f"{'TLS' if self.is_tls else 'HTTP'}, {'uvloop' if self.uvloop else 'asyncio'}"


PLAIN, PLAIN_UVLOOP, TLS, TLS_UVLOOP = SETTINGS = (
    Setting(is_tls=False, uvloop=False),
    Setting(is_tls=False, uvloop=True),
    Setting(is_tls=True, uvloop=False),
    Setting(is_tls=True, uvloop=True),
)


class Effort(NamedTuple):
    """How long it may take: the seconds of a client with one number of callers, and how often it has its turn."""

    callers: tuple[int, ...]
    full: float
    brief: float
    rounds: int
    slow_rounds: int
    base_rounds: int


THOROUGH = Effort(CALLERS, full=0.3, brief=0.2, rounds=7, slow_rounds=3, base_rounds=25)
QUICK = Effort((1, 100), full=0.2, brief=0.15, rounds=5, slow_rounds=1, base_rounds=9)


class Bench:
    """Makes the measurements.

    Args:
        folder: For the bodies and certificates that the servers read.
        only: The clients to measure; none for those that fit.
        effort: How long it may take.
    """

    def __init__(self, folder: Path, only: Sequence[str], effort: Effort) -> None:
        self._folder = folder
        self._only = only
        self.effort = effort
        self._authority, self._certificate = make_certificates(folder)

    def calls(self) -> dict[Setting, Found]:
        """Measure small calls, in every setting and with every number of callers."""
        effort = self.effort
        found: dict[Setting, Found] = {}
        for is_tls in (False, True):
            with self._site(1, is_tls=is_tls) as site:
                for setting in (each for each in SETTINGS if each.is_tls == is_tls):
                    clients = (*ASYNC, *BLOCKING) if setting == PLAIN else BRIEF
                    found[setting] = self._run(
                        site,
                        clients,
                        callers=effort.callers,
                        seconds=effort.full if setting == PLAIN else effort.brief,
                        rounds=effort.rounds,
                        uvloop=setting.uvloop,
                    )
        return found

    def big(self) -> dict[str, Figures]:
        """Measure calls whose responses are large, one after another."""
        clients = (OURS, OURS_ON_AIOHTTP, SEAM, FLOOR, FLOOR_RAW, "pyreqwest", "wreq")
        with self._site(1000) as site:
            return self._run(site, clients, callers=(1,), seconds=2 * self.effort.full, rounds=self.effort.rounds)[1]

    def latency(self) -> Found:
        """Measure calls of a server that takes its time: the same number of calls for all."""
        found: Found = {}
        for callers, delay in SLOW.items():
            clients = (OURS, FLOOR, OURS_ON_HTTPX) if callers == 100 else (OURS, FLOOR)
            calls = 10 * callers if callers == 100 else 2 * callers
            with self._site(1, delay=delay) as site:
                found |= self._run(
                    site, clients, callers=(callers,), seconds=1.0, rounds=self.effort.slow_rounds, calls=calls
                )
        return found

    @contextmanager
    def _site(self, sub_jobs: int, *, is_tls: bool = False, delay: float = 0.0) -> Iterator[Site]:
        body = self._folder / f"{sub_jobs}.json"
        body.write_bytes(job_document(sub_jobs, running=True))
        given, scheme = ([self._certificate], "https") if is_tls else ([], "http")
        with serving("_bare_server", body, delay, *given, scheme=scheme) as address:
            yield Site(address, str(self._authority) if is_tls else None)

    def _run(self, site: Site, clients: Sequence[str], **plan: Any) -> Found:
        wanted = self._only or clients
        measured = tuple(each for each in (*ASYNC, *BLOCKING) if each in wanted and each != BASELINE)
        given = msgspec.json.encode(Plan(site=site, clients=measured, **plan)).decode()
        command = [sys.executable, "-m", "benchmarks._sliced", given]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=True)
        return msgspec.json.decode(done.stdout, type=Found)


def _number_of(callers: int) -> str:
    return f"{callers:,} caller{'s' if callers > 1 else ''}"


def _middle(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def report_calls(found: dict[Setting, Found]) -> Targets:
    """Print a row for each client in each setting; return the targets."""
    rows: list[dict[str, object]] = []
    targets: Targets = {}
    for setting, by_callers in found.items():
        ratios = {
            callers: {name: _middle(each.ratios) for name, each in clients.items()}
            for callers, clients in by_callers.items()
        }
        baselines = {callers: 1e6 * _middle(clients[BASELINE].cpu) for callers, clients in by_callers.items()}
        for name in dict.fromkeys(name for clients in ratios.values() for name in clients):
            row: dict[str, object] = {"over": str(setting), "client": name}
            for callers, clients in ratios.items():
                row[f"{callers:,}"] = round(clients[name], 2) if name in clients else "-"
            for callers, clients in ratios.items():
                row[f"us, {callers:,}"] = round(baselines[callers] * clients[name], 1) if name in clients else "-"
            rows.append(row)
        targets |= _targets_of(setting, ratios)
    report("calls", rows, packages=PACKAGES)
    return targets


def _targets_of(setting: Setting, ratios: dict[int, dict[str, float]]) -> Targets:
    targets: Targets = {}
    for callers, found in ratios.items():
        where = f"{setting}, {_number_of(callers)}:"
        allowed = MAX_RATIO[callers] if not setting.is_tls else MAX_TLS if callers == 100 else None
        if OURS in found and allowed is not None:
            targets[f"{where} {found[OURS]:.2f} of raw aiohttp's CPU, at most {allowed:g}"] = found[OURS] <= allowed
        if OURS in found and SIGNED in found:
            more = found[SIGNED] - found[OURS]
            targets[f"{where} signed {more:+.3f}, at most {MAX_SIGNING:+g}"] = more <= MAX_SIGNING
        if OURS_ON_HTTPX in found and "httpx" in found:
            ratio = found[OURS_ON_HTTPX] / found["httpx"]
            targets[f"{where} on httpx {ratio:.2f} of raw httpx's CPU, at most 1"] = ratio <= 1
        times = [found[name] / found[mine] for name, mine in SDKS.items() if name in found and mine in found]
        if times:
            target = f"{where} {min(times):.1f} times less CPU than the best other SDK, at least {MIN_TIMES_SDK}"
            targets[target] = min(times) >= MIN_TIMES_SDK
    return targets


def flat_targets(found: Found) -> Targets:
    """Return whether our client on httpx costs the same with many callers."""
    few, many = (found.get(callers, {}).get(OURS_ON_HTTPX) for callers in (16, 1000))
    if few is None or many is None:
        return {}
    flat = _middle(many.cpu) / _middle(few.cpu)
    return {f"on httpx 1,000 callers cost {flat:.2f} times what 16 cost, at most {MAX_FLAT:g}": flat <= MAX_FLAT}


def report_big(found: dict[str, Figures]) -> Targets:
    """Print a row for each client; return the targets."""
    rows = [
        {
            "job of 1,000 that run": name,
            "aiohttp = 1": round(_middle(each.ratios), 2),
            "CPU ms a call": round(1000 * _middle(each.cpu), 2),
        }
        for name, each in found.items()
    ]
    report("calls_big", rows)
    if OURS not in found:
        return {}
    ratio = _middle(found[OURS].ratios)
    return {f"big job: {ratio:.2f} of raw aiohttp's CPU, at most {MAX_BIG:g}": ratio <= MAX_BIG}


def report_latency(found: Found) -> Targets:
    """Print a row for each client and number of callers; return the targets."""
    rows: list[dict[str, object]] = []
    targets: Targets = {}
    for callers, clients in found.items():
        raw = clients[BASELINE]
        for name, each in clients.items():
            p50, p99 = _middle(each.p50s), _middle(each.p99s)
            rows.append(
                {
                    "server takes": f"{1000 * SLOW[callers]:g} ms",
                    "callers": callers,
                    "client": name,
                    "calls a second": round(_middle(each.rates)),
                    "p50 ms": round(1000 * p50, 1),
                    "p99 ms": round(1000 * p99, 1),
                    "p99 - p50": round(1000 * (p99 - p50), 1),
                    "p99 / p50": round(p99 / p50, 2),
                    "CPU, aiohttp = 1": round(_middle(each.ratios), 2),
                }
            )
        if OURS in clients:
            targets |= _latency_targets(callers, clients[OURS], raw)
        if OURS_ON_HTTPX in clients:
            share = _middle(clients[OURS_ON_HTTPX].rates) * SLOW[callers] / min(callers, HTTPX_CONNECTIONS)
            target = f"slow server, {callers:,} callers: on httpx {share:.2f} of what its connections allow"
            targets[f"{target}, at least {MIN_HTTPX_RATE:g}"] = share >= MIN_HTTPX_RATE
    report("calls_latency", rows)
    return targets


def _latency_targets(callers: int, ours: Figures, raw: Figures) -> Targets:
    where = f"slow server, {callers:,} callers:"
    share = _middle(ours.rates) / _middle(raw.rates)
    targets = {f"{where} {share:.3f} of raw aiohttp's rate, at least {MIN_RATE:g}": share >= MIN_RATE}
    if callers <= CONNECTIONS:
        for name, took, taken in (("p50", ours.p50s, raw.p50s), ("p99", ours.p99s, raw.p99s)):
            slower = _middle(took) / _middle(taken)
            targets[f"{where} {name} {slower:.3f} of raw aiohttp's, at most {NOISE:g}"] = slower <= NOISE
    else:
        mine, theirs = (_middle(each.p99s) / _middle(each.p50s) for each in (ours, raw))
        target = f"{where} first come, first served: p99 is {mine:.2f} times p50, raw aiohttp's {theirs:.2f} times"
        targets[target] = mine <= theirs
    return targets


def report_above(rows: list[dict[str, Any]]) -> Targets:
    """Print the rows; return the targets, which need another checkout."""
    report("calls_above", rows)
    ratio = rows[0]["before = 1"]
    return {} if ratio == "-" else {f"above the transport: {ratio:.2f}, at most {MAX_ABOVE:g}": ratio <= MAX_ABOVE}


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer callers, shorter slices")
    parser.add_argument("--only", default="", metavar="CLIENTS", help=f"separated by commas: {', '.join(ASYNC)}, ...")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas: %(default)s")
    parser.add_argument("--base", type=Path, metavar="CHECKOUT", help="another checkout to compare with")
    given = parser.parse_args()
    only, parts = tuple(filter(None, given.only.split(","))), given.parts.split(",")
    if unknown := {*only} - {*ASYNC, *BLOCKING} | {*parts} - {*PARTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if given.base and not (given.base / "bms_async").is_dir():
        parser.error(f"{given.base}: expected a checkout with a folder bms_async")
    targets: Targets = {}
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder), only, QUICK if given.quick else THOROUGH)
        if "calls" in parts:
            found = bench.calls()
            targets |= report_calls(found) | flat_targets(found[PLAIN])
        if "big" in parts:
            targets |= report_big(bench.big())
        if "latency" in parts:
            targets |= report_latency(bench.latency())
        if "above" in parts:
            targets |= report_above(compare(given.base, bench.effort.base_rounds))
    return judge(targets)


if __name__ == "__main__":
    raise SystemExit(main())
