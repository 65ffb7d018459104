"""Each call has all that CONTRIBUTING.md lists under *How to add a call*; a step that was forgotten is named."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any, get_args

import msgspec
import pytest

import bms_async.models
from bms_async.api import operations
from bms_async.api.identity import CREATE_TOKEN
from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.limits.table import UNDOCUMENTED_OPERATIONS
from bms_async.simulator import OPERATIONS
from bms_async.wire import Operation, Safety
from docs._site import calls_page
from tests.api.every_call.calls import CALLS, shape_of
from tests.docs.blocks import ROOT
from tests.reference.examples import EXAMPLES
from tests.secrets.calls import CALLS as CALLS_WITH_SECRETS
from tests.support.mocked import client_of

SECRETS = {"password", "new_password", "admin_password", "user_data", "metadata"}
"""Arguments that are secrets, or may hold one."""

STEPS = re.findall(r"^(\d+)\. \*\*(.+?)\*\*", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)


def models_of(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield each model that an answer of this type is made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from models_of(field.type)
    for argument in get_args(kind):
        yield from models_of(argument)


def method_of(operation: Operation[Any]) -> Any:
    try:
        return reduce(getattr, operation.name.split("."), client_of())
    except AttributeError:
        return None


def forgotten(operation: Operation[Any]) -> list[str]:
    """Return the steps that a call lacks, by their numbers in CONTRIBUTING.md."""
    method = method_of(operation)
    arguments = set() if method is None else set(inspect.signature(method).parameters)
    ours = [model for model in models_of(operation.result) if model.__module__.startswith("bms_async.models")]
    shape = (operation.chapter, operation.method, shape_of(operation.path))
    page = calls_page.PAGE.read_text(encoding="utf-8")
    done = {
        1: all(model.__name__ in bms_async.models.__all__ for model in ours),
        2: operation.name in {*DOCUMENTED_LIMITS, *UNDOCUMENTED_OPERATIONS},
        3: method is not None or operation is CREATE_TOKEN,
        4: operation.name in OPERATIONS,
        5: any(operation.chapter in example.sections for example in EXAMPLES) or operation.name in WITHOUT_EXAMPLE,
        6: shape in {call.shape for call in CALLS},
        7: not arguments & SECRETS or operation.name in CALLS_WITH_SECRETS,
        8: (operation.path if operation is CREATE_TOKEN else f"`bms.{operation.name}`") in page,
    }
    return [f"{number}. {words}" for number, words in STEPS if not done.get(int(number), True)]


WITHOUT_EXAMPLE = {
    "nova.keypairs.delete",
    "nova.metadata.delete",
    "nova.servers.delete",
    "nova.tags.add",
    "nova.tags.clear",
    "nova.tags.remove",
    "nova.volumes.detach",
    "servers.can_reset_password",
    "servers.create",
    "servers.delete_windows_password",
    "servers.detach_volume",
    "servers.reset_password",
}
"""Calls of which the reference prints no example: nothing has a body, or only chapter 7 names them."""


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
def test_no_step_was_forgotten(operation: Operation[Any]) -> None:
    assert forgotten(operation) == []


class Levitation(msgspec.Struct):
    """What an answer nobody has exported looks like."""

    height: int


Levitation.__module__ = "bms_async.models.levitation"


def test_each_step_that_was_forgotten_is_named() -> None:
    nothing_done = Operation(
        name="servers.levitate",
        method="POST",
        path="/v1/{project_id}/baremetalservers/{server_id}/levitate",
        result=Levitation,
        title="Levitate a server",
        chapter="4.99.1",
        safety=Safety.UNSAFE,
    )

    assert [step.partition(".")[0] for step in forgotten(nothing_done)] == ["1", "2", "3", "4", "5", "6", "8"]


def test_a_call_that_takes_a_secret_and_is_not_searched_for_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CALLS_WITH_SECRETS, "servers.reset_password")
    (operation,) = [each for each in operations() if each.name == "servers.reset_password"]

    assert [step.partition(".")[0] for step in forgotten(operation)] == ["7"]


def test_the_guide_has_nine_steps() -> None:
    assert [int(number) for number, _ in STEPS] == list(range(1, 10))
