"""What stands for a poll that another process makes; most clients share no journal, and need no more of it."""

from __future__ import annotations

from typing import Final


class Followed:
    """What a poll returns that was not made, because another process polls the job."""


FOLLOWED: Final = Followed()
