"""`python -m bms_async.cli`: the same as ``bms``."""

from bms_async.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
