"""The forms of a report, by the suffix of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from bms_async import FleetReport
from bms_async._extras import require
from bms_async._files import write_atomically
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServers
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.files import check_output_file

from .head import PageHead
from .history import CallHistory

__all__ = ["FORMS", "check_report", "write_report"]

Form: TypeAlias = Literal["html", "txt", "csv"]

FORMS: Final[Mapping[str, Form]] = {".html": "html", ".htm": "html", ".txt": "txt", ".csv": "csv"}
"""By suffix: what is written."""


def check_report(path: str | None) -> None:
    """Refuse a report that cannot be written, before anything is changed.

    Args:
        path: The file; None if none is.

    Raises:
        UsageError: It cannot be written, or its suffix does not say in which form.
    """
    if path is None:
        return
    check_output_file("--report", path)
    suffix = Path(path).suffix.lower()
    if suffix not in FORMS:
        raise UsageError(
            f"--report {path}: expected a name that ends in .html (a page), .txt (text to be mailed) or .csv (a row for"
            " each server)"
        )
    if FORMS[suffix] == "html":
        # At the end of the run it would be too late for the page.
        require("jinja2")


def write_report(
    path: Path,
    report: FleetReport,
    calls: CallHistory,
    left: int = 0,
    *,
    head: PageHead | None = None,
    known: KnownServers = NOTHING_KNOWN,
) -> None:
    """Write a report in the form of its suffix; from a coroutine, call it in a thread.

    Args:
        path: The file.
        report: What became of the servers.
        calls: The calls that the run made.
        left: How many servers have not ended, so that they are not in the report.
        head: Where and how it ran.
        known: What is known of the servers.

    Raises:
        OSError: It cannot be written.
        ImportError: What renders it is not installed.
    """
    head = head or PageHead()
    write_atomically(path, _WRITERS[FORMS.get(path.suffix.lower(), "html")](report, calls, left, head, known).encode())


def _html(report: FleetReport, calls: CallHistory, left: int, head: PageHead, known: KnownServers) -> str:
    from .render import render_report

    return render_report(report, calls, left, head=head, known=known)


def _text(report: FleetReport, calls: CallHistory, left: int, head: PageHead, known: KnownServers) -> str:  # noqa: ARG001 - as all
    from .text_form import render_text

    return render_text(report, left, head=head, known=known)


def _csv(report: FleetReport, calls: CallHistory, left: int, head: PageHead, known: KnownServers) -> str:  # noqa: ARG001 - as all
    from .csv_form import render_csv

    return render_csv(report, known)


_WRITERS: Final[Mapping[Form, Callable[[FleetReport, CallHistory, int, PageHead, KnownServers], str]]] = {
    "html": _html,
    "txt": _text,
    "csv": _csv,
}
