"""Three addresses: given, or made of a region and a domain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BmsClient, ConfigurationError, StaticToken
from bms_async.config import Endpoints, find_endpoints
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
        ({"region": "ae-ad-1"}, "domain: needed beside region"),
        ({"domain": "example.com"}, "region: needed beside domain"),
        ({"compute_endpoint": "https://ecs.example.org"}, "endpoint: "),
        ({"endpoint": ""}, "endpoint=''"),
        ({**PLACE, "compute_endpoint": "ecs.example.org"}, "compute_endpoint=.*scheme is missing"),
        ({**PLACE, "identity_endpoint": "http://iam.example.org"}, "identity_endpoint=.*plain http"),
    ],
)
def test_what_makes_no_address_is_a_configuration_error(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        client(**arguments)


@pytest.mark.parametrize(
    "region", ["", " ", "-a", "a-", "a.b", "a/b", "a b", "a@b", "a\nb", "ä", "a" * 64, "a_b", 7, b"a", "evil.com#"]
)
def test_a_region_that_no_host_name_can_hold_is_refused_and_not_shown(region: Any) -> None:
    with pytest.raises(ConfigurationError, match="region: a region's id") as caught:
        find_endpoints(region=region, domain="example.com")
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "domain", ["", "https://example.com", "example.com/", "user:SECRET@example.com", ".com", "a..b", "a.b.", "a:8", 7]
)
def test_a_domain_that_is_none_is_refused_and_not_shown(domain: Any) -> None:
    with pytest.raises(ConfigurationError, match="domain: the cloud's DNS domain") as caught:
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
