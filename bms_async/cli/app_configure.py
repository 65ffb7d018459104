"""The command about profiles, and its options; its code is imported when it is run."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from . import options, shared
from .context import PROFILE
from .declaring import OUTPUT, option
from .ending import EXIT_CODES, end
from .help import Command

__all__ = ["configure"]


class _Configure(Command):
    # A profile that is broken must not keep anybody from mending it.
    everywhere = (shared.verbose,)


def _complete_key(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from .access.profiles import KEYS

    return [CompletionItem(f"{key}=") for key in KEYS if key.startswith(begun)]


def _pick(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return shared.pick_once(context, PROFILE, "--profile", value)


@click.command("configure", cls=_Configure, epilog=EXIT_CODES)
@option("--profile", metavar="NAME", callback=_pick, help="The profile; default: BMS_PROFILE, or the default one.")
@option("--set", "settings", multiple=True, metavar="KEY=VALUE", shell_complete=_complete_key,
        help="Set cloud, wave, abort_above, verify, output, header or journal.")  # fmt: skip
@option("--unset", multiple=True, metavar="KEY", help="Take a setting out.")
@option("--default", is_flag=True, help="Have the profile count where no other is named.")
@option("--list", "is_list", is_flag=True, section=OUTPUT, help="Print the names of all profiles.")
@option("--show", is_flag=True, section=OUTPUT, help="Print the profile.")
@options.json
def configure(
    *,
    profile: str | None,
    settings: Sequence[str],
    unset: Sequence[str],
    default: bool,
    is_list: bool,
    show: bool,
    json: bool,
) -> None:
    """Write a profile: a cloud, and what options have where they are not typed.

    It asks on a terminal, or writes what --set and --unset say, into ~/.config/bms/config.toml, below XDG_CONFIG_HOME
    or, on Windows, APPDATA. Comments, other profiles and all else in the file stay.

    A profile is chosen by --profile, by BMS_PROFILE or as the default one. An option wins over it, and so do BMS_RUNS
    and, unless --profile names it, complete settings or OS_CLOUD of the environment. A run that is resumed or retried
    keeps its own wave, abort_above and verify. No secret belongs in the file.
    """

    def work() -> int:
        from .access.configure import ConfigureOptions
        from .access.configure import configure as write

        return write(
            ConfigureOptions(
                profile=profile,
                settings=tuple(settings),
                unset=tuple(key.replace("-", "_") for key in unset),
                default=default,
                is_list=is_list,
                show=show,
                json=json,
            )
        )

    end(work)
