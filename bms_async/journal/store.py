"""What a store of the journal does: it runs transactions, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from .statements import Transaction

T = TypeVar("T")


class JournalStore(Protocol):
    """A database with the tables of `schema`.

    A method that raises a `JournalError` will not succeed if it is called again. Anything else that it raises may be
    over in a moment.
    """

    @property
    def label(self) -> str:
        """Its place, without user and password."""
        ...

    async def open(self) -> None:
        """Connect, and make the tables or bring them up to this version where that is needed.

        Raises:
            JournalError: It cannot be used as it is.
            Exception: It could not be reached now.
        """
        ...

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        """Run a transaction; once more from its beginning if other transactions were in its way.

        Args:
            make: Begins it.
            writes: Whether it changes anything.

        Raises:
            JournalError: It cannot be run.
            Exception: It was not run now, or it was and its commit was not confirmed.
        """
        ...

    async def aclose(self) -> None:
        """Close it; closing what is not open does nothing."""
        ...
