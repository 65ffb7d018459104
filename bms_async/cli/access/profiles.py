"""Named profiles: what options have where neither the line nor the environment says otherwise.

They are in ``config.toml`` of the folder ``bms`` below ``XDG_CONFIG_HOME``, ``~/.config`` or, on Windows, ``APPDATA``.
What is wrong in the file is an error with its line, and never passed over: without its wave a command would stop more
servers than its user wants. No secret is in the file: keys that are one are refused, and no error quotes a value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bms_async.cli.context import PROFILE_READ, config_file
from bms_async.cli.terminal.files import read_file
from bms_async.cli.terminal.forms import FORMS
from bms_async.cli.terminal.numbers import read_share

if TYPE_CHECKING:
    import click

__all__ = [
    "KEYS",
    "ConfigFile",
    "Profile",
    "ProfileError",
    "check_value",
    "config_path",
    "find_profile",
    "find_section",
    "key_pattern",
    "profile_of",
    "read_config",
]

# Compiled when there is a file, as there mostly is none.
_HEADER: Final = r"""\s*\[\s*profiles\s*\.\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\]\s*(?:#.*)?"""
_REFUSED: Final = "no secret belongs in this file: keep it in clouds.yaml, in secure.yaml or in a variable"


class ProfileError(Exception):
    """There is no such profile, or its file cannot be used; the text says where, and what was expected."""


class Kind(NamedTuple):
    """What a setting may be.

    Attributes:
        expected: That, for people.
        fits: Returns whether a value is that.
        option: The parameter of the commands; None where the setting is none of theirs.
    """

    expected: str
    fits: Callable[[Any], bool]
    option: str | None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float | str) and read_share(str(value)) is not None


def _is_address(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and not _has_password(value)


def _is_secret(key: str) -> bool:
    return re.search(r"pass|token|secret|credential|(^|_)(ak|sk)$", key, re.IGNORECASE) is not None


def _has_password(address: str) -> bool:
    from urllib.parse import parse_qsl, urlsplit

    try:
        parts = urlsplit(address)
        # Drivers of databases take it from the query, too.
        return parts.password is not None or any(_is_secret(name) for name, _ in parse_qsl(parts.query))
    except ValueError:
        # What cannot be taken apart may have one.
        return True


_FORMS: Final = tuple(form for form in FORMS if form != "ids")
KEYS: Final[Mapping[str, Kind]] = {
    "cloud": Kind("the name of a cloud of clouds.yaml", _is_text, None),
    "wave": Kind("a number of servers, from 1 on", lambda value: type(value) is int and value >= 1, "wave"),
    "abort_above": Kind('a share from 0 to 1, such as 0.02 or "2%"', _is_share, "abort_above"),
    "verify": Kind("true or false", lambda value: isinstance(value, bool), "verify"),
    "output": Kind(f"one of {', '.join(_FORMS)}", lambda value: value in _FORMS, "form"),
    "header": Kind("true or false", lambda value: isinstance(value, bool), "header"),
    "journal": Kind("the address of a journal without a password, such as sqlite:///path", _is_address, "journal"),
}
"""The settings of a profile."""


class Profile(NamedTuple):
    """A profile.

    Attributes:
        name: Its name.
        is_typed: Whether the line names it, and not the environment or the file.
        values: Its settings.
    """

    name: str
    is_typed: bool
    values: Mapping[str, Any]

    @property
    def cloud(self) -> str | None:
        """The cloud that it names."""
        return self.values.get("cloud")

    def defaults(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return the parameters of commands that it sets, unless a variable does.

        Args:
            environment: The variables.
        """
        return {
            kind.option: str(self.values[key]) if key == "abort_above" else self.values[key]
            for key, kind in KEYS.items()
            if key in self.values and kind.option and not (key == "journal" and environment.get("BMS_RUNS"))
        }


class ConfigFile(NamedTuple):
    """The file.

    Attributes:
        path: Where it is, or would be.
        text: Its content; empty if there is none.
        tree: The same, read.
    """

    path: Path
    text: str
    tree: Mapping[str, Any]

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """The profiles by their names."""
        profiles: Mapping[str, Mapping[str, Any]] = self.tree.get("profiles", {})
        return profiles

    def check(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a profile.

        Args:
            name: Its name.

        Raises:
            ProfileError: There is none, or one of its settings is not as it has to be.
        """
        if name not in self.profiles:
            there = ", ".join(self.profiles) or "none"
            raise ProfileError(f"there is no profile {name!r} in {self.path}; the profiles are: {there}")
        values = self.profiles[name]
        for key, value in values.items():
            problem = check_value(key, value)
            if problem is not None:
                raise ProfileError(f"{self._place(name, key)}: {problem}")
        return values

    def check_layout(self) -> None:
        """Check what stands around the profiles.

        Raises:
            ProfileError: It is not as it has to be.
        """
        for key in self.tree:
            if key not in {"profiles", "default_profile"}:
                problem = _REFUSED if _is_secret(key) else "expected default_profile, or [profiles.NAME]"
                raise ProfileError(f"{self._place(None, key)}: {problem}")
        default = self.tree.get("default_profile")
        if default is not None and not _is_text(default):
            raise ProfileError(f"{self._place(None, 'default_profile')}: expected the name of a profile")
        if not isinstance(self.profiles, dict) or not all(isinstance(each, dict) for each in self.profiles.values()):
            raise ProfileError(f"{self.path}: expected [profiles.NAME] above the settings of a profile")

    def _place(self, profile: str | None, key: str) -> str:
        lines = self.text.split("\n")
        begin, end = find_section(lines, profile)
        pattern = key_pattern(key)
        line = next((number + 1 for number in range(begin, end) if pattern.match(lines[number])), None)
        return f"{self.path}{'' if line is None else f', line {line}'}: {key}"


def check_value(key: str, value: object) -> str | None:
    """Return what is wrong with a setting; None if nothing is.

    Args:
        key: Its name.
        value: Its value, which is never quoted.
    """
    kind = KEYS.get(key)
    if kind is None:
        return _REFUSED if _is_secret(key) else f"expected one of {', '.join(KEYS)}"
    return None if kind.fits(value) else f"expected {kind.expected}"


def config_path() -> Path | None:
    """Return where the file is, or would be; None where there is no home folder."""
    found = config_file()
    return None if found is None else Path(found)


def read_config(path: Path) -> ConfigFile:
    """Read the file; one that does not exist is empty.

    Args:
        path: Where it is.

    Raises:
        ProfileError: It cannot be read.
    """
    import tomllib

    try:
        text = read_file(str(path)).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path, "", {})
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: expected UTF-8") from error
    try:
        config = ConfigFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise ProfileError(
            f"{path}{f', line {found[1]}' if found else ''}: expected TOML, such as wave = 50; a text stands in quotes"
        ) from None
    except RecursionError:
        raise ProfileError(f"{path}: nested too deeply") from None
    config.check_layout()
    return config


def find_profile(typed: str | None) -> Profile | None:
    """Return the profile that is meant; None if none is.

    Args:
        typed: The one that the line names; else ``BMS_PROFILE`` counts, and then ``default_profile`` of the file.

    Raises:
        ProfileError: There is no such profile, or its file cannot be used.
    """
    path, name = config_path(), typed or os.environ.get("BMS_PROFILE") or None
    if path is None or not path.exists():
        if name is None:
            return None
        raise ProfileError(
            f"there is no profile {name!r}, as there is no {path or 'home folder'}; `bms configure` makes one"
        )
    config = read_config(path)
    name = name or config.tree.get("default_profile")
    return None if name is None else Profile(name, typed is not None, config.check(name))


def profile_of(context: click.Context | None) -> Profile | None:
    """Return the profile that sets options of a command; None if none does.

    Args:
        context: The command; None outside of one.
    """
    found: Profile | None = None if context is None else context.meta.get(PROFILE_READ)
    return found


def find_section(lines: list[str], profile: str | None) -> tuple[int, int]:
    """Return where the lines of a profile begin, behind its header, and where they end; both 0 if there are none.

    Args:
        lines: The lines of the file.
        profile: Its name; None for what stands above the first header.
    """
    begin = 0 if profile is None else None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("["):
            continue
        if begin is not None:
            return begin, number
        found = re.fullmatch(_HEADER, line)
        if found is not None and profile in found.groups():
            begin = number + 1
    return (0, 0) if begin is None else (begin, len(lines))


def key_pattern(key: str) -> re.Pattern[str]:
    """Return what a line that sets a key begins with.

    Args:
        key: The key.
    """
    return re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
