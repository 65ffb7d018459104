"""The marker `bms` of a test: its arguments, and whether the test got the loop that it asked for."""

from __future__ import annotations

from typing import Any

import pytest


def read_marker(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of all markers of a test; the nearest one wins."""
    arguments: dict[str, Any] = {}
    for mark in item.iter_markers("bms"):
        if mark.args:
            pytest.fail(
                f"@pytest.mark.bms: expected keyword arguments, such as servers=3, got {mark.args}", pytrace=False
            )
        arguments = {**mark.kwargs, **arguments}
    return arguments


def check_loop(item: pytest.Item) -> None:
    """Fail a test that asks for the virtual clock but runs on a real loop that its module already had."""
    from bms_async.testing.clock import is_virtual

    if read_marker(item).get("virtual") is True and not is_virtual():
        pytest.fail(
            "@pytest.mark.bms(virtual=True) did not get its clock: async fixtures of a wider scope have a real loop"
            " already; mark the whole module",
            pytrace=False,
        )
