"""The scripts by which bash, zsh and fish ask for what fits a word, and what they are given.

click has such scripts, and these differ from them: the line is handed over as it is up to the cursor, since words that
are joined and split again become others (``$(a b)``); bash, which takes ``:`` and ``=`` for the ends of words, is given
the rest of a tag such as ``env:prod``; ``--tag=`` stays where a value of it is completed; and a value may have a comma.
What the values are, and that no shell can act on one, is the business of `completing`.
"""

from __future__ import annotations

import os
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

__all__ = ["SHELLS", "VARIABLE", "complete_for", "make_script"]

VARIABLE: Final = "_BMS_COMPLETE"
"""The variable of the environment by which a script asks."""

_CURSOR: Final = "X"
"""Added to a line that is split: the word at the cursor is the last one then, if it is only begun, too."""

_BASH: Final = """\
%(complete_func)s() {
    local response type value
    response=$(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="${COMP_WORDS[COMP_CWORD]}" \
%(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH: Final = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain described response
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${(j: :)words[1,CURRENT]}" %(complete_var)s=zsh_complete %(prog_name)s)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                if [[ $descr == _ ]]; then
                    plain+=("$key")
                else
                    described+=("$key:$descr")
                fi
                ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -P "$IPREFIX" -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH: Final = """\
function %(complete_func)s
    set -l option (string match -r '^--[^=]*=' -- (commandline -ct))
    for completion in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string join ' ') %(prog_name)s)
        set -l parts (string split -m 1 ',' -- $completion)
        switch $parts[1]
            case dir
                for path in (__fish_complete_directories $parts[2])
                    echo "$option$path"
                end
            case file
                for path in (__fish_complete_path $parts[2])
                    echo "$option$path"
                end
            case plain
                echo "$option$parts[2]"
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class _Shell(ShellComplete):
    """What all shells have in common: the line up to the cursor."""

    typed = ""
    """What there is of the value at the cursor, without the option before it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"] + _CURSOR)
        incomplete = words.pop().removesuffix(_CURSOR)
        option, equals, value = incomplete.partition("=")
        self.typed = value if equals and option.startswith("--") else incomplete
        return words[1:], incomplete


class _Bash(_Shell):
    name = "bash"
    source_template = _BASH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        # What bash takes for the word at the cursor, which is all that it replaces.
        word = os.environ.get("COMP_CWORD", "")
        word = "" if word in {":", "="} else word
        begun = len(self.typed) - len(word)
        value = str(item.value)
        return f"{item.type},{value[begun:] if begun > 0 and self.typed.endswith(word) else value}"


class _Zsh(_Shell):
    name = "zsh"
    source_template = _ZSH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        # With a description the first colon ends the value.
        value = str(item.value).replace(":", r"\:") if item.help else item.value
        return f"{item.type}\n{value}\n{item.help or '_'}"


class _Fish(_Shell):
    name = "fish"
    source_template = _FISH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{item.value}" + (f"\t{item.help}" if item.help else "")


SHELLS: Final[dict[str, type[ShellComplete]]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
"""What there is for each shell."""


def make_script(command: click.Command, shell: str) -> str:
    """Return the script for a shell.

    Args:
        command: The command that is completed.
        shell: A name of `SHELLS`.
    """
    return SHELLS[shell](command, {}, "bms", VARIABLE).source()


def complete_for(command: click.Command, instruction: str) -> int:
    """Print what fits the word that the environment shows, and return the exit code.

    Args:
        command: The command that is completed.
        instruction: What the script has put into `VARIABLE`.
    """
    shell, _, asked = instruction.partition("_")
    if shell not in SHELLS or asked != "complete" or "COMP_WORDS" not in os.environ:
        return 1
    click.echo(SHELLS[shell](command, {}, "bms", VARIABLE).complete())
    return 0
