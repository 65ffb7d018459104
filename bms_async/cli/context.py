"""What a command's context keeps of its line: the cloud, the profile, and how much is logged; and where profiles are.

All that reads the line and all that reads settings stand on it, so that neither has to import the other.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["CLOUD", "PROFILE", "PROFILE_READ", "VERBOSE", "config_file"]

CLOUD: Final = "bms.cloud"
"""Where a context keeps which cloud was named."""

PROFILE: Final = "bms.profile"
"""Where a context keeps which profile was named."""

PROFILE_READ: Final = "bms.profile-read"
"""Where a context keeps the profile that sets options of the command."""

VERBOSE: Final = "bms.verbose"
"""Where a context keeps how often ``-v`` was given."""


def config_file() -> str | None:
    """Return where the profiles are, or would be; None where there is no home folder."""
    folder = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - pathlib takes time to import
    return None if folder.startswith("~") else os.path.join(folder, "bms", "config.toml")  # noqa: PTH118
