"""Three addresses: given, or made of a region and a domain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BmsClient, ConfigurationError, PasswordAuth, StaticToken
from bms_async.config import Endpoints, find_endpoints, read_environment
from bms_async.wire import Service

PLACE = {"region": "ae-ad-1", "domain": "cloud.example.com"}
MADE = {
    "bms": "https://bms.ae-ad-1.cloud.example.com",
    "compute": "https://ecs.ae-ad-1.cloud.example.com",
    "identity": "https://iam.ae-ad-1.cloud.example.com",
}
ARGUMENTS = {"bms": "endpoint", "compute": "compute_endpoint", "identity": "identity_endpoint"}


def client(**arguments: Any) -> BmsClient:
    return BmsClient(project_id="p", auth=StaticToken("t"), **arguments)


@pytest.mark.parametrize("outright", [set(), {"bms"}, {"compute"}, {"identity"}, {"bms", "identity"}, set(ARGUMENTS)])
def test_a_given_address_wins_over_the_one_that_region_and_domain_make(outright: set[str]) -> None:
    addresses = {ARGUMENTS[service]: f"https://{service}.example.org" for service in outright}

    found = find_endpoints(**PLACE, **addresses)

    expected = {service: f"https://{service}.example.org" if service in outright else MADE[service] for service in MADE}
    assert found == Endpoints(**expected)
    assert client(**PLACE, **addresses)._core.endpoints == {
        Service.BMS: expected["bms"],
        Service.COMPUTE: expected["compute"],
        Service.IDENTITY: expected["identity"],
    }


@pytest.mark.parametrize("half", [{}, {"region": "ae-ad-1"}, {"domain": "example.com"}])
def test_without_region_and_domain_the_bms_endpoint_serves_all(half: dict[str, str]) -> None:
    address = "https://bms.example.org"
    assert find_endpoints(endpoint=address, **half) == Endpoints(bms=address, compute=address, identity=address)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "endpoint: .* or region and domain"),
        ({"region": "ae-ad-1"}, "domain: expected beside region"),
        ({"domain": "example.com"}, "region: expected beside domain"),
        ({"compute_endpoint": "https://ecs.example.org"}, "endpoint: "),
        ({"endpoint": ""}, "endpoint=''"),
        ({**PLACE, "compute_endpoint": "ecs.example.org"}, "compute_endpoint=.*scheme is missing"),
        ({**PLACE, "identity_endpoint": "http://iam.example.org"}, "identity_endpoint=.*expected https, got http"),
    ],
)
def test_what_makes_no_address_is_a_configuration_error(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        client(**arguments)


@pytest.mark.parametrize(
    "region", ["", " ", "-a", "a-", "a.b", "a/b", "a b", "a@b", "a\nb", "ä", "a" * 64, "a_b", 7, b"a", "evil.com#"]
)
def test_a_region_that_no_host_name_can_hold_is_refused_and_not_shown(region: Any) -> None:
    with pytest.raises(ConfigurationError, match="region: expected a region's id") as caught:
        find_endpoints(region=region, domain="example.com")
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "domain", ["", "https://example.com", "example.com/", "user:SECRET@example.com", ".com", "a..b", "a.b.", "a:8", 7]
)
def test_a_domain_that_is_none_is_refused_and_not_shown(domain: Any) -> None:
    with pytest.raises(ConfigurationError, match="domain: expected the cloud's DNS domain") as caught:
        find_endpoints(region="ae-ad-1", domain=domain)
    assert "SECRET" not in str(caught.value)


@given(region=st.text(max_size=20), domain=st.text(max_size=20))
def test_whatever_region_and_domain_are_the_host_ends_in_them_or_it_is_an_error(region: str, domain: str) -> None:
    try:
        found = find_endpoints(region=region, domain=domain)
    except ConfigurationError:
        return
    assert found.bms == f"https://bms.{region.strip()}.{domain.strip()}"
    assert set(found.bms.removeprefix("https://")).isdisjoint("/:@?# \\%")


PROJECT = "0605767a9000f5e02f84c0151b4f2be1"
PROJECTS = [
    "%(project_id)s",
    "%(tenant_id)s",
    "$(project_id)s",
    "$(tenant_id)s",
    "{project_id}",
    "${tenant_id}",
    "<project_id>",
    PROJECT,
    PROJECT.upper(),
    "0605767a-9000-f5e0-2f84-c0151b4f2be1",
]


@pytest.mark.parametrize("project", PROJECTS)
def test_version_and_project_at_the_end_of_an_address_are_left_to_the_calls_as_catalogs_have_them(project: str) -> None:
    found = find_endpoints(
        endpoint=f"https://bms.example.org/v1/{project}",
        compute_endpoint=f"https://ecs.example.org/v2.1/{project}/",
        identity_endpoint="https://iam.example.org/v3/auth/tokens",
    )
    assert found == Endpoints(
        bms="https://bms.example.org", compute="https://ecs.example.org", identity="https://iam.example.org"
    )


@pytest.mark.parametrize("setting", ["endpoint", "compute_endpoint", "identity_endpoint"])
def test_an_address_may_end_in_the_very_project_that_the_client_is_for(setting: str) -> None:
    given: dict[str, Any] = {"endpoint": "https://bms.example.org", setting: "https://other.example.org/gate/v1/demo"}
    service = Service[{"endpoint": "BMS", "compute_endpoint": "COMPUTE"}.get(setting, "IDENTITY")]
    bms = BmsClient(project_id="demo", auth=StaticToken("t"), **given)
    assert bms._core.endpoints[service] == "https://other.example.org/gate"


@pytest.mark.parametrize("path", ["", "/gate", "/v1/bms", "/v1/demonstration", "/v1x", "/v1/%2F"])
def test_a_path_before_the_documented_one_is_kept(path: str) -> None:
    assert find_endpoints(endpoint=f"https://gate.example.org{path}", project_id="demo").bms.endswith(path)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("https://bms.%(region)s.example.org/v1/%(project_id)s", "%(region)s"),
        ("https://bms.example.org/%(project_id)s/v1", "%(project_id)s"),
        ("https://bms.$(region)s.example.org", "$(region)s"),
        ("https://bms.{region}.example.org", "{region}"),
        ("https://bms.example.org/v1/AUTH_%(tenant_id)s", "%(tenant_id)s"),
        ("https://bms.example.org/v1/%25(tenant_id)s", "%25(tenant_id)s"),
        ("https://bms.example.org/v1/$OS_PROJECT_ID", "$OS_PROJECT_ID"),
        ("https://bms.<region>.example.org", "<region>"),
        ("https://bms.example.org/v1/:project_id", ":project_id"),
    ],
)
def test_what_is_not_filled_in_is_refused_by_its_name(address: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match="is not filled in; give the address of the service alone") as caught:
        find_endpoints(endpoint=address)
    assert f"{named!r} is not filled in" in str(caught.value)
    with pytest.raises(
        ConfigurationError, match="is not filled in; give the address of the identity service"
    ) as caught:
        PasswordAuth(auth_url=address, user_id="u", password="p", project_id="p")
    assert f"{named!r} is not filled in" in str(caught.value)


def test_the_old_version_of_the_identity_service_is_refused_with_what_to_give() -> None:
    with pytest.raises(ConfigurationError, match=r"got 2\.0; give 'https://iam\.example\.org'"):
        find_endpoints(endpoint="https://bms.example.org", identity_endpoint="https://iam.example.org/v2.0")


def test_the_environment_names_the_variable_whose_address_is_not_filled_in() -> None:
    environment = {
        "BMS_ENDPOINT": "https://bms.example.org/v1/$(tenant_id)s",
        "BMS_COMPUTE_ENDPOINT": "https://%(region)s.example.org",
        "OS_TOKEN": "t",
        "OS_PROJECT_ID": "p",
    }
    with pytest.raises(ConfigurationError, match=r"^BMS_COMPUTE_ENDPOINT="):
        read_environment(environment)
    settings = read_environment({**environment, "BMS_COMPUTE_ENDPOINT": "https://ecs.example.org/v2.1/p"})
    assert (settings.endpoint, settings.compute_endpoint) == ("https://bms.example.org", "https://ecs.example.org")
