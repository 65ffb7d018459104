"""The filters of the native lists: one TypedDict for both, and a misspelt one is named."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

from bms_async.api.nova.server_filters import ServerFilterOptions, ServerFilters
from tests.support.mocked import mocked


def test_the_options_are_those_that_a_list_has_defaults_for() -> None:
    assert tuple(get_type_hints(ServerFilterOptions)) == ServerFilters.__struct_fields__
    assert set(ServerFilters.__struct_defaults__) == {None}


def test_the_text_of_each_option_says_its_default() -> None:
    source = inspect.getsource(ServerFilterOptions)
    assert source.count("Default: None") == len(ServerFilters.__struct_fields__)


@pytest.mark.parametrize("method", ["list", "list_details"])
async def test_a_misspelt_filter_is_a_type_error_that_names_it(method: str) -> None:
    async with mocked() as (bms, _):
        listing: Any = getattr(bms.nova.servers, method)
        with pytest.raises(TypeError, match="statsu"):
            listing(statsu="ACTIVE")
