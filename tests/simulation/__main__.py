"""Replays one scenario, or plays thousands of them.

python -m tests.simulation 12345                    one seed, judged
python -m tests.simulation '{"seed":7, ...}'        one scenario, as a shrunk one is printed
python -m tests.simulation 12345 --shrink           made as small as it goes
python -m tests.simulation 12345 --show             with each request, as the network saw it
python -m tests.simulation --seeds 10000            many, on all cores; `make soak SEEDS=10000` is the same
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

import msgspec

from tests.simulation.draw import draw_scenario
from tests.simulation.scenario import Scenario
from tests.simulation.seeds import replay_line, shrink, try_scenario
from tests.simulation.soak import soak
from tests.simulation.world import play


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="?", help="a seed, or a scenario as JSON")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to play when no scenario is given")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shrink", action="store_true", help="make it as small as it goes")
    parser.add_argument("--show", action="store_true", help="print each request, as the network saw it")
    given = parser.parse_args(arguments)
    warnings.simplefilter("error")
    if given.scenario is None:
        return soak(given.first, given.seeds, given.processes)
    return _replay(given.scenario, smaller=given.shrink, show=given.show)


def _replay(text: str, *, smaller: bool, show: bool) -> int:
    scenario = draw_scenario(int(text)) if text.isdecimal() else msgspec.json.decode(text, type=Scenario)
    verdict = try_scenario(scenario)
    if verdict.broken and smaller:
        verdict = shrink(verdict)
    print(verdict.scenario)  # noqa: T201
    if show:
        for each in play(verdict.scenario).exchanges:
            print(each)  # noqa: T201
    print(verdict if verdict.broken else f"{replay_line(scenario)}\n  no rule is broken")  # noqa: T201
    return int(bool(verdict.broken))


if __name__ == "__main__":
    sys.exit(main())
