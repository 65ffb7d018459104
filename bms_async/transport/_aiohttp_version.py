"""Which versions of aiohttp can be used.

The transport uses parts of it that are not public, and so only the versions that it was tested with.
"""

from __future__ import annotations

import re

from bms_async.errors import ConfigurationError

_OLDEST, _UNTESTED = (3, 11), (3, 15)


def check_version(version: str) -> None:
    """Refuse a version of aiohttp that cannot be used.

    Raises:
        ConfigurationError: The version is too old, or newer than any that was tested.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not _OLDEST <= (int(found[1]), int(found[2])) < _UNTESTED:
        raise unusable_error(version, "it is not among the versions that this package was tested with")


def unusable_error(version: str, why: str) -> ConfigurationError:
    """Make the error for a library that cannot be used."""
    oldest, untested = (".".join(map(str, each)) for each in (_OLDEST, _UNTESTED))
    return ConfigurationError(
        f"aiohttp {version} cannot carry requests ({why}): expected aiohttp>={oldest},<{untested}; "
        "install 'bms-async[speedups]', or use HttpxTransport"
    )
