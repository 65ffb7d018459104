"""The public name of a rollout, together with all that carries one out.

Importing that takes longer than the event loop may be held (R9). So it is imported where a program imports the name,
and not when it begins its first run with a rollout. The options of a run need the class alone.
"""

from . import walk  # noqa: F401 - loaded with the name
from .rollout import Rollout

__all__ = ["Rollout"]
