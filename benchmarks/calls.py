"""The CPU of a call, beside that of the alternatives: a small job is polled, by 1 to 1,000 callers at once.

    python -m benchmarks.calls

Each client runs in a process of its own against a bare server in another. CPU is that of the client's whole process,
threads included; a call is counted when its response was read. Then the same with a server that responds after 100 ms,
as real clouds do. The exit status is 1 if a target was missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._callers import CLIENTS
from benchmarks._report import judge, report
from benchmarks._serving import serving

AT_ONCE = {0.0: (1, 16, 100, 1000), 0.1: (100, 1000)}
SECONDS = {0.0: 0.2, 0.1: 0.4}
PACKAGES = ("httpx", "httpx2", "aiohttp", "msgspec", "huaweicloudsdkbms", "openstacksdk")
OURS, OURS_SIGNED, OURS_ON_HTTPX = "bms_async on aiohttp", "bms_async on aiohttp, signed", "bms_async on httpx"
PEERS = {
    "vendor's BmsClient in threads": OURS_SIGNED,
    "vendor's BmsAsyncClient": OURS_SIGNED,
    "openstacksdk in threads": OURS,
}
"""The peers, each with our client that does the same work: the vendor's clients sign, openstacksdk has a token."""
POOL = 64

JOB = {
    "job_id": "ff808081ad0b6a5e0190f4c37f5b00a1",
    "job_type": "baremetalBatchStop",
    "status": "RUNNING",
    "begin_time": "2026-11-24T10:00:00.000Z",
    "end_time": "",
    "error_code": None,
    "fail_reason": None,
    "entities": {
        "sub_jobs_total": 1,
        "sub_jobs": [
            {
                "job_id": "ff808081ad0b6a5e0190f4c37f5b00a2",
                "job_type": "baremetalSingleStop",
                "status": "RUNNING",
                "begin_time": "2026-11-24T10:00:00.000Z",
                "end_time": "",
                "error_code": None,
                "fail_reason": None,
                "entities": {"server_id": "616fb98f-46ca-475e-917e-2563e5a8cd19"},
            }
        ],
    },
}

Figures = dict[tuple[str, float, int], dict[str, float]]


def measure(client: str, address: str, callers: int, seconds: float) -> dict[str, float]:
    """Return the µs of CPU a call, and the calls a second, of one client: medians of five windows."""
    command = [sys.executable, "-m", "benchmarks._callers", client, address, str(callers), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{client} with {callers} callers: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_all() -> Figures:
    """Measure every client at every number of callers; they take turns, so that other load affects all alike."""
    figures: Figures = {}
    with TemporaryDirectory() as folder:
        body = Path(folder) / "job.json"
        body.write_text(json.dumps(JOB))
        for delay, numbers in AT_ONCE.items():
            with serving("_bare_server", body, delay) as address:
                for callers in numbers:
                    for client in CLIENTS:
                        figures[client, delay, callers] = measure(client, address, callers, SECONDS[delay])
    return figures


def targets_of(figures: Figures) -> dict[str, bool]:
    """Return the targets, and whether each was met."""

    def cpu(client: str, callers: int, delay: float = 0.0) -> float:
        return figures[client, delay, callers]["cpu"]

    def rate(client: str, callers: int) -> float:
        return figures[client, 0.1, callers]["rate"]

    raw = cpu(OURS, 100) / cpu("aiohttp", 100)
    targets = {f"on aiohttp, 100 callers: {raw:.2f} times the CPU of raw aiohttp, at most 1.5": raw <= 1.5}
    for callers in AT_ONCE[0.0]:
        ratio = cpu(OURS_ON_HTTPX, callers) / cpu("httpx", callers)
        targets[f"on httpx, {callers} callers: {ratio:.2f} times the CPU of raw httpx, at most 1"] = ratio <= 1
    flat = cpu(OURS_ON_HTTPX, 1000) / cpu(OURS_ON_HTTPX, 16)
    targets[f"on httpx, flat: 1000 callers cost {flat:.2f} times what 16 cost, at most 1.25"] = flat <= 1.25
    for callers in AT_ONCE[0.0]:
        least = min(cpu(peer, callers) / cpu(mine, callers) for peer, mine in PEERS.items())
        targets[f"on aiohttp, {callers} callers: {least:.1f} times less CPU than the best peer, at least 6"] = (
            least >= 6
        )
    for callers in AT_ONCE[0.1]:
        share = rate(OURS, callers) / rate("aiohttp", callers)
        targets[f"server of 100 ms, {callers} callers: {share:.2f} of raw aiohttp's rate, at least 0.97"] = (
            share >= 0.97
        )
        allowed = rate(OURS_ON_HTTPX, callers) / (min(callers, POOL) / 0.1)
        target = f"100 ms, {callers} callers: on httpx {allowed:.2f} of what {POOL} connections allow, at least 0.9"
        targets[target] = allowed >= 0.9
    return targets


def main() -> int:
    """Measure, print and save; return the exit status."""
    figures = measure_all()
    rows = []
    for (client, delay, callers), found in figures.items():
        best = min(figures[peer, delay, callers]["cpu"] for peer in PEERS)
        rows.append(
            {
                "server takes": f"{1000 * delay:.0f} ms",
                "callers": callers,
                "client": client,
                "CPU us a call": round(found["cpu"], 1),
                "calls a second": round(found["rate"]),
                "CPU, best SDK = 1": round(found["cpu"] / best, 3),
            }
        )
    report("calls", rows, packages=PACKAGES)
    return judge(targets_of(figures))


if __name__ == "__main__":
    raise SystemExit(main())
