"""Addresses of the cloud's services: given, or derived from a region and a domain."""

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
    """The addresses of the three services, without a trailing slash."""

    bms: str
    compute: str
    identity: str


_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_PROJECT = (
    r"[%$]?[({<](?:project|tenant)_id[)}>]s?"
    r"|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
"""A project at the end of an address, as catalogs have it: an id, or a placeholder for one."""

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
    """Return the addresses of the services.

    A given address wins over the one derived from region and domain: ``https://{bms,ecs,iam}.{region}.{domain}``. Where
    there is neither, the BMS endpoint serves all three.

    Args:
        endpoint: The address of the BMS service.
        compute_endpoint: The address of the ECS service.
        identity_endpoint: The address of the IAM service.
        region: The region's id, such as ``ae-ad-1``.
        domain: The DNS domain of the cloud, such as ``example.com``.
        project_id: The project; an address may end with it.

    Raises:
        ConfigurationError: An argument is invalid, or the address of the BMS service cannot be derived.
    """
    region = None if region is None else check_region("region", region)
    domain = None if domain is None else check_domain("domain", domain)
    if endpoint is None:
        _require_region_and_domain(region, domain)

    def read(setting: str, address: str | None) -> str:
        return read_endpoint(setting, setting, address, project_id)

    bms = read("endpoint", _derive("bms", region, domain) if endpoint is None else endpoint)
    return Endpoints(
        bms=bms,
        compute=read("compute_endpoint", compute_endpoint or _derive("ecs", region, domain) or bms),
        identity=read("identity_endpoint", identity_endpoint or _derive("iam", region, domain) or bms),
    )


def _derive(service: str, region: str | None, domain: str | None) -> str | None:
    return None if region is None or domain is None else f"https://{service}.{region}.{domain}"


def _require_region_and_domain(region: str | None, domain: str | None) -> None:
    if region is None and domain is None:
        raise ConfigurationError(
            "endpoint: expected an address such as 'https://bms.region.example.com', or region and domain"
        )
    if region is None or domain is None:
        given, missing = ("domain", "region") if region is None else ("region", "domain")
        raise ConfigurationError(f"{missing}: expected beside {given} when no endpoint is given")


def read_endpoint(argument: str, setting: str, value: object, project_id: str | None = None) -> str:
    """Return the address of a service without version and project, which each call adds itself.

    Catalogs and OpenStack's tools have them at its end: ``/v1/%(project_id)s``, ``/v2.1/$(tenant_id)s``, or filled in.

    Args:
        argument: The name of the argument, variable or key, for errors.
        setting: ``endpoint``, ``compute_endpoint`` or ``identity_endpoint``.
        value: The address.
        project_id: The project; the address may end with it.

    Raises:
        ConfigurationError: The value is not an address, or has a placeholder that is not filled in.
    """
    address = check_endpoint(argument, value)
    # An invalid project_id is rejected elsewhere, with a better text.
    known = isinstance(project_id, str) and project_id.strip()
    project = f"{_PROJECT}|{re.escape(known)}" if known else _PROJECT
    # Not directly after a slash: that would match the host.
    versions = rf"(?<!/)(?:/v\d+(?:\.\d+)?/(?:{project})|{_VERSIONS[setting]})$"
    # Most addresses have no version, and compiling the pattern takes as long as a call.
    plain = re.sub(versions, "", address, flags=re.IGNORECASE) if "/v" in address.lower() else address
    unfilled = find_unfilled(plain)
    if unfilled is not None:
        raise ConfigurationError(
            f"{argument}={address!r}: {unfilled!r} is not filled in; give the address of the service alone, such as "
            "'https://bms.region.example.com': each call adds version and project itself"
        )
    if setting == "identity_endpoint" and _OLD_IDENTITY.search(plain):
        raise ConfigurationError(
            f"{argument}={address!r}: expected version 3 of the identity service, got 2.0; "
            f"give {_OLD_IDENTITY.sub('', plain)!r}"
        )
    return plain


def check_region(argument: str, value: object) -> str:
    """Return a region's id, checked to be valid in a host name.

    Raises:
        ConfigurationError: It is invalid. The text does not show it: mixed-up settings may have put a secret here.
    """
    text = wrap_secrets(value.strip()) if isinstance(value, str) else ""
    if not _REGION.fullmatch(text):
        raise ConfigurationError(f"{argument}: expected a region's id such as 'ae-ad-1': letters, digits and hyphens")
    return str(text)


def check_domain(argument: str, value: object) -> str:
    """Return the DNS domain of a cloud.

    Raises:
        ConfigurationError: It is invalid. The text does not show it: mixed-up settings may have put a secret here.
    """
    text = wrap_secrets(value.strip()) if isinstance(value, str) else ""
    if not _DOMAIN.fullmatch(text):
        raise ConfigurationError(
            f"{argument}: expected the cloud's DNS domain, such as 'example.com', without scheme and path"
        )
    return str(text)


def check_endpoint(argument: str, value: object) -> str:
    """Return an endpoint that credentials may be sent to.

    Args:
        argument: The argument's name, for errors.
        value: The address.

    Raises:
        ConfigurationError: It is not an address, has credentials or a query, or is plain HTTP to another machine.
    """
    if not isinstance(value, str) or not value.strip():
        given = repr(value) if value is None or isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{argument}={given}: expected an address such as 'https://bms.region.example.com'")
    value = wrap_address(value)
    text = wrap_address(value.strip().rstrip("/"))
    if "@" in text:
        # Not shown, and not parsed: either half may be the secret.
        raise ConfigurationError(f"{argument}: expected an address without credentials; pass them as auth=")
    # A query may hold a signature, and is not shown either.
    plain = text.partition("?")[0].partition("#")[0]
    has_query = plain != text
    shown = f"{argument}={plain + ('?...' if has_query else '')!r}"
    if "://" not in plain:
        raise ConfigurationError(f"{shown}: the scheme is missing; did you mean {_with_scheme(plain)!r}?")
    if has_query:
        raise ConfigurationError(f"{shown}: expected no query and no fragment")
    if not text.isprintable() or " " in text:
        raise ConfigurationError(f"{shown}: expected no blanks")
    _check_scheme_and_host(text, shown)
    return text


def canonical_endpoint(address: str) -> str:
    """Return an address in the one form that all ways to write it have: what is kept for it is found by any of them.

    Args:
        address: An address of `check_endpoint`.
    """
    parts = urlsplit(address)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}{parts.path}"


def _check_scheme_and_host(address: str, shown: str) -> None:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{shown}: {error}") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"{shown}: expected an https address")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{shown}: expected https, got http, which would expose the credentials on the network; "
            "http is accepted for loopback only"
        )


def _with_scheme(plain: str) -> str:
    try:
        host = urlsplit(f"//{plain}").hostname or ""
    except ValueError:
        host = ""
    return f"{'http' if is_loopback(host) else 'https'}://{plain}"
