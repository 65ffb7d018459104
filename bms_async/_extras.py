"""Names that need an extra: which of them are there, and what is said of the others.

A name whose extra is missing is no attribute, as far as ``hasattr``, ``dir``, ``help`` and ``import *`` go. A program
that asks for it is told which extra brings it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

_IMPORT_SYSTEM = ("_frozen_importlib", "importlib._bootstrap")


def is_installed(module: str) -> bool:
    """Return whether a module is there, without importing it.

    Args:
        module: Its dotted name; the packages before it may be namespaces, which are there without it.
    """
    path: Iterable[str] | None = None
    for end in [place for place, sign in enumerate(module) if sign == "."] + [len(module)]:
        name = module[:end]
        if name in sys.modules:
            # None is what a program puts there to keep a module from being imported.
            known: ModuleType | None = sys.modules[name]
            if known is None:
                return False
            path = getattr(known, "__path__", ())
            continue
        # A parent would be imported by `find_spec`, and so only the first is left to it.
        spec = find_spec(name) if path is None else PathFinder.find_spec(name, list(path))
        if spec is None:
            return False
        path = spec.submodule_search_locations or ()
    return True


def present(names: Iterable[str], needed: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the names that can be had.

    Args:
        names: All of a module.
        needed: Those that need an extra: the extra, and a module that it brings.
    """
    found = {module: is_installed(module) for _, module in set(needed.values())}
    return [name for name in names if name not in needed or found[needed[name][1]]]


def missing_extra(module: str, name: str, extra: str) -> ImportError | AttributeError:
    """Return the error for a name whose extra is not installed, to be raised by the module's ``__getattr__``.

    Args:
        module: The module that was asked.
        name: What it was asked for.
        extra: The extra that brings it.
    """
    text = f"{module}.{name} needs the extra {extra!r}: pip install 'bms-async[{extra}]'"
    # `from bms_async import X` would replace an AttributeError by one that does not say what to install.
    asking = sys._getframe(2).f_globals.get("__name__")  # noqa: SLF001 - documented, and without it the text is lost
    return ImportError(text, name=module) if asking in _IMPORT_SYSTEM else AttributeError(text)
