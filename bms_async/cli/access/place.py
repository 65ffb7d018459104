"""Where a command acts: which cloud, which project, and as whom."""

from __future__ import annotations

import msgspec

from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["Place"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud, a project and a user, as far as they are known; no secret is in it.

    Attributes:
        endpoint: The address of the BMS service.
        cloud: The name of the cloud in clouds.yaml; None for one that the environment names.
        chosen_by: What chose the cloud: ``--cloud``, ``OS_CLOUD``, a profile, or the environment.
        project_id: The project's id.
        project_name: Its name.
        user: The user's name or id, or which access key; None if nobody has said so.
    """

    endpoint: str
    cloud: str | None = None
    chosen_by: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    user: str | None = None

    @property
    def project(self) -> str:
        """The project's name and id, as far as they are known."""
        known = [self.project_name or self.project_id or "?"]
        if self.project_name and self.project_id:
            known.append(f"({self.project_id})")
        return strip_control_chars(" ".join(known))

    @property
    def brief(self) -> str:
        """The cloud and the project in few words, to be a part of a sentence."""
        at = f"cloud {self.cloud}, " if self.cloud else ""
        where = "" if self.cloud else f" at {self.endpoint}"
        return strip_control_chars(f"{at}project {self.project_name or self.project_id or '?'}{where}")

    def __str__(self) -> str:
        by = f" ({self.chosen_by})" if self.chosen_by else ""
        at = f"cloud {self.cloud}{by}, " if self.cloud else ""
        user = f", as {self.user}" if self.user else ""
        return strip_control_chars(f"{at}project {self.project} at {self.endpoint}{user}")
