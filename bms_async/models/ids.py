"""One form of an id, whatever way it is written."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def canonical_id(server_id: str) -> str:
    """Return the form of an id by which two spellings of one server are the same: a UUID in lower case.

    Ids go through this where they come in and where they are looked for in what the cloud answers. What is not a UUID
    is left as it is, for nobody says that its case does not matter.

    Args:
        server_id: An id as a caller or the cloud writes it.
    """
    lowered = server_id.lower()
    return lowered if lowered != server_id and _UUID.fullmatch(server_id) else server_id
