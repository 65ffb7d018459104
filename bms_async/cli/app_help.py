"""``bms help``: the help of any command by its words, and of what belongs to no command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from .declaring import argument
from .guides import TOPICS
from .help import Command, find_command, write_rows

__all__ = ["help_command"]


def _complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
    words = context.params.get("words") or ()
    found = find_command(context.find_root(), words)
    if found is None:
        return []
    names = found.command.list_commands(found) if isinstance(found.command, click.Group) else []
    return [CompletionItem(name) for name in (*names, *(() if words else TOPICS)) if name.startswith(begun)]


@click.command("help", cls=Command)
@argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=_complete,
          description="A command, such as servers list; or a topic: settings, exit-codes.")  # fmt: skip
@click.pass_context
def help_command(context: click.Context, *, words: Sequence[str]) -> None:
    """Show the help of a command; `bms help settings` lists all variables and files, and `bms help exit-codes`."""
    root = context.find_root()
    topic = TOPICS.get(" ".join(words))
    if topic is not None:
        formatter = context.make_formatter()
        formatter.write_text(topic.text)
        write_rows(formatter, topic.rows)
        click.echo(formatter.getvalue().rstrip("\n"), color=context.color)
        return
    found = find_command(root, words)
    if found is None:
        typed = " ".join(words)
        raise click.UsageError(
            f"there is no command {typed!r} and no topic; the topics are {', '.join(TOPICS)}, and `bms help` lists"
            " the commands"
        )
    if found.command.add_help_option:
        click.echo(found.get_help(), color=context.color)
        return
    # One that hands on its arguments has the help of what it hands them on to.
    root.command.main([*words, "--help"], prog_name=root.info_name, standalone_mode=False)


def all_commands(context: click.Context) -> Iterator[click.Context]:
    """Iterate over a command and all below it, each with the context that its help needs.

    Args:
        context: That of the first one.
    """
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.commands:
            below = find_command(context, [name])
            if below is not None:
                yield from all_commands(below)
