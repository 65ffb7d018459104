"""What the cloud has refused, by its name: a password, a token or an access key, and what to check of it."""

from __future__ import annotations

from bms_async import AkSkAuth, AuthenticationError, PasswordAuth, StaticToken
from bms_async.auth import TOKEN_OPERATION, Auth

__all__ = ["describe_credentials", "note_refusal", "shorten_key"]

_SHOWN = 4
"""How many characters of an access key are shown."""

_UNAUTHORIZED = 401


def describe_credentials(auth: Auth) -> str:
    """Return what credentials are, for people: ``the password of user ann``.

    Args:
        auth: The credentials.
    """
    if isinstance(auth, PasswordAuth):
        return f"the password of user {auth.user}"
    if isinstance(auth, AkSkAuth):
        return f"the access key {shorten_key(auth)}".rstrip()
    return "the token" if isinstance(auth, StaticToken) else "the credentials"


def shorten_key(auth: AkSkAuth) -> str:
    """Return the first characters of an access key; an empty text while there is none.

    Args:
        auth: The credentials.
    """
    return "" if auth.access_key is None else f"{auth.access_key[:_SHOWN]}..."


def note_refusal(error: AuthenticationError, auth: Auth) -> None:
    """Note on an error what was refused, and what to check; `explain_error` prints that in its place.

    Args:
        error: The refusal.
        auth: The credentials.
    """
    if getattr(error, "__notes__", None):
        return
    is_login = error.operation == TOKEN_OPERATION
    # The SDK adds what to check, in words for a program.
    message, _, _ = error.message.partition("; check ")
    code = str(error.status) if error.code in {None, "", str(error.status)} else f"{error.status} {error.code}"
    said = f"{code}: {message}" if message else code
    request = f" (request id {error.request_id})" if error.request_id else ""
    what = describe_credentials(auth)
    if is_login and "with a new token" in message:
        advice = "The password was accepted and its token was not: check the project, and the address of the cloud."
        what = "a new token"
    elif is_login and error.status != _UNAUTHORIZED:
        what, advice = (
            "to log in",
            "Check the address of the identity service (OS_AUTH_URL, or auth_url), then the user.",
        )
    elif isinstance(auth, PasswordAuth):
        advice = (
            "Check the password, the user's name, its account (user domain) and the project. More attempts may lock"
            " the user."
        )
    elif isinstance(auth, AkSkAuth):
        advice = "Check the access key, its secret key and the clock of this machine. More attempts may lock the key."
    else:
        advice = "A token is valid for a day at most: get a new one, and check it with `bms login`."
    error.add_note(f"the cloud refused {what}: {said}{request}\n{advice}")
