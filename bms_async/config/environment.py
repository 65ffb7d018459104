"""Settings from environment variables: OpenStack's, those of the vendor's SDK, and a few of our own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from bms_async.redaction import wrap_secrets

from .settings import Settings, read_settings
from .source import SettingsSource

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "endpoint": ("BMS_ENDPOINT",),
    "compute_endpoint": ("BMS_COMPUTE_ENDPOINT",),
    "identity_endpoint": ("BMS_IDENTITY_ENDPOINT",),
    "region": ("OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION"),
    "domain": ("BMS_DOMAIN",),
    "project_id": ("OS_PROJECT_ID", "HUAWEICLOUD_SDK_PROJECT_ID", "OS_TENANT_ID"),
    "project_name": ("OS_PROJECT_NAME", "OS_TENANT_NAME"),
    "project_domain_name": ("OS_PROJECT_DOMAIN_NAME",),
    "project_domain_id": ("OS_PROJECT_DOMAIN_ID",),
    "auth_type": ("OS_AUTH_TYPE",),
    "auth_url": ("OS_AUTH_URL",),
    "token": ("OS_TOKEN", "OS_AUTH_TOKEN"),
    "username": ("OS_USERNAME",),
    "user_id": ("OS_USER_ID",),
    "password": ("OS_PASSWORD",),
    "user_domain_name": ("OS_USER_DOMAIN_NAME",),
    "user_domain_id": ("OS_USER_DOMAIN_ID",),
    # OpenStack's tools use these for the user and for the project, unless more specific ones are set.
    "default_domain_name": ("OS_DEFAULT_DOMAIN_NAME", "OS_DOMAIN_NAME"),
    "default_domain_id": ("OS_DEFAULT_DOMAIN_ID", "OS_DOMAIN_ID", "OS_DEFAULT_DOMAIN"),
    "access_key": ("HUAWEICLOUD_SDK_AK",),
    "secret_key": ("HUAWEICLOUD_SDK_SK",),
    "security_token": ("HUAWEICLOUD_SDK_SECURITY_TOKEN",),
    "cacert": ("OS_CACERT",),
    "insecure": ("OS_INSECURE",),
    "verify": (),
    "limits": ("BMS_LIMITS",),
    "limits_account": ("BMS_LIMITS_ACCOUNT",),
    "runs": ("BMS_RUNS",),
    "bare_metal": ("BMS_BARE_METAL",),
}


def read_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from environment variables; an empty one counts as not set.

    Args:
        environment: The variables; by default those of the process.

    Raises:
        ConfigurationError: Settings are missing or contradict each other; the text names all missing variables.
    """
    environment = wrap_secrets(os.environ if environment is None else environment)
    names = {name for aliases in VARIABLES.values() for name in aliases}
    values = {name: value for name, value in environment.items() if name in names}
    where = "the environment"
    if environment.get("OS_CLOUD"):
        # A user who selects a cloud has the settings in a file, and may have called the wrong method.
        where += " (OS_CLOUD is for BmsClient.from_cloud(), which reads clouds.yaml)"
    return read_settings(SettingsSource(where, VARIABLES, values))
