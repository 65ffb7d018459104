"""Bounds of the rules for what users write, where a rule is easily off by a little."""

from __future__ import annotations

import pytest

from bms_async import Flavor, InvalidRequestError, Server
from bms_async.models import decode
from bms_async.validation.text import check_password, check_public_key, check_tags


def test_a_tag_that_comes_twice_counts_once() -> None:
    tags = [f"t{number}" for number in range(50)]
    assert len(check_tags("tags", [*tags, "t0"])) >= 50
    with pytest.raises(InvalidRequestError, match="50"):
        check_tags("tags", [*tags, "t50"])


def test_a_key_is_measured_in_bytes() -> None:
    assert check_public_key("public_key", "k" * 1024)
    with pytest.raises(InvalidRequestError, match="1024"):
        check_public_key("public_key", "é" * 513)


@pytest.mark.parametrize("password", ["abcdefg 12", "abcdefg~12", "abcdefgé12"])
def test_what_the_reference_does_not_list_is_no_special_character(password: str) -> None:
    with pytest.raises(InvalidRequestError, match="three of"):
        check_password("password", password)
    assert check_password("password", password + "#")


def test_odd_values_are_read_as_what_they_mean() -> None:
    assert decode(b'{"id": "a", "metadata": {"x": true, "y": 3}}', Server).metadata == {"x": "true", "y": "3"}
    assert decode(b'{"id": "a", "rxtx_factor": "inf"}', Flavor).rxtx_factor is None
    assert decode(b'{"id": "a", "tags": ""}', Server).tags == ()


def test_what_cannot_be_read_names_where() -> None:
    with pytest.raises(ValueError, match=r"\$\.id"):
        decode(b'{"id": {"x": 1}}', Server)
