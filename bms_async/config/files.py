"""Finds and reads clouds.yaml and secure.yaml; no error quotes their content."""

from __future__ import annotations

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
    """Return the paths at which a file may be, in the order of OpenStack's tools.

    Args:
        stem: ``clouds``, ``secure`` or ``clouds-public``.
        variable: The variable that names the file. If it is set, its path is the only one: a missing file must not be
            replaced by one of another cloud.
        environment: The variables.
    """
    named = environment.get(variable)
    if named:
        return [_expand(named)]
    folders = []
    with suppress(OSError):  # The working directory was removed.
        folders.append(Path.cwd())
    own = environment.get("XDG_CONFIG_HOME")
    folders += [Path(own) / "openstack"] if own else []
    folders += [_expand("~/.config/openstack"), _SITE]
    return [folder / f"{stem}{suffix}" for folder in dict.fromkeys(folders) for suffix in _SUFFIXES]


def read_first(paths: list[Path]) -> tuple[Path | None, Tree]:
    """Read the first of these files that exists; return None and an empty tree if none does.

    Raises:
        ConfigurationError: The file cannot be read; the text names the file and the line, and quotes nothing of it.
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
    """Return one tree merged over another, branch by branch."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _expand(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)  # No home directory is known; the error shows the path as it was given.


def _read(path: Path, content: SecretBytes) -> Tree:
    parse = _parse_json if path.suffix == ".json" else _yaml_parser(path)
    # Errors of decoders and parsers quote the text they failed on, so ours is raised after theirs is gone.
    tree: object = None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(10, 0, error.start) + 1
        problem = f", line {line}: not UTF-8"
    else:
        tree, problem = _parse_secretly(parse, text)
    if problem:
        raise ConfigurationError(f"{path}{problem}")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path}: expected a mapping with the key 'clouds'")
    return tree


def _parse_secretly(parse: Callable[[str], tuple[object, str]], text: SecretStr) -> tuple[object, str]:
    """Return the content of a file with all its texts wrapped as secrets, and what is wrong with it."""
    try:
        tree, problem = parse(str(text))
        return wrap_secrets(tree), problem
    except RecursionError:
        return None, ": nested too deeply"


def _parse_json(text: str) -> tuple[object, str]:
    if not text.strip():
        return None, ""
    import json  # noqa: PLC0415 - most clouds are named by variables, or by a file in YAML

    try:
        # Numbers stay text: an id may look like one.
        return json.loads(text, parse_int=str, parse_float=str), ""
    except json.JSONDecodeError as error:
        return None, f", line {error.lineno}: not JSON"
    except RecursionError:
        return None, ": nested too deeply"


def _yaml_parser(path: Path) -> Callable[[str], tuple[object, str]]:
    try:
        import yaml  # noqa: PLC0415 - an extra, needed for YAML files only
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: to read YAML, install pyyaml: pip install 'bms-async[clouds]' or 'bms-async[cli]';"
            " JSON needs none"
        ) from error

    # The C parser is ten times faster, and the caller may be blocking an event loop.
    base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    # Every other scalar stays text: a password of digits must not lose its leading zeros.
    resolvers = {
        first: [resolver for resolver in group if resolver[0] in kept]
        for first, group in yaml.SafeLoader.yaml_implicit_resolvers.items()
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
