"""``bms configure``: writes the profiles.

The file is edited line by line, so that its comments, its other profiles and keys that this version does not know stay;
what was edited is read again before it is written, and refused where it is not exactly the change that was asked for.
"""

from __future__ import annotations

import json as json_texts
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bms_async import ConfigurationError
from bms_async._files import FileLock, write_atomically
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.output import json_line, write
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.config import read_cloud_names

from .profiles import KEYS, ConfigFile, ProfileError, check_value, config_path, find_section, key_pattern, read_config

__all__ = ["ConfigureOptions", "configure", "edit"]

_ASKED: Final = ("cloud", "wave", "abort_above", "output")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_FIRST: Final = "default"
_PATIENCE: Final = 5.0
"""Seconds for which another command that writes the file is waited for."""

_ATTEMPTS: Final = 100


class ConfigureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed.

    Attributes:
        profile: The profile.
        settings: What is set, each as ``KEY=VALUE``.
        unset: The keys that are taken out.
        default: Whether the profile is the one that counts where no other is named.
        is_list: Whether the names of all are printed, and nothing is written.
        show: Whether the profile is printed, and nothing is written.
        json: Whether to print JSON.
    """

    profile: str | None = None
    settings: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    default: bool = False
    is_list: bool = False
    show: bool = False
    json: bool = False


def configure(options: ConfigureOptions) -> int:
    """Write or print profiles, and return the exit code.

    Args:
        options: Which, and how.

    Raises:
        UsageError: The options contradict each other, there is no such cloud, there is no terminal to ask on, or the
            file cannot be edited.
    """
    path = config_path()
    if path is None:
        raise UsageError("there is no home folder: set XDG_CONFIG_HOME")
    changes = _read_changes(options)
    if (options.is_list or options.show) and (changes or options.default or (options.is_list and options.show)):
        raise UsageError("--list and --show print only: give one of them, without --set, --unset and --default")
    try:
        config = read_config(path)
        name = options.profile or os.environ.get("BMS_PROFILE") or config.tree.get("default_profile") or _FIRST
        if options.is_list:
            return _print_names(config, json=options.json)
        if options.show:
            _print_profile(config, name, json=options.json)
            return Code.OK
        if not _NAME.fullmatch(name):
            raise UsageError(f"--profile {strip_control_chars(name)}: expected letters, digits, - and _")
        is_default = options.default or name == _FIRST
        if not changes and not options.default:
            changes, is_default = _ask(config, name)
        else:
            _check_cloud(changes.get("cloud"))
        with _alone(path):
            # Another command may have written it meanwhile.
            config = _changed(read_config(path), name, changes, is_default=is_default)
            config.check(name)
            _write(config)
    except ProfileError as error:
        raise UsageError(str(error)) from error
    _print_profile(config, name, json=options.json)
    return Code.OK


def edit(text: str, profile: str | None, changes: Mapping[str, Any]) -> str:
    """Return the text of the file with changes, as far as line by line goes.

    Args:
        text: The text.
        profile: The profile; None for what stands above the first header.
        changes: The new values; None takes a key out.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    begin, end = find_section(lines, profile)
    if profile is None and lines and not lines[0].strip().startswith(("#", "default_profile")) and end == 0:
        lines.insert(0, "")
    if profile is not None and begin == 0:
        lines += [*([""] if lines and lines[-1].strip() else []), f"[profiles.{profile}]"]
        begin = end = len(lines)
    for key, value in changes.items():
        pattern = key_pattern(key)
        found = next((number for number in range(begin, end) if pattern.match(lines[number])), None)
        if value is not None and found is not None:
            lines[found] = f"{key} = {_write_value(value)}{_comment_of(lines[found])}"
        elif value is not None:
            last = max((number + 1 for number in range(begin, end) if lines[number].strip()), default=begin)
            lines.insert(last, f"{key} = {_write_value(value)}")
            end += 1
        elif found is not None:
            del lines[found]
            end -= 1
    return "".join(f"{line}\n" for line in lines)


def _comment_of(line: str) -> str:
    """Return the comment at the end of a line that sets a key, and the blanks before it."""
    import tomllib

    for found in re.finditer(r"\s*#", line):
        try:
            tomllib.loads(line[: found.start()])
        except tomllib.TOMLDecodeError:
            # It stands within a text.
            continue
        return line[found.start() :].rstrip("\r")
    return ""


def _write_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_texts.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _read_changes(options: ConfigureOptions) -> dict[str, Any]:
    changes: dict[str, Any] = dict.fromkeys(options.unset)
    for setting in options.settings:
        key, sign, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        # What is typed may be a secret: it is not repeated.
        if not sign:
            raise UsageError("--set: expected KEY=VALUE, such as --set wave=50")
        if key in options.unset:
            raise UsageError(f"--set {key} and --unset {key}: expected one of them")
        changes[key] = _read_value(f"--set {strip_control_chars(key)}", key, text.strip())
    return changes


def _read_value(where: str, key: str, text: str) -> Any:
    value: Any = text
    if key == "wave" and re.fullmatch(r"\d{1,9}", text):
        value = int(text)
    elif key in {"verify", "header"}:
        value = {"true": True, "false": False}.get(text.lower(), text)
    problem = check_value(key, value)
    if problem is not None:
        raise UsageError(f"{where}: {problem}")
    return value


def _changed(config: ConfigFile, name: str, changes: Mapping[str, Any], *, is_default: bool) -> ConfigFile:
    before = config.profiles.get(name, {})
    unknown = [key for key, value in changes.items() if value is None and key not in before]
    if unknown:
        raise UsageError(f"--unset {strip_control_chars(unknown[0])}: the profile {name} does not set it")
    text = edit(config.text, name, changes)
    wanted = dict(config.tree)
    values = {key: value for key, value in {**before, **changes}.items() if value is not None}
    wanted["profiles"] = {**config.profiles, name: values}
    if is_default and wanted.get("default_profile") != name:
        text, wanted["default_profile"] = edit(text, None, {"default_profile": name}), name
    import tomllib

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        tree = {}
    if tree != wanted:
        raise UsageError(
            f"{config.path}: the profile {name} is not written one key a line below [profiles.{name}], so that a change"
            " would lose something; nothing was written: edit the file"
        )
    return ConfigFile(config.path, text, tree)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other commands from writing the file: of two that change it at once, one change would be lost."""
    lock = FileLock(path.with_name(f".{path.name}.lock"), os.O_CREAT, strict=False)
    try:
        for _ in range(_ATTEMPTS):
            if lock.try_acquire():
                break
            time.sleep(_PATIENCE / _ATTEMPTS)
        else:
            raise UsageError(f"{path}: another command writes it; nothing was written: try again")
        yield
    finally:
        lock.release()


def _write(config: ConfigFile) -> None:
    # A link to a folder of such files stays one.
    path = Path(os.path.realpath(config.path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, config.text.encode())


def _ask(config: ConfigFile, name: str) -> tuple[dict[str, Any], bool]:
    """Ask for the most important settings; returns the changes, and whether the profile is to be the default one."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to ask on: say what is set, such as --set cloud=NAME --set wave=50")
    print_error(f"profile {name} of {config.path}. Enter keeps what is in brackets, - takes it out.", first="")
    before, changes = config.profiles.get(name, {}), dict[str, Any]()
    for key in _ASKED:
        expected = f"one of {', '.join(_clouds())}" if key == "cloud" and _clouds() else KEYS[key].expected
        now = before.get(key)
        while True:
            reply = _ask_for(f"{key} ({expected}) [{'' if now is None else now}]: ")
            if not reply or (reply == "-" and now is None):
                break
            try:
                value = None if reply == "-" else _read_value(key, key, reply)
                if key == "cloud":
                    _check_cloud(value)
                changes[key] = value
            except UsageError as error:
                print_error(str(error), first="")
                continue
            break
    if config.tree.get("default_profile") == name or name == _FIRST:
        return changes, True
    reply = _ask_for("Use this profile where no other is named? [y/N] ")
    return changes, reply.lower() in {"y", "yes"}


def _ask_for(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    reply = sys.stdin.readline()
    if not reply.endswith("\n"):
        print_error("", first="")
        raise UsageError("nothing was written")
    return reply.strip()


def _clouds() -> tuple[str, ...]:
    try:
        return tuple(map(strip_control_chars, read_cloud_names()))
    except ConfigurationError:
        return ()


def _check_cloud(cloud: str | None) -> None:
    """Refuse a cloud that there is not; where nobody knows which there are, say so."""
    if cloud is None:
        return
    shown = strip_control_chars(cloud)
    try:
        names = read_cloud_names()
    except ConfigurationError as error:
        print_error(f"whether there is a cloud {shown} is not known: {strip_control_chars(str(error))}")
        return
    if cloud not in names:
        from difflib import get_close_matches

        meant = "".join(f"did you mean {strip_control_chars(each)}? " for each in get_close_matches(cloud, names, n=1))
        there = strip_control_chars(", ".join(names)) or "none"
        raise UsageError(f"cloud {shown}: clouds.yaml has no such cloud; {meant}The clouds are: {there}")


def _print_names(config: ConfigFile, *, json: bool) -> int:
    default = config.tree.get("default_profile")
    for name in config.profiles:
        if json:
            write(json_line({"profile": name, "default": name == default, **config.profiles[name]}))
        else:
            write(f"{strip_control_chars(name)}{' (default)' if name == default else ''}\n")
    if not config.profiles:
        print_error(f"there are no profiles in {config.path}: `bms configure` makes one")
    return Code.OK


def _print_profile(config: ConfigFile, name: str, *, json: bool) -> None:
    values, default = config.check(name), config.tree.get("default_profile")
    if json:
        write(json_line({"profile": name, "default": name == default, **values}))
        return
    lines = [f"profile {strip_control_chars(name)}{' (default)' if name == default else ''} of {config.path}"]
    lines += [f"  {key} = {strip_control_chars(_write_value(value))}" for key, value in values.items()]
    write("\n".join(lines) + "\n")
