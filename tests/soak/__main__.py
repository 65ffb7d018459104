"""Two minutes on real sockets, with a network that breaks and a cloud that errs.

python -m tests.soak --seconds 120 --transport httpx --seed 7       `make soak-sockets` plays each transport
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.soak.play import TRANSPORTS, soak


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, and print what came of it; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transport", choices=tuple(TRANSPORTS), action="append", help="all if none is given")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long, for each")
    parser.add_argument("--seed", type=int, default=0, help="what is done and what goes wrong")
    parser.add_argument("--share", type=float, default=0.05, help="of the requests something goes wrong with")
    given = parser.parse_args(arguments)
    broken = 0
    for transport in given.transport or TRANSPORTS:
        soaked = soak(transport, seconds=given.seconds, seed=given.seed, share=given.share)
        print(soaked, flush=True)  # noqa: T201
        broken += len(soaked.broken)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
