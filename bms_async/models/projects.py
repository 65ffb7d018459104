"""Projects of an account (API reference A.1)."""

from __future__ import annotations

from .base import Model


class Project(Model, frozen=True, kw_only=True):
    """A project.

    Attributes:
        id: The id that a client takes as its ``project_id``.
        domain_id: The account it belongs to.
        parent_id: The project above it, or the account.
        is_domain: Whether it is an account rather than a project.
    """

    id: str
    name: str | None = None
    domain_id: str | None = None
    parent_id: str | None = None
    description: str | None = None
    enabled: bool | None = None
    is_domain: bool | None = None
