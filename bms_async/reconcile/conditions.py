"""What a reconciler says of a server."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from bms_async.errors import BmsError
from bms_async.models import ServerStatus


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """The server is as desired: the cloud showed it so, or the job that was to bring it there has succeeded.

    Attributes:
        since: Since when this is known.
    """

    since: datetime


class Progressing(msgspec.Struct, frozen=True, kw_only=True):
    """The server is not as desired, and something is on its way.

    Attributes:
        since: Since when it has not been synced, as far as is known.
        why: What is waited for, for people.
        action: What is done to it now: ``start`` or ``stop``; None if nothing is, or somebody else does it.
    """

    since: datetime
    why: str
    action: Literal["start", "stop"] | None = None


class Degraded(msgspec.Struct, frozen=True, kw_only=True):
    """The server is not as desired, and was tried in vain or has to be left alone.

    Attributes:
        reason: The error of the last attempt; or a sentence, with the cloud's own words for the server's state.
        since: Since when it has been degraded.
        attempts: How many attempts in a row have failed; 0 for a server that was left alone from the beginning.
        next_try: When it is tried again at the earliest. None if it is being tried now, or is left alone until the
            cloud shows it in another state.
    """

    reason: BmsError | str
    since: datetime
    attempts: int
    next_try: datetime | None = None


Condition: TypeAlias = Synced | Progressing | Degraded
"""What a reconciler says of a server."""


class PowerChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconciler says of a server now; changes in between that were not read are left out.

    Attributes:
        server_id: The server.
        desired: The status that it is to have.
        condition: `Synced`, `Progressing` or `Degraded`.
    """

    server_id: str
    desired: ServerStatus
    condition: Synced | Progressing | Degraded
