"""Secrets on their way to the socket: text and bytes like any other, which no repr shows."""

import copy
import json
import pickle
import traceback

import pytest
from rich.pretty import pretty_repr

from bms_async import InvalidRequestError, Secret
from bms_async.redaction import MaskedStr, SecretBytes, SecretStr

TEXT = "s3cret-of-mine"


@pytest.mark.parametrize(
    "shown",
    [
        repr(SecretStr(TEXT)),
        repr(SecretStr(TEXT).encode()),
        str(SecretStr(TEXT).encode()),
        repr(SecretStr(TEXT).encode().decode()),
        repr({"X-Auth-Token": SecretStr(TEXT)}),
        f"{SecretStr(TEXT)!r}",
        repr(copy.deepcopy([SecretStr(TEXT), SecretBytes(TEXT.encode())])),
        repr(Secret(TEXT).text),
        repr(SecretStr(TEXT)[:6]),
        repr(SecretBytes(TEXT.encode())[1:6]),
        repr(SecretStr(f" {TEXT} ").strip()),
        repr(SecretBytes(f" {TEXT} ".encode()).strip()),
    ],
)
def test_no_repr_shows_it(shown: str) -> None:
    assert TEXT not in shown
    assert "***" in shown


def test_it_is_the_text_all_the_same() -> None:
    text = SecretStr(TEXT)

    assert text == TEXT
    assert hash(text) == hash(TEXT)
    assert f"Bearer {text}" == f"Bearer {TEXT}"
    assert text.encode() == TEXT.encode()
    assert text.encode().decode() == TEXT


def test_a_part_of_it_is_that_part() -> None:
    text = SecretStr(f" {TEXT} ")

    assert text.strip() == TEXT
    assert (text[1], text[1:4]) == ("s", "s3c")
    assert (text.encode()[1], text.encode()[1:4], text.encode().strip()) == (ord("s"), b"s3c", TEXT.encode())


@pytest.mark.parametrize(
    "secret",
    [SecretStr(TEXT * 20), SecretBytes(TEXT.encode() * 20), MaskedStr(f"no {TEXT}" * 20, "no ***" * 20)],
    ids=["text", "bytes", "the cloud's text"],
)
def test_what_prints_the_beginning_of_a_long_one_does_not_show_it(secret: object) -> None:
    # As rich shows the variables of a traceback, and our errors an argument.
    assert TEXT not in pretty_repr({"secret": secret}, max_string=80)
    assert TEXT not in str(InvalidRequestError("argument", secret, "a rule"))


def test_what_was_asked_for_by_name_is_plain_text() -> None:
    assert repr(Secret(TEXT).reveal()) == repr(TEXT)


@pytest.mark.parametrize("secret", [SecretStr(TEXT), SecretBytes(TEXT.encode())], ids=["text", "bytes"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(secret: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret, protocol)


def test_the_variables_of_a_traceback_do_not_show_it() -> None:
    def sign(token: SecretStr) -> None:
        headers = {"X-Auth-Token": token, "body": json.dumps({}).encode()}
        raise ValueError(len(headers))

    with pytest.raises(ValueError, match="2") as caught:
        sign(SecretStr(TEXT))

    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__) if frame.f_code.co_name == "sign"]
    assert [TEXT in repr(frame.f_locals) for frame in frames] == [False]
    assert [frame.f_locals["token"] == TEXT for frame in frames] == [True]
