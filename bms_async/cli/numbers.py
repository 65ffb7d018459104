"""Whole numbers among the options: what is expected is said in words, and not as click's own type says it."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Number"]


class Number(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number.

        Args:
            value: What was typed.
            param: The option.
            ctx: The command.

        Raises:
            BadParameter: It is none, or out of the range.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            rest = f"from {self.min} to {self.max}" if self.max is not None else f"{self.min} or more"
            self.fail(f"{value!r}: expected a whole number, {rest}", param, ctx)
