"""Access keys and their validation; their secrets are never shown."""

from __future__ import annotations

from bms_async.errors import ConfigurationError
from bms_async.redaction import MASK, SecretStr, wrap_secrets
from bms_async.validation.common import is_header_safe
from bms_async.wire import HttpRequest
from bms_async.wire.signing import SigningKey


class Keys:
    """An access key, its secret key and, for temporary keys, their security token."""

    __slots__ = ("access_key", "secrets", "security_token", "signing")

    def __init__(self, access_key: str, secret_key: SecretStr, security_token: SecretStr | None) -> None:
        self.access_key = access_key
        self.security_token = security_token
        self.signing = SigningKey(secret_key)
        self.secrets = (secret_key,) if security_token is None else (secret_key, security_token)

    def __repr__(self) -> str:
        return f"Keys({self.access_key}, {MASK})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled: they would be readable in the pickle")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Keys):
            return NotImplemented
        return (self.access_key, self.secrets) == (other.access_key, other.secrets)

    __hash__ = None  # type: ignore[assignment]

    def signed(self, request: HttpRequest) -> bool:
        """Return whether these keys have signed a request."""
        return f" Access={self.access_key}," in request.headers.get("Authorization", "") and (
            request.headers.get("X-Security-Token") == self.security_token
        )


def read_keys(access_key: object, secret_key: object, security_token: object) -> Keys:
    # Permanent keys have no token; an unset variable often arrives as an empty one.
    secret_key, security_token = wrap_secrets(secret_key), wrap_secrets(security_token)
    token = None if security_token is None or security_token == "" else check_text("security_token", security_token)
    name = str(check_text("access_key", access_key))
    if "," in name:
        raise ConfigurationError("AkSkAuth: access_key: expected no comma, which would end it in the header")
    return Keys(name, check_text("secret_key", secret_key), token)


def check_text(argument: str, value: object) -> SecretStr:
    """Return a text that is valid in a header, without the blanks that a file or a shell adds around it."""
    value = wrap_secrets(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"AkSkAuth: {argument}: expected a text that is not empty")
    value = SecretStr(value.strip())
    if not is_header_safe(value):
        raise ConfigurationError(f"AkSkAuth: {argument}: expected printable ASCII characters without blanks")
    return value
