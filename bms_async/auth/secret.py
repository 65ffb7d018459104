"""A text that shows itself only when it is told to."""

from __future__ import annotations

import hmac

from bms_async.errors import ConfigurationError
from bms_async.wire.forgetting import forgetful_call

MASK = "***"


class Secret:
    """A password, token or key that no repr, log line, pickle or JSON shows.

    ::

        password = Secret(os.environ["OS_PASSWORD"])
        PasswordAuth(password=password, ...)

    Args:
        value: The text to keep.

    Raises:
        ConfigurationError: It is no text.
    """

    __slots__ = ("_value",)

    @forgetful_call
    def __init__(self, value: str | Secret) -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str):
            raise ConfigurationError(f"Secret: a text is needed, not {type(value).__name__}")
        self._value = value

    def reveal(self) -> str:
        """Return the text itself: to send it, and for nothing else."""
        return self._value

    def __eq__(self, other: object) -> bool:
        # A plain text is never equal: who compares with one has it lying open.
        if not isinstance(other, Secret):
            return NotImplemented
        # "surrogatepass", for a text that cannot be sent can still be compared.
        mine, theirs = (each.reveal().encode(errors="surrogatepass") for each in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would be readable in the pickle")
