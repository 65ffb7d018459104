"""How help looks: options and commands in sections with one column of names, as wide as the terminal.

click's own help puts all options under one heading, is 80 columns wide at most and 50 at least, cuts the description of
a command at the end of the line, and has no colours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

import click

__all__ = [
    "ARGUMENTS",
    "OPTIONS",
    "Argument",
    "Command",
    "Group",
    "Option",
    "find_command",
    "sections_of",
    "write_rows",
]

ARGUMENTS: Final = "bms_async.arguments"
"""Under this name the context of a command has all arguments, as they were typed."""

OPTIONS: Final = "Options"
"""The section of options that have no other one."""

Rows: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]

_MIN_WIDTH, _MAX_WIDTH = 20, 100
_MAX_COLUMN = 30
_INDENT, _GAP = 2, 2


class _Formatter(click.HelpFormatter):
    """Writes a page of help.

    Args:
        width: The width of a line; by default that of the terminal.
        max_width: Ignored, as click's own default is narrow.
    """

    def __init__(self, width: int | None = None, max_width: int | None = None) -> None:  # noqa: ARG002 - as click calls it
        from shutil import get_terminal_size

        room = get_terminal_size().columns - 1
        super().__init__(width=width or max(_MIN_WIDTH, min(room, _MAX_WIDTH)))
        self._has_style = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        super().write_heading(self._styled(heading, bold=True))

    def write_text(self, text: str) -> None:
        """Write paragraphs, without breaking a line at the hyphen of an option."""
        from textwrap import wrap

        indent = " " * self.current_indent
        for number, paragraph in enumerate(text.split("\n\n")):
            if number:
                self.write_paragraph()
            lines = wrap(paragraph, self.width - self.current_indent, break_on_hyphens=False)
            self.write("".join(f"{indent}{line}\n" for line in lines))

    def write_sections(self, sections: Rows) -> None:
        """Write sections of names with descriptions, all aligned in one column."""
        names = [name for rows in sections.values() for name, _ in rows]
        column = min(max(map(len, names), default=0), _MAX_COLUMN, self.width // 2 - _INDENT - _GAP)
        for heading, rows in sections.items():
            with self.section(heading):
                for name, text in rows:
                    self._write_row(name, text, column)

    def _write_row(self, name: str, text: str, column: int) -> None:
        from textwrap import wrap

        left = " " * (_INDENT + column + _GAP)
        lines = wrap(text, self.width - len(left), break_on_hyphens=False) or [""]
        if len(name) > column:
            lines.insert(0, "")
        first = f"{' ' * _INDENT}{self._styled(name, fg='cyan')}{' ' * (column - len(name) + _GAP)}{lines[0]}"
        self.write("\n".join([first.rstrip(), *(left + line for line in lines[1:])]) + "\n")

    def _styled(self, text: str, *, bold: bool | None = None, fg: str | None = None) -> str:
        # click takes the codes out again where the output is no terminal.
        return click.style(text, bold=bold, fg=fg) if self._has_style else text


class _Context(click.Context):
    formatter_class = _Formatter


class Option(click.Option):
    """An option in a section of the help.

    Args:
        args: As of `click.Option`.
        section: The heading.
        kwargs: As of `click.Option`.
    """

    def __init__(self, *args: Any, section: str = OPTIONS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what is added to its description, without the range of a number: the text says what it may be."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Argument(click.Argument):
    """An argument with a description.

    Args:
        args: As of `click.Argument`.
        description: What it is; click before 8.4 has no help of arguments.
        section: The heading.
        kwargs: As of `click.Argument`.
    """

    def __init__(self, *args: Any, description: str, section: str = "Arguments", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self._description = description

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:  # noqa: ARG002 - as click calls it
        """Return its name and its description."""
        return self.human_readable_name.strip("[]."), self._description


class Command(click.Command):
    """A command whose help has sections.

    Attributes:
        everywhere: Options that each command has.
        after_parsing: Called with the context once the options are read.
    """

    context_class = _Context
    everywhere: ClassVar[Sequence[click.Option]] = ()
    after_parsing: ClassVar[Sequence[Callable[[click.Context], None]]] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options."""
        left = super().parse_args(ctx, args)
        for each in self.after_parsing:
            each(ctx)
        return left

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its options and arguments, and those that each command has."""
        # A command that hands its arguments on hands on these, too.
        return _joined(super().get_params(ctx), () if ctx.ignore_unknown_options else self.everywhere)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        write_rows(formatter, sections_of(self, ctx))


class Group(click.Group):
    """A command with commands below it, which are shown in the order of their definition.

    Attributes:
        sections: The heading of each command that has another than the usual one.
        everywhere: Options that each group has, before the command.
    """

    context_class = _Context
    command_class = Command
    sections: ClassVar[Mapping[str, str]] = {}
    everywhere: ClassVar[Sequence[click.Option]] = ()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its options and arguments, and those that each group has."""
        return _joined(super().get_params(ctx), self.everywhere)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help where nothing is asked for: it is wrong usage, but goes to standard output, for a pager."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(2)
        # For the page about a run, which shows the command that it came of.
        ctx.meta.setdefault(ARGUMENTS, tuple(args))
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names of the commands."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections: commands first."""
        write_rows(formatter, {**self.listed(), **sections_of(self, ctx)})

    def listed(self) -> dict[str, list[tuple[str, str]]]:
        """Return its commands with the first paragraph of their help, where click would cut it, in sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            text = " ".join((command.help or "").partition("\n\n")[0].split())
            sections.setdefault(self.sections.get(name, "Commands"), []).append((name, text))
        return sections


Group.group_class = Group


def _joined(own: list[click.Parameter], everywhere: Sequence[click.Option]) -> list[click.Parameter]:
    """Return parameters with those before the last one, which is the option for help."""
    return [*own[:-1], *everywhere, *own[-1:]]


def sections_of(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    """Return the names and descriptions of a command's options and arguments, below the headings of their sections.

    Args:
        command: The command.
        context: Its context.
    """
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            sections.setdefault(getattr(parameter, "section", OPTIONS), []).append(record)
    return sections


def write_rows(formatter: click.HelpFormatter, sections: Rows) -> None:
    """Write sections of names with descriptions.

    Args:
        formatter: The page.
        sections: The rows below each heading.
    """
    if isinstance(formatter, _Formatter):
        formatter.write_sections(sections)


def find_command(context: click.Context, words: Sequence[str]) -> click.Context | None:
    """Return the context of a command below another one, in which nothing was typed; None if there is no such command.

    Args:
        context: That of the other one.
        words: The words that lead to it.
    """
    left = list(words)
    while left:
        if not isinstance(context.command, click.Group):
            return None
        try:
            name, command, rest = context.command.resolve_command(context, left)
        except click.UsageError:
            return None
        if command is None:
            return None
        context, left = command.make_context(name, [], parent=context, resilient_parsing=True), rest
    return context
