"""The supported versions of aiohttp.

The transport uses private parts of the library, and so only the versions that it was tested with.
"""

from __future__ import annotations

import re

from bms_async.errors import ConfigurationError

_MIN_VERSION, _FIRST_UNTESTED = (3, 11), (3, 15)


def check_version(version: str) -> None:
    """Refuse an unsupported version of aiohttp.

    Raises:
        ConfigurationError: The version is too old, or newer than the tested ones.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not _MIN_VERSION <= (int(found[1]), int(found[2])) < _FIRST_UNTESTED:
        raise unusable_error(version, "it is not a tested version")


def unusable_error(version: str, why: str) -> ConfigurationError:
    """Return the error for a version that cannot be used."""
    oldest, untested = (".".join(map(str, version)) for version in (_MIN_VERSION, _FIRST_UNTESTED))
    return ConfigurationError(
        f"aiohttp {version} cannot carry requests ({why}): expected aiohttp>={oldest},<{untested}; "
        "install 'bms-async[aiohttp]', or use HttpxTransport"
    )
