"""The forms in which rows are printed, and the options about them. Pure, and quick to import."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FORMS", "OutputOptions"]

FORMS: Final = ("table", "json", "jsonl", "yaml", "csv", "ids")


class OutputOptions(NamedTuple):
    """The options about rows as they were typed.

    Attributes:
        form: One of `FORMS`; None for the usual one of the command.
        columns: The names of columns, separated by commas; None for the usual ones.
        sort: The column that orders the rows, with ``-`` before it or ``:desc`` behind it for the reverse order; None
            for rows as they come.
        header: Whether the names of the columns are printed; None for what is usual in the form.
    """

    form: str | None = None
    columns: str | None = None
    sort: str | None = None
    header: bool | None = None

    @property
    def json(self) -> bool:
        """Whether whole objects are printed, for programs."""
        return self.form in {"json", "jsonl", "yaml"}

    @property
    def is_default(self) -> bool:
        """Whether nothing was typed, so that a command prints what it prints for people."""
        return self == OutputOptions()
