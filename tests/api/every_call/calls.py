"""The calls of the API reference, typed from its table of contents: what the SDK has to have, and nothing else.

It is written down by hand and knows nothing of the table of operations, so that the two can disagree. Titles are in
our words. URIs are as printed where the print can be right, else as the cloud really has them; a query that is printed
into a URI is left out, for it is no part of the path. Limits are those of table 2-2, by its URIs; `success` is the one
status of a call's "Normal values".

The call for a token is no method that a user calls: `PasswordAuth` asks for tokens by itself.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Call(NamedTuple):
    chapter: str
    title: str
    method: str
    path: str
    limit: int | None = None
    success: int = 200

    @property
    def shape(self) -> tuple[str, str, str]:
        """The call's identity; the names of its path's parameters do not count."""
        return self.chapter, self.method, shape_of(self.path)


def shape_of(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


_BMS = "/v1/{project_id}/baremetalservers"
_ONE = f"{_BMS}/{{server_id}}"
_NOVA = "/v2.1/{project_id}/servers"
_NOVA_ONE = f"{_NOVA}/{{server_id}}"

BMS_CALLS = (
    Call("4.2.1", "versions of the API", "GET", "/", 2000),
    Call("4.2.2", "one version of the API", "GET", "/{api_version}", 2000),
    Call("4.3.1", "one server", "GET", _ONE, 1000),
    Call("4.3.2", "servers that match", "GET", f"{_BMS}/detail", 500),
    Call("4.4.1", "another name for a server", "PUT", _ONE, 100),
    Call("4.4.2", "the system of a server anew", "POST", f"{_ONE}/reinstallos", 50),
    Call("4.4.3", "start servers", "POST", f"{_BMS}/action", 50),
    Call("4.4.4", "restart servers", "POST", f"{_BMS}/action", 50),
    Call("4.4.5", "stop servers", "POST", f"{_BMS}/action", 50),
    Call("4.5.1", "flavors", "GET", f"{_BMS}/flavors", 500),
    Call("4.6.1", "NICs of a server", "GET", f"{_ONE}/os-interface", 500),
    Call("4.7.1", "a disk to a server", "POST", f"{_ONE}/attachvolume", 100, success=202),
    Call("4.7.2", "a disk off a server", "DELETE", f"{_ONE}/detachvolume/{{attachment_id}}", 100, success=202),
    Call("4.7.3", "disks of a server", "GET", f"{_ONE}/os-volume_attachments", 500),
    Call("4.8.1", "metadata of a server", "POST", f"{_ONE}/metadata", 100),
    Call("4.9.1", "quotas", "GET", f"{_BMS}/limits", 500),
    Call("4.10.1", "the password of a Windows server", "GET", f"{_ONE}/os-server-password", 50),
    Call("4.10.2", "forget that password", "DELETE", f"{_ONE}/os-server-password", 50, success=202),
    Call("4.11.1", "how far a job is", "GET", "/v1/{project_id}/jobs/{job_id}", 2000),
)

NATIVE_CALLS = (
    Call("5.2.1", "create a server", "POST", _NOVA),
    Call("5.2.2", "delete a server", "DELETE", _NOVA_ONE, success=204),
    Call("5.2.3", "one server", "GET", _NOVA_ONE),
    Call("5.2.4", "names of servers", "GET", _NOVA),
    Call("5.2.5", "servers with all details", "GET", f"{_NOVA}/detail"),
    Call("5.3.1", "another name for a server", "PUT", _NOVA_ONE),
    Call("5.3.2", "start a server", "POST", f"{_NOVA_ONE}/action", success=204),
    Call("5.3.3", "restart a server", "POST", f"{_NOVA_ONE}/action", success=204),
    Call("5.3.4", "stop a server", "POST", f"{_NOVA_ONE}/action", success=204),
    Call("5.4.1", "metadata of a server", "GET", f"{_NOVA_ONE}/metadata"),
    Call("5.4.2", "metadata into a server", "POST", f"{_NOVA_ONE}/metadata"),
    Call("5.4.3", "one key of metadata", "PUT", f"{_NOVA_ONE}/metadata/{{key}}"),
    Call("5.4.4", "one key of metadata less", "DELETE", f"{_NOVA_ONE}/metadata/{{key}}", success=204),
    Call("5.5.1", "addresses of a server", "GET", f"{_NOVA_ONE}/ips"),
    Call("5.5.2", "addresses of a server in one network", "GET", f"{_NOVA_ONE}/ips/{{vpc_id}}"),
    Call("5.6.1", "flavors", "GET", "/v2.1/{project_id}/flavors/detail"),
    Call("5.6.2", "one flavor", "GET", "/v2.1/{project_id}/flavors/{flavor_id}"),
    Call("5.6.3", "what else a flavor is", "GET", "/v2.1/{project_id}/flavors/{flavor_id}/os-extra_specs"),
    Call("5.7.1", "NICs of a server", "GET", f"{_NOVA_ONE}/os-interface"),
    Call("5.7.2", "one NIC of a server", "GET", f"{_NOVA_ONE}/os-interface/{{id}}"),
    Call("5.8.1", "disks of a server", "GET", f"{_NOVA_ONE}/os-volume_attachments"),
    Call("5.8.2", "one disk of a server", "GET", f"{_NOVA_ONE}/os-volume_attachments/{{volume_id}}"),
    Call("5.8.3", "a disk to a server", "POST", f"{_NOVA_ONE}/os-volume_attachments"),
    Call("5.8.4", "a disk off a server", "DELETE", f"{_NOVA_ONE}/os-volume_attachments/{{volume_id}}"),
    Call("5.9.1", "key pairs", "GET", "/v2.1/{project_id}/os-keypairs"),
    Call("5.9.2", "one key pair", "GET", "/v2.1/{project_id}/os-keypairs/{keypair_name}"),
    Call("5.9.3", "make or import a key pair", "POST", "/v2.1/{project_id}/os-keypairs"),
    Call("5.9.4", "delete a key pair", "DELETE", "/v2.1/{project_id}/os-keypairs/{keypair_name}", success=204),
    Call("5.10.1", "tags of a server", "GET", f"{_NOVA_ONE}/tags"),
    Call("5.10.2", "these tags and no others", "PUT", f"{_NOVA_ONE}/tags"),
    Call("5.10.3", "no tags at all", "DELETE", f"{_NOVA_ONE}/tags", success=204),
    Call("5.10.4", "one tag more", "PUT", f"{_NOVA_ONE}/tags/{{tag}}", success=204),
    Call("5.10.5", "is this tag there", "GET", f"{_NOVA_ONE}/tags/{{tag}}", success=204),
    Call("5.10.6", "one tag less", "DELETE", f"{_NOVA_ONE}/tags/{{tag}}", success=204),
)

# Chapter 7 names actions, and with them calls that chapter 4 does not describe.
PERMISSION_CALLS = (
    Call("7.2", "create servers", "POST", _BMS),
    Call("7.8", "can the password be reset", "GET", f"{_ONE}/os-resetpwd-flag"),
    Call("7.8", "reset the password", "PUT", f"{_ONE}/os-reset-password", success=204),
)

# Printed is GET /v3/projects, which a plain Keystone allows to administrators alone.
IDENTITY_CALLS = (
    Call("3.2", "token", "POST", "/v3/auth/tokens", success=201),
    Call("A.1", "projects", "GET", "/v3/projects"),
)

CALLS = (*BMS_CALLS, *NATIVE_CALLS, *PERMISSION_CALLS, *IDENTITY_CALLS)
