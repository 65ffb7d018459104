"""Where the cloud's services are: addresses that are given, or made of a region and a domain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_address, wrap_secrets
from bms_async.validation.common import find_unfilled, is_loopback

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_REGION = re.compile(_LABEL)
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of the three services, none with a slash at its end."""

    bms: str
    compute: str
    identity: str


_PROJECT = (
    r"[%$]?[({<](?:project|tenant)_id[)}>]s?"
    r"|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
"""A project at the end of an address, as catalogs have it: filled in, or left to whoever reads it."""

_VERSIONS: Final[Mapping[str, str]] = {
    "endpoint": r"/v1(?:\.0)?",
    "compute_endpoint": r"/v2(?:\.1)?(?:/[^/]+)?",
    "identity_endpoint": r"/v3(?:/auth/tokens)?",
}
_OLD_IDENTITY = re.compile(r"/v2\.0$")


def find_endpoints(
    *,
    endpoint: str | None = None,
    compute_endpoint: str | None = None,
    identity_endpoint: str | None = None,
    region: str | None = None,
    domain: str | None = None,
    project_id: str | None = None,
) -> Endpoints:
    """Return where the services are.

    A given address wins over the one that region and domain make: ``https://{bms,ecs,iam}.{region}.{domain}``. Where
    there is neither, the BMS endpoint serves all.

    Args:
        endpoint: The address of the BMS service.
        compute_endpoint: The address of the ECS service.
        identity_endpoint: The address of the IAM service.
        region: The region's id, such as ``ae-ad-1``.
        domain: The DNS domain of the cloud, such as ``example.com``.
        project_id: The project, which an address may end in.

    Raises:
        ConfigurationError: Something cannot be right, or nothing tells where the BMS service is.
    """
    region = None if region is None else check_region("region", region)
    domain = None if domain is None else check_domain("domain", domain)
    if endpoint is None and (region is None or domain is None):
        if region is None and domain is None:
            raise ConfigurationError(
                "endpoint: an address such as 'https://bms.region.example.com' is needed, or region and domain"
            )
        given, lacking = ("domain", "region") if region is None else ("region", "domain")
        raise ConfigurationError(f"{lacking}: needed beside {given}, as long as no endpoint is given")

    def made(service: str) -> str | None:
        return f"https://{service}.{region}.{domain}" if region is not None and domain is not None else None

    def read(setting: str, address: str | None) -> str:
        return read_endpoint(setting, setting, address, project_id)

    bms = read("endpoint", made("bms") if endpoint is None else endpoint)
    return Endpoints(
        bms=bms,
        compute=read("compute_endpoint", compute_endpoint or made("ecs") or bms),
        identity=read("identity_endpoint", identity_endpoint or made("iam") or bms),
    )


def read_endpoint(argument: str, setting: str, value: object, project_id: str | None = None) -> str:
    """Return the address of a service as calls need it, which bring version and project along.

    Catalogs and OpenStack's tools have them at its end: ``/v1/%(project_id)s``, ``/v2.1/$(tenant_id)s``, or filled in.

    Args:
        argument: What the address is called where it was given, for an error.
        setting: Which it is: ``endpoint``, ``compute_endpoint`` or ``identity_endpoint``.
        value: What was given.
        project_id: The project, which it may end in.

    Raises:
        ConfigurationError: It is no address, or something in it is not filled in.
    """
    address = check_endpoint(argument, value)
    # Whether the project's id can be one is checked elsewhere, with a better text.
    known = isinstance(project_id, str) and project_id.strip()
    project = f"{_PROJECT}|{re.escape(known)}" if known else _PROJECT
    # Not right after a slash: there it would be the host.
    versions = rf"(?<!/)(?:/v\d+(?:\.\d+)?/(?:{project})|{_VERSIONS[setting]})$"
    plain = re.sub(versions, "", address, flags=re.IGNORECASE)
    unfilled = find_unfilled(plain)
    if unfilled is not None:
        raise ConfigurationError(
            f"{argument}={address!r}: {unfilled!r} in it is not filled in; give the address of the service alone, "
            "such as 'https://bms.region.example.com', for each call adds version and project itself"
        )
    if setting == "identity_endpoint" and _OLD_IDENTITY.search(plain):
        raise ConfigurationError(
            f"{argument}={address!r}: version 2.0 of the identity service is not spoken here; expected 3, "
            f"give {_OLD_IDENTITY.sub('', plain)!r}"
        )
    return plain


def check_region(argument: str, value: object) -> str:
    """Return a region's id that is fit for a host name.

    Raises:
        ConfigurationError: It is not. It is not shown: who mixes settings up may have put a secret here.
    """
    text = wrap_secrets(value.strip()) if isinstance(value, str) else ""
    if not _REGION.fullmatch(text):
        raise ConfigurationError(f"{argument}: a region's id such as 'ae-ad-1' is needed; letters, digits and hyphens")
    return str(text)


def check_domain(argument: str, value: object) -> str:
    """Return the DNS domain of a cloud.

    Raises:
        ConfigurationError: It is none. It is not shown: who mixes settings up may have put a secret here.
    """
    text = wrap_secrets(value.strip()) if isinstance(value, str) else ""
    if not _DOMAIN.fullmatch(text):
        raise ConfigurationError(
            f"{argument}: the cloud's DNS domain is needed, such as 'example.com'; no scheme or path"
        )
    return str(text)


def check_endpoint(argument: str, value: object) -> str:
    """Return an endpoint that credentials may be sent to.

    Args:
        argument: The argument's name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is no address, holds credentials or a query, or is plain HTTP to another machine.
    """
    if not isinstance(value, str) or not value.strip():
        given = repr(value) if value is None or isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{argument}={given}: an address such as 'https://bms.region.example.com' is needed")
    value = wrap_address(value)
    text = wrap_address(value.strip().rstrip("/"))
    if "@" in text:
        # Not shown, nor taken apart to see which half is the secret.
        raise ConfigurationError(f"{argument}: credentials do not belong into an address; pass them as auth=")
    # A query may be signed, and so is not shown either.
    plain = text.partition("?")[0].partition("#")[0]
    mark = plain != text
    shown = f"{argument}={plain + ('?...' if mark else '')!r}"
    if "://" not in plain:
        raise ConfigurationError(f"{shown}: the scheme is missing; did you mean {_with_scheme(plain)!r}?")
    if mark:
        raise ConfigurationError(f"{shown}: an endpoint has no query and no fragment")
    if not text.isprintable() or " " in text:
        raise ConfigurationError(f"{shown}: an address has no blanks")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{shown}: {error}") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"{shown}: not an https address")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{shown}: plain http would show the credentials to everybody on the way; use https "
            "(http is for loopback only)"
        )
    return text


def _with_scheme(plain: str) -> str:
    try:
        host = urlsplit(f"//{plain}").hostname or ""
    except ValueError:
        host = ""
    return f"{'http' if is_loopback(host) else 'https'}://{plain}"
