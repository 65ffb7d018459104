"""The marker `bms` of a test: what it says, and whether the test got the loop that it asked for."""

from __future__ import annotations

from typing import Any

import pytest


def read_marker(item: pytest.Item) -> dict[str, Any]:
    """Return what the markers of a test say together; the nearest one has the last word."""
    said: dict[str, Any] = {}
    for mark in item.iter_markers("bms"):
        if mark.args:
            pytest.fail(f"@pytest.mark.bms takes names, such as servers=3, and was given {mark.args}", pytrace=False)
        said = {**mark.kwargs, **said}
    return said


def check_loop(item: pytest.Item) -> None:
    """Fail a test that has asked for the virtual clock and runs on a loop that others of its module had before."""
    from bms_async.testing.clock import is_virtual

    if read_marker(item).get("virtual") is True and not is_virtual():
        pytest.fail(
            "@pytest.mark.bms(virtual=True) did not get its clock: async fixtures of a wider scope have a real loop"
            " already; mark the whole module",
            pytrace=False,
        )
