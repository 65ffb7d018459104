"""An address that credentials may go to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import ConfigurationError
from bms_async.config import check_endpoint


@pytest.mark.parametrize(
    ("given_as", "used_as"),
    [
        ("https://bms.example.com", "https://bms.example.com"),
        ("https://bms.example.com/", "https://bms.example.com"),
        ("  https://bms.example.com \n", "https://bms.example.com"),
        ("https://proxy.example.com:8443/bms/", "https://proxy.example.com:8443/bms"),
        ("HTTPS://bms.example.com", "HTTPS://bms.example.com"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://cloud.localhost", "http://cloud.localhost"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_taken_without_the_slash_at_its_end(given_as: str, used_as: str) -> None:
    assert check_endpoint("endpoint", given_as) == used_as


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "an address such as"),
        ("", "an address such as"),
        (" \n", "an address such as"),
        (7, "an address such as"),
        (b"https://bms.example.com", "an address such as"),
        ("bms.example.com", r"the scheme is missing; did you mean 'https://bms\.example\.com'\?"),
        ("bms.example.com:443/x", "the scheme is missing"),
        ("ftp://bms.example.com", "expected an https address"),
        ("https://", "the scheme is missing"),
        ("https:///v1", "expected an https address"),
        ("https://:8443", "expected an https address"),
        ("https://bms.example.com?x=1", "no query and no fragment"),
        ("https://bms.example.com#x", "no query and no fragment"),
        ("https://bms.example.com:port", "[Pp]ort"),
        ("https://bms.example.com:99999", "[Pp]ort"),
        ("https://bms.example.com:-1", "[Pp]ort"),
        ("https://[::1", "IPv6"),
        ("https://[not-an-ip]", "not-an-ip"),
        ("https://bms example.com", "expected no blanks"),
        ("https://bms\n.example.com", "expected no blanks"),
        ("http://bms.example.com", "expected https, got http"),
        ("http://10.0.0.1", "expected https, got http"),
        ("http://0.0.0.0", "expected https, got http"),
        ("http://[2001:db8::1]", "expected https, got http"),
        ("http://localhost.example.com", "expected https, got http"),
        ("http://127.0.0.1.example.com", "expected https, got http"),
        ("http://notlocalhost", "expected https, got http"),
    ],
)
def test_another_address_is_refused_and_the_error_says_which_argument_and_why(value: object, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule) as caught:
        check_endpoint("compute_endpoint", value)

    assert str(caught.value).startswith("compute_endpoint")


@pytest.mark.parametrize(
    "value",
    [
        "https://user:SECRET@bms.example.com",
        "https://SECRET@bms.example.com",
        "user:SECRET@bms.example.com",
        "http://user:SECRET@localhost",
        "ftp://user:SECRET@bms.example.com",
        "https://user:SEC[RETSECRET@bms.example.com",
        "https://user:SECRET@bms.example.com:port",
        "https://user:SECRET@bms.example.com?x=1",
        "https://bms.example.com\\@user:SECRET",
        "https://bms.example.com?token=SECRET",
        "https://bms.example.com/#SECRET",
        "bms.example.com?token=SECRET",
        b"https://user:SECRET@bms.example.com",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_endpoint("endpoint", value)

    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(caught.value.__cause__)


@given(
    value=st.text(max_size=40)
    | st.text(max_size=30).map("https://".__add__)
    | st.text(max_size=30).map("http://[".__add__)
)
def test_any_text_is_an_address_or_a_configuration_error(value: str) -> None:
    try:
        endpoint = check_endpoint("endpoint", value)
    except ConfigurationError:
        return
    assert endpoint == value.strip().rstrip("/")
    assert endpoint.lower().startswith(("https://", "http://"))
