"""The topics of `bms help`: all exit codes, and all variables and files, each in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from .ending import CODES

__all__ = ["TOPICS", "Topic"]

Rows: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]


class Topic(NamedTuple):
    """A page of help that belongs to no command.

    Attributes:
        text: What it is about.
        rows: Its sections.
    """

    text: str
    rows: Rows


TOPICS: Final[Mapping[str, Topic]] = {
    "settings": Topic(
        "All variables and files that bms reads. An option wins over a variable. An empty variable counts as not set."
        " `bms login` checks what they lead to.",
        {
            "Which cloud": (
                ("--cloud NAME", "A cloud of clouds.yaml, before or after the command."),
                ("--profile NAME", "A profile that `bms configure` has written: a cloud, and what is not typed."),
                ("OS_CLOUD", "A cloud of clouds.yaml, where the variables below are not complete."),
                ("BMS_PROFILE", "A profile, whose cloud counts where neither of these names one."),
                ("BMS_ENDPOINT", "The address of the bare-metal service."),
                ("BMS_COMPUTE_ENDPOINT", "That of the native calls of OpenStack; default: the same."),
                ("BMS_IDENTITY_ENDPOINT", "That of the identity service; default: OS_AUTH_URL, or the same."),
                ("OS_REGION_NAME", "The region, which makes each address that is not set, together with BMS_DOMAIN."),
                ("HUAWEICLOUD_SDK_REGION", "The same."),
                ("BMS_DOMAIN", "The DNS domain of the cloud."),
            ),
            "Project": (
                ("OS_PROJECT_ID", "The project; also OS_TENANT_ID, HUAWEICLOUD_SDK_PROJECT_ID."),
                ("OS_PROJECT_NAME", "Its name, where there is no id; also OS_TENANT_NAME."),
                ("OS_PROJECT_DOMAIN_NAME", "The domain that the name belongs to; or OS_PROJECT_DOMAIN_ID."),
            ),
            "Credentials, one of three kinds": (
                ("OS_TOKEN", "A token; also OS_AUTH_TOKEN."),
                ("OS_USERNAME", "A user, with OS_PASSWORD; or OS_USER_ID."),
                ("OS_USER_DOMAIN_NAME", "The domain of the user; or OS_USER_DOMAIN_ID."),
                ("OS_DEFAULT_DOMAIN_NAME", ("The domain of both; also OS_DEFAULT_DOMAIN_ID, OS_DEFAULT_DOMAIN,"
                                           " OS_DOMAIN_NAME, OS_DOMAIN_ID.")),
                ("OS_PASSWORD", "The password of the user."),
                ("OS_AUTH_URL", "The address of the identity service that checks it."),
                ("HUAWEICLOUD_SDK_AK", "An access key, with its secret HUAWEICLOUD_SDK_SK."),
                ("HUAWEICLOUD_SDK_SECURITY_TOKEN", "What belongs to a temporary access key."),
                ("OS_AUTH_TYPE", "token, password or aksk, where several kinds are set."),
            ),
            "Connections": (
                ("OS_CACERT", "A file of the certificates to trust, or a folder of them."),
                ("OS_INSECURE", "Refused: certificates are always checked."),
                ("SSL_CERT_FILE", "The certificates to trust where OS_CACERT is not set; or SSL_CERT_DIR."),
                ("SSLKEYLOGFILE", "A file for the keys of TLS, to read what was sent; for debugging."),
                ("HTTPS_PROXY", "A proxy; also HTTP_PROXY and ALL_PROXY. NO_PROXY names what is reached without one."),
            ),
            "Limits, runs and servers": (
                ("BMS_LIMITS", "The store of the limits, such as redis://host:6379/0; default: limits.db below."),
                ("BMS_LIMITS_ACCOUNT", "The name of the account there; default: the address and the project's id."),
                ("BMS_RUNS", "The journal of runs, such as postgresql://user@host/db; default: runs.db below."),
                ("BMS_BARE_METAL", "How bare-metal servers are known from others, such as flavor_prefix:bm."),
                ("BMS_ADMIN_PASSWORD", "The password that `bms servers reinstall --password` sets."),
            ),
            "Terminal": (
                ("NO_COLOR", "No colours, whatever its value; TERM=dumb does the same."),
                ("COLUMNS", "The width of tables where there is no terminal; default: 80."),
            ),
            "Keys of a cloud in clouds.yaml": (
                ("bms_endpoint_override", ("The address; or region_name with bms_domain. Where neither is set,"
                                          " BMS_ENDPOINT counts, or OS_REGION_NAME with BMS_DOMAIN.")),
                ("auth:", ("auth_url, username or user_id, password, user_domain_name or user_domain_id; or token; or"
                          " ak, sk, security_token. And project_id, or project_name with project_domain_name or"
                          " project_domain_id. For both domains: default_domain_name, default_domain_id, domain_name,"
                          " domain_id.")),
                ("others", ("compute_endpoint_override, identity_endpoint_override, auth_type, cacert, regions,"
                           " profile, bms_limits, bms_limits_account, bms_runs, bms_bare_metal.")),
            ),
            "Files": (
                ("clouds.yaml", ("Clouds as OpenStack's tools have them: the first one here,"
                                " in $XDG_CONFIG_HOME/openstack, ~/.config/openstack or /etc/openstack; .yml, .json.")),
                ("OS_CLIENT_CONFIG_FILE", "The path of clouds.yaml, in place of these."),
                ("secure.yaml", "Passwords, merged over clouds.yaml; found likewise, or by OS_CLIENT_SECURE_FILE."),
                ("clouds-public.yaml", "What a cloud's `profile` names; found likewise."),
                ("config.toml", "Profiles: in $XDG_CONFIG_HOME/bms or ~/.config/bms; on Windows in %APPDATA%\\bms."),
                ("limits.db", ("What all commands of this user have used of the limits: in $XDG_STATE_HOME/bms or"
                              " ~/.local/state/bms.")),
                ("runs.db", "The journal of runs, in the same folder."),
                ("projects/", "The ids of projects that the settings have by name; in the same folder."),
                ("seen/", "Tags, zones and flavors of the last lists, for completion; in the same folder."),
            ),
        },
    ),
    "exit-codes": Topic(
        "How a command ends, for scripts: echo $?",
        {"Exit codes": tuple((code, f"{meaning[0].upper()}{meaning[1:]}{more}.") for code, meaning, more in CODES)},
    ),
}  # fmt: skip
"""The topics by name."""
