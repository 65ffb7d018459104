"""The canonical form of ids."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def canonical_id(server_id: str) -> str:
    """Return the form in which two spellings of an id are equal: a UUID in lower case.

    Ids are converted where a caller passes them and where they are looked up in a response. An id that is not a UUID is
    left as it is, because its case may matter.

    Args:
        server_id: An id as a caller or the cloud writes it.
    """
    lowered = server_id.lower()
    return lowered if lowered != server_id and _UUID.fullmatch(server_id) else server_id
