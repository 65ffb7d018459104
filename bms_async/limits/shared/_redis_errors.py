"""What a Redis or Valkey server may say instead of an answer: what passes by itself, and what somebody has to do."""

from __future__ import annotations

import re

from bms_async.redaction import MASK, Secret

from .store import StoreError

_RIGHTS = (
    "allow the user ~bms_async:limits:* +eval +evalsha +hmget +hset +hgetall +time +info +select +client|setname "
    "+config|get"
)
_NO_CLUSTER = "Redis Cluster is not supported; name a server that is no part of one"
_LET_US_IN = "name a user and a password that it accepts in the store's URL"
_UNREADABLE = "name another database, or delete the account's key: the account is then closed for some minutes"

_BY_KIND = {
    "AuthenticationError": _LET_US_IN,
    "AuthenticationWrongNumberOfArgsError": _LET_US_IN,
    "NoPermissionError": _RIGHTS,
    "AskError": _NO_CLUSTER,
    "ClusterCrossSlotError": _NO_CLUSTER,
}
"""What helps where trying again does not, by the name of redis-py's error, which leaves out the server's first word."""

_BY_TEXT = {
    "NOPERM": _RIGHTS,
    "MOVED ": _NO_CLUSTER,
    "ASK ": _NO_CLUSTER,
    "CROSSSLOT ": _NO_CLUSTER,
    "ACL failure in script": _RIGHTS,
    "can't run this command": _RIGHTS,
    "unknown command": _RIGHTS,
    "DB index is out of range": "name a database that the server has",
    "WRONGTYPE": "name another account or another database: something else is kept under the account's key",
    "BMSLATER": "update bms_async here: a later version of it wrote the state that the store keeps",
    "BMSUNREADABLE": _UNREADABLE,
    "attempt to": _UNREADABLE,
    "bad argument #": _UNREADABLE,
}
"""The same, by words of what the server says; earlier versions of redis-py have fewer kinds of errors."""


def explain(label: str, error: Exception, password: Secret | None) -> Exception:
    """Return an error that says what redis-py's says, and keeps nothing of it alive.

    Args:
        label: The address for people.
        error: What redis-py raised.
        password: The password, which a server may repeat.

    Returns:
        A `StoreError` if trying again will not help; else a `TimeoutError` or a `ConnectionError`.
    """
    # A server that does not know a command repeats what was to be a password, or the beginning of it.
    said = str(error).partition(", with args")[0] or type(error).__name__
    said = said.rstrip(".")
    if password is not None:
        said = said.replace(password.reveal(), MASK)
    text = f"{label}: {said}"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    helps = next((what for name, what in _BY_KIND.items() if name in kinds), None)
    helps = helps or next((what for part, what in _BY_TEXT.items() if re.search(rf"\b{part}", said)), None)
    if helps is not None:
        return StoreError(f"{text}; {helps}")
    return TimeoutError(text) if "TimeoutError" in kinds else ConnectionError(text)
