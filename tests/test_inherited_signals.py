"""The tests that press Ctrl-C do so too where the suite was started in the background."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.signals import heed_signals

SIGNALS = [signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def inherited() -> Iterator[None]:
    """What `nohup make test &` in a script leaves to the suite."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def end_of_child(number: signal.Signals) -> int:
    return subprocess.run(["sh", "-c", f"kill -{number.name.removeprefix('SIG')} $$"], check=False).returncode


@pytest.mark.usefixtures("inherited")
@pytest.mark.parametrize("number", SIGNALS)
def test_what_the_suite_starts_heeds_signals_that_the_suite_was_to_ignore(number: signal.Signals) -> None:
    assert end_of_child(number) == 0
    heed_signals()
    assert end_of_child(number) == -number


@pytest.mark.usefixtures("inherited")
def test_the_suite_survives_its_terminal_under_nohup() -> None:
    heed_signals()
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
