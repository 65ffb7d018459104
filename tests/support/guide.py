"""The programs of a guide that need another program beside them: blocks of text whose first line names their file."""

from __future__ import annotations

import re
from types import ModuleType

from tests.docs.blocks import read_page

_NAME = re.compile(r"# (\w+)\.py, for \w+")


def program_of(page: str, name: str) -> ModuleType:
    """Return the program of a page as a module, run as on import.

    Args:
        page: The page, by its path from the checkout's root.
        name: The file that its first line names, without ``.py``.
    """
    for block in read_page(page):
        found = _NAME.fullmatch(block.text.partition("\n")[0])
        if found and found[1] == name:
            module = ModuleType(name)
            text = block.text.replace("\nasyncio.run(main())\n", "\n")
            exec(compile(text, block.place, "exec", dont_inherit=True), module.__dict__)
            return module
    raise LookupError(f"{page} has no program {name}.py")
