"""The settings of one source by the names that they have there; no error and no repr shows a secret of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_address, wrap_secrets

__all__ = ["SettingsSource"]

# Secrets, and settings that may hold one by mistake.
_NEVER_SHOWN: Final = frozenset(
    {"token", "password", "secret_key", "security_token", "region", "domain", "auth_type", "limits"}
)


class SettingsSource:
    """The settings of one source, such as the environment, under the names that they have there.

    Args:
        where: What to call the source in errors.
        aliases: The names of each setting; if several of them are set, they must agree.
        values: The values by name. An empty one counts as not set.
    """

    def __init__(self, where: str, aliases: Mapping[str, tuple[str, ...]], values: Mapping[str, str]) -> None:
        self.where = where
        self._aliases = aliases
        self._values = {name: wrap_secrets(value) for name, value in values.items() if value.strip()}

    def __repr__(self) -> str:
        return f"<SettingsSource {self.where}>"

    def get(self, setting: str) -> str | None:
        """Return a setting; None if it is not set.

        Raises:
            ConfigurationError: It is set under two names, with different values.
        """
        found = self._found(setting)
        if len({self._values[name] for name in found}) > 1:
            raise ConfigurationError(f"{' and '.join(found)} contradict each other in {self.where}: unset one")
        if not found:
            return None
        value = self._values[found[0]]
        return value if setting in _NEVER_SHOWN else wrap_address(str(value))

    def require(self, setting: str) -> str:
        """Return a setting that is known to be set."""
        value = self.get(setting)
        if value is None:
            raise LookupError(setting)
        return value

    def has(self, *settings: str) -> bool:
        """Return whether one of these settings is set."""
        return any(self._found(setting) for setting in settings)

    def aliases(self, *settings: str) -> str:
        """Return the names that these settings may have, for an error that asks for one of them."""
        return " or ".join(name for setting in settings for name in self._aliases[setting])

    def shortest_name(self, setting: str) -> str:
        """Return the first of the names that a setting may have."""
        return self._aliases[setting][0]

    def used_names(self, settings: Iterable[str]) -> str:
        """Return the names under which these settings are set."""
        return ", ".join(name for setting in settings for name in self._found(setting))

    def _found(self, setting: str) -> list[str]:
        return [name for name in self._aliases[setting] if name in self._values]
