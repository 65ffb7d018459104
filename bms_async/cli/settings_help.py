"""The list of all settings, in the help of `bms login`: the variable of each, and its key in clouds.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

from .help import Command, write_rows

__all__ = ["SETTINGS", "LoginCommand"]

SETTINGS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "Settings of the environment": (
        (
            "address",
            (
                "BMS_ENDPOINT; or OS_REGION_NAME (HUAWEICLOUD_SDK_REGION) with BMS_DOMAIN. If they are not at the same"
                " address: BMS_COMPUTE_ENDPOINT, BMS_IDENTITY_ENDPOINT."
            ),
        ),
        (
            "project",
            (
                "OS_PROJECT_ID (OS_TENANT_ID, HUAWEICLOUD_SDK_PROJECT_ID), or OS_PROJECT_NAME (OS_TENANT_NAME) with"
                " OS_PROJECT_DOMAIN_NAME or OS_PROJECT_DOMAIN_ID where need be."
            ),
        ),
        ("token", "OS_TOKEN (OS_AUTH_TOKEN)."),
        (
            "password",
            (
                "OS_AUTH_URL, OS_PASSWORD, OS_USERNAME or OS_USER_ID, OS_USER_DOMAIN_NAME or OS_USER_DOMAIN_ID. For"
                " both domains: OS_DEFAULT_DOMAIN_NAME (OS_DOMAIN_NAME), or OS_DEFAULT_DOMAIN_ID (OS_DOMAIN_ID,"
                " OS_DEFAULT_DOMAIN)."
            ),
        ),
        ("access key", "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, of temporary keys HUAWEICLOUD_SDK_SECURITY_TOKEN."),
        ("which of them", "OS_AUTH_TYPE: token, password or aksk, where several are set."),
        ("certificates", "OS_CACERT; OS_INSECURE is refused."),
        (
            "others",
            (
                "BMS_LIMITS and BMS_LIMITS_ACCOUNT, the store of shared limits; BMS_RUNS, the journal of runs;"
                " BMS_BARE_METAL, the sign of bare-metal servers."
            ),
        ),
    ),
    "Keys of a cloud in clouds.yaml": (
        (
            "address",
            (
                "bms_endpoint_override; or region_name with bms_domain. compute_endpoint_override,"
                " identity_endpoint_override."
            ),
        ),
        (
            "in auth:",
            (
                "auth_url, username or user_id, password, user_domain_name or user_domain_id; or token; or ak, sk,"
                " security_token. project_id or project_name; project_domain_name, project_domain_id, domain_name,"
                " domain_id, default_domain_name, default_domain_id."
            ),
        ),
        ("others", "auth_type, cacert, regions, profile, bms_limits, bms_limits_account, bms_runs, bms_bare_metal."),
    ),
    "Which one": (
        ("first", "--cloud, or the cloud of the profile that --profile names;"),
        ("then", "the variables above if they are complete, or the cloud that OS_CLOUD names;"),
        ("then", "the cloud of the profile that BMS_PROFILE names, or of the default one: see bms configure."),
    ),
}
"""The sections of the list."""


class LoginCommand(Command):
    """A command whose help ends with the list of all settings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the list."""
        super().format_options(ctx, formatter)
        write_rows(formatter, SETTINGS)
