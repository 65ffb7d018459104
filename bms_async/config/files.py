"""Finds and reads clouds.yaml and secure.yaml, and never repeats what stands in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from bms_async.errors import ConfigurationError
from bms_async.redaction import SecretBytes, SecretStr, wrap_secrets

Tree: TypeAlias = dict[str, Any]

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_SITE: Final = Path("/etc/openstack")


def candidate_paths(stem: str, variable: str, environment: Mapping[str, str]) -> list[Path]:
    """Return where a file may be, in the order in which OpenStack's tools look.

    Args:
        stem: ``clouds``, ``secure`` or ``clouds-public``.
        variable: What names the file outright, if anything does; if it is set, nowhere else is looked: a file that was
            meant and is not there must not be replaced by one of another cloud.
        environment: The variables.
    """
    named = environment.get(variable)
    if named:
        return [_expand(named)]
    folders = []
    with suppress(OSError):  # It was removed; there is nothing in it.
        folders.append(Path.cwd())
    own = environment.get("XDG_CONFIG_HOME")
    folders += [Path(own) / "openstack"] if own else []
    folders += [_expand("~/.config/openstack"), _SITE]
    return [folder / f"{stem}{suffix}" for folder in dict.fromkeys(folders) for suffix in _SUFFIXES]


def read_first(paths: list[Path]) -> tuple[Path | None, Tree]:
    """Read the first of these files that is there; None and nothing if there is none.

    Raises:
        ConfigurationError: It cannot be read; the text names the file and the line, and shows nothing of it.
    """
    for path in paths:
        try:
            content = SecretBytes(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror or type(error).__name__}") from error
        return path, _read(path, content)
    return None, {}


def merge(under: Tree, over: Tree) -> Tree:
    """Return one tree with another laid over it, branch by branch."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _expand(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)  # Nobody's home is known; the error shows it as it was written.


def _read(path: Path, content: SecretBytes) -> Tree:
    parse = _parse_json if path.suffix == ".json" else _yaml_parser(path)
    # Errors of decoders and parsers hold the text that they stumbled over, so that ours is raised when theirs is gone.
    tree: object = None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(10, 0, error.start) + 1
        trouble = f", line {line}: not UTF-8"
    else:
        tree, trouble = _parse_secretly(parse, text)
    if trouble:
        raise ConfigurationError(f"{path}{trouble}")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path}: a mapping with the key 'clouds' is needed")
    return tree


def _parse_secretly(parse: Callable[[str], tuple[object, str]], text: SecretStr) -> tuple[object, str]:
    """Return what stands in a file, with all of its texts as ones that do not show themselves, and what is wrong."""
    try:
        tree, trouble = parse(str(text))
        return wrap_secrets(tree), trouble
    except RecursionError:
        return None, ": nested too deeply"


def _parse_json(text: str) -> tuple[object, str]:
    if not text.strip():
        return None, ""
    try:
        # Numbers as they are written: an id may look like one.
        return json.loads(text, parse_int=str, parse_float=str), ""
    except json.JSONDecodeError as error:
        return None, f", line {error.lineno}: not JSON"
    except RecursionError:
        return None, ": nested too deeply"


def _yaml_parser(path: Path) -> Callable[[str], tuple[object, str]]:
    try:
        import yaml  # noqa: PLC0415 - an extra, and only for those who have such a file
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: to read YAML, install the extra 'clouds': pip install 'bms-async[clouds]'; JSON needs none"
        ) from error

    # The C parser is ten times faster, and the event loop may be waiting.
    base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    # Every other scalar stays the text that it is: a password of digits must not lose its zeros.
    resolvers = {
        first: [each for each in several if each[0] in kept]
        for first, several in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    loader_class = type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})

    def parse(text: str) -> tuple[object, str]:
        try:
            loader = loader_class(text)
            try:
                return loader.get_single_data(), ""
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            return None, f"{f', line {mark.line + 1}' if mark else ''}: not YAML"
        except yaml.reader.ReaderError as error:
            return None, f", line {text.count(chr(10), 0, error.position) + 1}: a character that YAML does not allow"
        except RecursionError:
            return None, ": nested too deeply"
        except (yaml.YAMLError, ValueError):
            # ValueError: a scalar whose tag promises another type.
            return None, ": not YAML"

    return parse
