"""Names that need an extra: which of them are available, and the error for the others.

A name whose extra is missing is not an attribute, as far as ``hasattr``, ``dir``, ``help`` and ``import *`` go. A
program that uses it gets an error that names the extra.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

_IMPORT_SYSTEM = ("_frozen_importlib", "importlib._bootstrap")


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without importing it.

    Args:
        module: Its dotted name; its parents may be namespace packages, which can be there without it.
    """
    path: Iterable[str] | None = None
    for end in [index for index, char in enumerate(module) if char == "."] + [len(module)]:
        name = module[:end]
        if name in sys.modules:
            # A program may have put None there, to keep the module from being imported.
            known: ModuleType | None = sys.modules[name]
            if known is None:
                return False
            path = getattr(known, "__path__", ())
            continue
        # `find_spec` would import the parents, so it is used for the first of them only.
        try:
            spec = find_spec(name) if path is None else PathFinder.find_spec(name, list(path))
        except ImportError:
            # From an import hook that refuses it.
            return False
        if spec is None:
            return False
        path = spec.submodule_search_locations or ()
    return True


def require(module: str) -> None:
    """Check that a module is installed, without importing it.

    Args:
        module: Its dotted name.

    Raises:
        ModuleNotFoundError: It is not.
    """
    if not is_installed(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def present(names: Iterable[str], needed: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the names that are available.

    Args:
        names: All names of a module.
        needed: The extra of each name that needs one, and a module that the extra brings.
    """
    found = {module: is_installed(module) for _, module in set(needed.values())}
    return [name for name in names if name not in needed or found[needed[name][1]]]


def missing_extra(module: str, name: str, extra: str) -> ImportError | AttributeError:
    """Return the error for a name whose extra is not installed, to be raised by the module's ``__getattr__``.

    Args:
        module: The module that the name was looked up in.
        name: The name.
        extra: The extra that brings it.
    """
    text = f"{module}.{name} needs the extra {extra!r}: pip install 'bms-async[{extra}]'"
    # `from bms_async import X` would replace an AttributeError by one that does not name the extra.
    asking = sys._getframe(2).f_globals.get("__name__")  # noqa: SLF001 - documented, and without it the text is lost
    return ImportError(text, name=module) if asking in _IMPORT_SYSTEM else AttributeError(text)
