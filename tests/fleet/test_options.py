from __future__ import annotations

import ast
import inspect
import typing

import msgspec
import pytest

from bms_async import Lane
from bms_async.fleet import FleetOptions, options
from bms_async.fleet.options import RunOptions
from tests.support.clouds import simulated


def test_the_options_of_the_methods_are_those_of_a_run() -> None:
    documented = typing.get_type_hints(FleetOptions)
    assert documented == typing.get_type_hints(RunOptions)
    assert list(documented) == list(RunOptions.__struct_fields__)


def test_each_option_says_its_default() -> None:
    """The signature on the site shows dots in its place."""
    tree = ast.parse(inspect.getsource(options))
    fields = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "FleetOptions").body[1:]
    texts = {
        field.target.id: text.value.value
        for field, text in zip(fields[::2], fields[1::2], strict=True)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
    for field in msgspec.structs.fields(RunOptions):
        shown = f"Lane.{field.default.name}" if isinstance(field.default, Lane) else repr(field.default)
        assert f"Default: {shown}" in texts[field.name], field.name


async def test_an_option_that_does_not_exist_is_refused() -> None:
    async with simulated(servers=1) as sim:
        with pytest.raises(TypeError, match="wave_sizes"):
            sim.bms.fleet.stop(sim.ids, wave_sizes=3)  # type: ignore[call-arg]  # mypy finds it, too
