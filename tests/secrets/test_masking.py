"""Secrets are taken out of a text however it spells them, and nothing else is."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from bms_async.redaction.masking import mask
from tests.secrets.canaries import ALL, secrets_in

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": json.dumps,
    "in JSON with its letters": lambda text: json.dumps(text, ensure_ascii=False),
    "in JSON of JSON": lambda text: json.dumps(json.dumps(text)),
    "in JSON with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "in a URL": lambda text: quote(text, safe=""),
    "in a form": quote_plus,
    "in a URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "in a repr": repr,
    "in a repr of bytes": lambda text: repr(text.encode()),
    "in HTML": html.escape,
    "misread": lambda text: text.encode().decode("latin-1"),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", ALL)
def test_a_secret_is_masked_however_it_is_spelled(secret: str, spelled: Callable[[str], str]) -> None:
    text = f"before {spelled(secret)} after {spelled(secret)}"
    masked = mask(text, secret)
    assert secrets_in(masked) == set()
    assert masked.startswith("before ")
    assert masked.count("***") == 2
    assert " after " in masked
    assert secrets_in(mask("x" * 5000 + text, secret)) == set()


@pytest.mark.parametrize("size", range(4, 12))
@pytest.mark.parametrize("secret", ALL)
def test_a_secret_that_is_cut_at_the_end_is_masked(secret: str, size: int) -> None:
    assert mask(f"no {secret[:size]}", secret) == "no ***"


def test_nothing_else_is_masked() -> None:
    text = "Zq7 and Zq7x and Zq7xTOKE, and no more"
    assert mask(text, *ALL) == text
    assert mask(text) == text
    assert mask(text, "") == text
    assert mask("ab abc abcd", "abc", "abcd") == "ab *** ***"
