"""How large an answer may be: neither a gateway gone wrong nor a body that unpacks without end may fill the memory."""

from __future__ import annotations

from bms_async.errors import ConfigurationError

MAX_RESPONSE_BYTES = 64 * 2**20


def check_max_response_bytes(owner: str, value: object) -> int:
    """Return a bound for answers.

    Raises:
        ConfigurationError: It is no number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{owner}(max_response_bytes={value!r}): a whole number of bytes above 0 is needed")
    return value
