"""The cost of listing 100,000 servers, in pages of 1000, each with all documented fields (2.6 KB), read once.

A server on this machine sends the pages. Each client reads them in a process of its own, five times. The figures are
medians, except for the longest hold of the loop, which is the longest of all five. The peers read less: aiohttp and
httpx 20,000 servers five times, the vendor's client as many three times, and openstacksdk 2,000 servers once. Their CPU
and wall time are scaled to 100,000, their memory is not. aiohttp and httpx read into dicts, one page after the other,
without a limit. Garbage of the imports is collected once beforehand, as in any process that has run for a while: that
alone takes some 20 ms. All garbage collection from then on is in the figures.

``held`` is the longest delay of a task that sleeps for a millisecond, as far as the thread was at work meanwhile.
``late`` is the same by the clock, with other load of the machine, and ``noise`` is that of an idle loop. The last row
is a server that takes 100 ms for a page. The exit status is 1 if a target was missed.

    python -m benchmarks.listing
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks._report import judge, report
from benchmarks._serving import serving

SERVERS = 100_000
VENDOR, OPENSTACK = "vendor's BmsClient", "openstacksdk"
OURS = ("bms_async on http1", "bms_async on httpx")
MIN_TIMES_VENDOR, MIN_TIMES_OPENSTACK = 5, 100
MAX_MEGABYTES = 40
MAX_HOLD = 25
SLOW = 0.1


class Sample(NamedTuple):
    """How much a client reads, and how often."""

    client: str
    servers: int
    runs: int


SAMPLES = (
    *(Sample(client, SERVERS, 5) for client in OURS),
    *(Sample(client, SERVERS // 5, 5) for client in ("aiohttp", "httpx")),
    Sample(VENDOR, SERVERS // 5, 3),
    Sample(OPENSTACK, SERVERS // 50, 1),
)


def run(client: str, address: str, servers: int) -> dict[str, Any]:
    """Return the figures of one process.

    Raises:
        RuntimeError: It did not read all servers.
    """
    command = [sys.executable, "-m", "benchmarks._listing", client, address, str(servers)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    if found["servers"] != servers:
        raise RuntimeError(f"{client} read {found['servers']} of {servers} servers")
    return found


def row_of(sample: Sample, address: str, name: str | None = None) -> dict[str, Any]:
    """Measure one client and return its row."""
    found = [run(sample.client, address, sample.servers) for _ in range(sample.runs)]
    scale = SERVERS / sample.servers

    def middle(figure: str) -> float:
        return float(statistics.median(each[figure] for each in found))

    return {
        "client": name or sample.client,
        "servers": sample.servers,
        "runs": sample.runs,
        "CPU s": scale * middle("cpu"),
        "us a server": 1e6 * middle("cpu") / sample.servers,
        "wall s": scale * middle("wall"),
        "peak MB": middle("peak"),
        "held ms": max(each["held"] for each in found) if "held" in found[0] else "-",
        "late ms": middle("late") if "late" in found[0] else "-",
        "noise ms": middle("noise") if "noise" in found[0] else "-",
    }


def main() -> int:
    """Measure, print and save; return the exit status."""
    rows: dict[str, dict[str, Any]] = {}
    fifth: dict[str, float] = {}
    for size in sorted({sample.servers for sample in SAMPLES}, reverse=True):
        with serving("_page_server", size) as address:
            rows |= {each.client: row_of(each, address) for each in SAMPLES if each.servers == size}
            if size == SERVERS // 5:
                # Memory that grows with the list would show beside a list of a fifth.
                fifth = {client: row_of(Sample(client, size, 3), address)["peak MB"] for client in OURS}
    with serving("_page_server", SERVERS, SLOW) as address:
        name = f"{OURS[0]}, {1000 * SLOW:g} ms a page"
        rows[name] = row_of(Sample(OURS[0], SERVERS, 1), address, name)
    best = rows[OURS[0]]["CPU s"]
    compared = [{**row, "times ours": row["CPU s"] / best} for row in rows.values()]
    report("listing", compared, packages=("aiohttp", "httpx", "msgspec", "huaweicloudsdkbms", "openstacksdk"))
    targets: dict[str, bool] = {}
    for client in OURS:
        row = rows[client]
        vendor, openstack = (rows[peer]["CPU s"] / row["CPU s"] for peer in (VENDOR, OPENSTACK))
        targets |= {
            f"{client}: the vendor's client takes at least {MIN_TIMES_VENDOR} times the CPU: {vendor:.1f}": (
                vendor >= MIN_TIMES_VENDOR
            ),
            f"{client}: openstacksdk takes at least {MIN_TIMES_OPENSTACK} times the CPU: {openstack:.0f}": (
                openstack >= MIN_TIMES_OPENSTACK
            ),
            f"{client}: at most {MAX_MEGABYTES} MB above the idle client: {row['peak MB']:.1f}; "
            f"{fifth[client]:.1f} with a fifth of the servers": row["peak MB"] <= MAX_MEGABYTES,
            f"{client}: the loop is never held over {MAX_HOLD} ms: {row['held ms']:.1f}": (row["held ms"] <= MAX_HOLD),
        }
    return judge(targets)


if __name__ == "__main__":
    raise SystemExit(main())
