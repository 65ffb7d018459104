"""The commands below ``bms servers`` and ``bms nova`` that change any number of servers, one call each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, Unpack

import click

from . import options
from .completing import complete_seen
from .declaring import RUN, argument, complete_file, option
from .ending import EXIT_CODES, HARD_REBOOT, HARD_STOP, end
from .help import Command, Group
from .numbers import Number

if TYPE_CHECKING:
    from .acting.common import CommonArguments
    from .acting.power_options import Action

__all__ = ["COMMANDS", "nova"]

_SAME: Final = (
    "\n\nThe servers are given as ids, a file or a pipe, or chosen by filters; each is a call, and the calls keep the"
    " cloud's limit. With the options of a rollout it goes through the fleet as bms reboot does.\n\n"
    "Ctrl-C: no further server is asked, and what is under way is waited for. A second Ctrl-C lets go of that, and says"
    " how to watch it. Which servers are not as asked is written to a file, and the command says where."
)

_NATIVE: Final = (
    "\n\nThe servers are given as ids, a file or a pipe, or chosen by filters; virtual machines are left out by the"
    " filters (BMS_BARE_METAL says how they are known). One list of what has changed shows how all of them end. With"
    " options of a rollout it goes through the fleet as bms reboot does.\n\n"
    "Ctrl-C: no further server is asked, and what is under way is waited for. A second Ctrl-C lets go of that, and says"
    " how to watch it. Which servers are not as asked is written to a file, and the command says where."
)


@click.command("rename", cls=Command, epilog=EXIT_CODES, help=f"Rename servers; their host names do not change.{_SAME}")
@options.ids
@option("--to", "template", metavar="NAME", section=RUN,
        help="The new name, such as web-{n:03}: {n} is the server's number, {id} its id.")  # fmt: skip
@option("--first", type=Number(min=0), default=1, metavar="N", section=RUN,
        help="The number of the first server; default: 1.")  # fmt: skip
@option("--from", "names", metavar="FILE", section=RUN, shell_complete=complete_file,
        help="A file with a server and its new name a line: ID,web-1; - for standard input.")  # fmt: skip
@options.each
def _rename(
    *, ids: Sequence[str], template: str | None, first: int, names: str | None, **typed: Unpack[CommonArguments]
) -> None:
    def work() -> int:
        from .acting.each import make_options
        from .acting.renaming import rename

        return rename(ids, make_options(typed), names=names, template=template, first=first)

    end(work)


def _add_tag_command(name: Literal["tag", "untag"], doc: str, *, adds: bool) -> click.Command:
    @click.command(name, cls=Command, epilog=EXIT_CODES, help=f"{doc}{_SAME}")
    @argument("word", metavar="TAG", shell_complete=complete_seen("tags"), description="The tag.")
    @options.ids
    @options.each
    def command(*, word: str, ids: Sequence[str], **typed: Unpack[CommonArguments]) -> None:
        def work() -> int:
            from .acting.each import make_options
            from .acting.servers_each import tag

            return tag(ids, make_options(typed), tag=word, adds=adds)

        end(work)

    return command


_tag = _add_tag_command("tag", "Add a tag to servers; one that has it keeps it.", adds=True)
_untag = _add_tag_command("untag", "Remove a tag from servers; one that does not have it stays as it is.", adds=False)


@click.group("metadata", cls=Group)
def _metadata() -> None:
    """Set keys of the metadata of servers, or remove one."""


def _add_metadata_command(name: str, doc: str, what: str, description: str, *, sets: bool) -> None:
    @_metadata.command(name, epilog=EXIT_CODES, help=f"{doc}{_SAME}")
    @argument("words", nargs=-1, required=True, metavar=what, description=description)
    @options.each
    def command(*, words: Sequence[str], **typed: Unpack[CommonArguments]) -> None:
        def work() -> int:
            from .acting.each import make_options
            from .acting.servers_each import change_metadata

            return change_metadata(words, make_options(typed), sets=sets)

        end(work)


_add_metadata_command(
    "set",
    "Set keys of the metadata of servers; other keys do not change.",
    "KEY=VALUE... [ID]...",
    "The keys and values, then server ids; - reads these from standard input.",
    sets=True,
)
_add_metadata_command(
    "remove",
    "Remove a key from the metadata of servers; one that does not have it stays as it is.",
    "KEY [ID]...",
    "The key, then server ids; - reads these from standard input.",
    sets=False,
)


@click.command(
    "reinstall",
    cls=Command,
    epilog=EXIT_CODES,
    help="Reinstall the operating systems of servers from their images: what is on their system disks is lost. They"
    f" must be stopped.{_SAME}",
)
@options.ids
@option("--key-pair", metavar="NAME", section=RUN, help="The key pair to log in with.")
@option("--key-user", metavar="ID", section=RUN, help="The user that owns the key pair.")
@option("--password", "asks_password", is_flag=True, section=RUN,
        help="Set a new administrator's password: that of BMS_ADMIN_PASSWORD, or else it is asked for.")  # fmt: skip
@option("--user-data", "script", metavar="FILE", section=RUN, shell_complete=complete_file,
        help="A script that runs at the first start.")  # fmt: skip
@options.each
def _reinstall(
    *,
    ids: Sequence[str],
    key_pair: str | None,
    key_user: str | None,
    asks_password: bool,
    script: str | None,
    **typed: Unpack[CommonArguments],
) -> None:
    def work() -> int:
        from .acting.each import make_options
        from .acting.servers_each import Login, reinstall

        login = Login(key_pair=key_pair, key_user=key_user, asks_password=asks_password, script=script)
        return reinstall(ids, make_options(typed), login=login)

    end(work)


@click.command(
    "attach",
    cls=Command,
    epilog=EXIT_CODES,
    help="Attach a volume to servers, or the volumes that a file names.\n\n"
    "It has to be a SCSI volume that is available, or shared where several servers get it; a server has 40 at most. One"
    f" that is attached already stays as it is.{_SAME}",
)
@argument("volume", required=False, metavar="[VOLUME]", description="The id of the volume, before the servers.")
@options.ids
@option("--device", metavar="NAME", section=RUN,
        help="Where it appears in the server, such as /dev/sdb; default: the next one.")  # fmt: skip
@option("--from", "pairs", metavar="FILE", section=RUN, shell_complete=complete_file,
        help="A file with SERVER,VOLUME or SERVER,VOLUME,DEVICE a line; - for standard input.")  # fmt: skip
@options.each
def _attach(
    *, volume: str | None, ids: Sequence[str], device: str | None, pairs: str | None, **typed: Unpack[CommonArguments]
) -> None:
    def work() -> int:
        from .acting.each import make_options
        from .acting.volumes_each import attach

        return attach(volume, ids, make_options(typed), pairs=pairs, device=device)

    end(work)


@click.command(
    "detach",
    cls=Command,
    epilog=EXIT_CODES,
    help="Detach a volume from servers, or the volumes that a file names.\n\n"
    "Without a server it is detached from all that have it. Unmount it there first. One that is not attached stays as"
    f" it is, and system disks are refused.{_SAME}",
)
@argument("volume", required=False, metavar="[VOLUME]", description="The id of the volume, before the servers.")
@options.ids
@option("--from", "pairs", metavar="FILE", section=RUN, shell_complete=complete_file,
        help="A file with SERVER,VOLUME a line; - for standard input.")  # fmt: skip
@options.each
def _detach(*, volume: str | None, ids: Sequence[str], pairs: str | None, **typed: Unpack[CommonArguments]) -> None:
    def work() -> int:
        from .acting.each import make_options
        from .acting.volumes_each import detach

        return detach(volume, ids, make_options(typed), pairs=pairs)

    end(work)


@click.group("nova", cls=Group)
def nova() -> None:
    """Start, stop and reboot servers by the native calls of OpenStack, on clouds that have no others."""


def _add_native_command(action: Action, doc: str) -> None:
    @nova.command(action, epilog=EXIT_CODES, help=f"{doc}{_NATIVE}")
    @options.ids
    @options.each
    def command(*, ids: Sequence[str], **typed: Unpack[CommonArguments]) -> None:
        def work() -> int:
            from .acting.each import make_options
            from .acting.nova import act_natively

            return act_natively(action, ids, make_options(typed))

        end(work)


_add_native_command("start", "Start servers, one call each: their power is switched on.")
_add_native_command(
    "stop", f"Stop servers, one call each: their power is cut, and data that is not on disk yet may be lost.{HARD_STOP}"
)
_add_native_command(
    "reboot",
    "Restart servers, one call each: their power is cut and switched on again, and data that is not on disk yet may be"
    f" lost.{HARD_REBOOT}",
)

COMMANDS: Final = (_rename, _tag, _untag, _metadata, _reinstall, _attach, _detach)
"""They are shown below ``bms servers``."""
