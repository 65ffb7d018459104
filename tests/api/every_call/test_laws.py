"""Laws over every model and every call that there is, whoever adds one."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bms_async.api
from bms_async.errors import DecodeError, InvalidRequestError
from bms_async.models import Model, decode
from bms_async.wire import HttpResponse, Operation, build_request, read_response
from tests.api.every_call.strategies import models, models_of, objects_of

ENDPOINT = "https://bms.example.com"

MODELS = models()
OPERATIONS = bms_async.api.operations()
ANSWERING = [each for each in OPERATIONS if isinstance(each.result, type) and issubclass(each.result, msgspec.Struct)]
WITH_PARTS = [each for each in OPERATIONS if "{" in each.path]

every_model = pytest.mark.parametrize(
    "model", MODELS, ids=lambda model: f"{model.__module__}.{model.__qualname__}".removeprefix("bms_async.")
)

# Documents are large things, and drawing one takes a while. There are as many for each of 64 models.
few = settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
more = settings(few, max_examples=30)

# What a user could hand over by mistake or in malice; and any text at all, halves of characters included.
ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    [
        ".",
        "..",
        "../..",
        "a/../../v1/other",
        "%2e%2e",
        "%2F",
        "a?limit=1",
        "a#b",
        "a;b=c",
        "a\r\nX-Auth-Token: stolen",
        "a\nb",
        "\x00",
        "\\..\\",
        "//evil.example.com",
        "@evil.example.com",
        ":80",
        " ",
        "é/ü",
        "\u2028",
        "{server_id}",
    ]
)

# An error of msgspec's names the place, but for the document itself.
NAMES_ITS_PLACE = re.compile(r"at `(key in )?\$[^`]*`|Object missing required field `\w+`(?! - at)")


def test_there_is_something_to_try() -> None:
    assert len(MODELS) > 15
    assert len(OPERATIONS) >= 58
    assert len(WITH_PARTS) >= len(OPERATIONS) - 4
    assert len(ANSWERING) > 40
    assert {each.result for each in ANSWERING} <= set(MODELS)


# To draw is what takes time here, so that all that holds of one kind of values is looked at in one law.
@every_model
def test_any_model_is_read_back_from_what_it_is_written_as_and_is_frozen_and_shows_no_secret(
    model: type[Model],
) -> None:
    @given(models_of(model))
    @few
    def law(value: Model) -> None:
        assert decode(msgspec.json.encode(value), model) == value
        assert repr(value).startswith(model.__name__ + "(")
        for secret in type(value)._secret:
            field = getattr(value, secret)
            assert not field or f"{secret}='***'" in repr(value)
        for field in model.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(value, field, None)

    law()


@every_model
def test_any_object_is_read_into_a_model_by_each_call_too_or_the_error_names_the_place(model: type[Model]) -> None:
    answering = [each for each in ANSWERING if each.result is model]

    @given(objects_of(model))
    @more
    def law(document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        for operation in answering:
            assert_is_read_or_a_decode_error(operation, body)
        refusal = None
        try:
            read = decode(body, model)
        except msgspec.DecodeError as error:
            refusal = str(error)
        else:
            assert type(read) is model
            # What was read can be written, and is the same when it is read again.
            assert decode(msgspec.json.encode(read), model) == read
        assert refusal is None or NAMES_ITS_PLACE.search(refusal), refusal

    law()


def assert_is_read_or_a_decode_error(operation: Operation[Any], body: bytes) -> None:
    refusal = None
    try:
        read = read_response(operation, HttpResponse(status=200, body=body))
    except DecodeError as error:
        refusal = error
    else:
        assert isinstance(read, operation.result)
    assert refusal is None or refusal.operation == operation.name
    assert refusal is None or NAMES_ITS_PLACE.search(str(refusal)), str(refusal)


def parts_of(operation: Operation[Any]) -> tuple[str, ...]:
    return tuple(re.findall(r"\{(\w+)\}", operation.path))


@pytest.mark.parametrize("parts", sorted({parts_of(each) for each in WITH_PARTS}), ids="-".join)
def test_no_text_in_a_path_changes_what_is_called(parts: tuple[str, ...]) -> None:
    operations = [each for each in WITH_PARTS if parts_of(each) == parts]

    @given(st.fixed_dictionaries(dict.fromkeys(parts, ANY_TEXT)))
    @more
    def law(path: dict[str, str]) -> None:
        for operation in operations:
            assert_is_called_as_documented(operation, path)

    law()


def assert_is_called_as_documented(operation: Operation[Any], path: dict[str, str]) -> None:
    try:
        request = build_request(operation, endpoint=ENDPOINT, path=path)
    except (InvalidRequestError, UnicodeEncodeError):
        # Half a character cannot be written as UTF-8, and nothing else is refused here.
        assert any(re.search(r"[\ud800-\udfff]", value) for value in path.values())
        return
    url = urlsplit(request.url)
    segments, template = url.path.split("/"), operation.path.split("/")

    assert f"{url.scheme}://{url.netloc}" == ENDPOINT
    assert (url.query, url.fragment) == ("", "")
    assert not re.search(r"[?#\r\n\\\s]", request.url)
    assert request.url.isascii()
    assert len(segments) == len(template)
    for segment, wanted in zip(segments, template, strict=True):
        assert segment not in {".", ".."}
        assert unquote(segment) == (path[wanted[1:-1]] if wanted.startswith("{") else wanted)
    assert request.method == operation.method
    assert request.body == b""
    assert not any("\r" in text or "\n" in text for pair in request.headers.items() for text in pair)
