"""The table of calls: every documented limit has its call, and every call its method."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from bms_async.api import operations
from bms_async.auth import TOKEN_OPERATION
from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.wire import Operation, Safety, Service
from tests.support.mocked import client_of

OURS = [operation for operation in operations() if operation.service is not Service.COMPUTE]
WITH_METHODS = [operation for operation in OURS if operation.name != TOKEN_OPERATION]
UNSAFE = {"servers.detach_volume", "servers.reboot", "servers.reinstall_os", "servers.attach_volume", "servers.create"}


def test_every_documented_limit_is_that_of_a_call() -> None:
    limits = {operation.name: operation.limit for operation in OURS if operation.limit is not None}

    assert limits == dict(DOCUMENTED_LIMITS)


def test_the_call_for_a_token_is_listed_like_all_others() -> None:
    (listed,) = [each for each in operations() if each.name == TOKEN_OPERATION]

    assert (listed.method, listed.path, listed.chapter) == ("POST", "/v3/auth/tokens", "3.2")
    assert (listed.safety, listed.service) == (Safety.IDEMPOTENT, Service.IDENTITY)
    assert listed is operations()[0]


@pytest.mark.parametrize("operation", WITH_METHODS, ids=lambda operation: operation.name)
def test_a_call_has_its_method_and_says_what_it_is(operation: Operation[Any]) -> None:
    bms: Any = client_of()
    method = reduce(getattr, operation.name.split("."), bms)

    assert callable(method)
    if operation.limit is not None:
        assert f"{operation.limit} calls a minute." in method.__doc__
    assert f"Source: API reference {operation.chapter}" in method.__doc__
    assert "Raises:" in method.__doc__
    assert operation.title
    assert (operation.safety is Safety.READ) == (operation.method == "GET")
    assert (operation.safety is Safety.UNSAFE) == (operation.name in UNSAFE)


def test_the_answers_that_are_not_200() -> None:
    others = {operation.name: operation.success for operation in OURS if operation.success != (200,)}

    assert others == {
        "identity.create_token": (201,),
        "servers.attach_volume": (202,),
        "servers.delete_windows_password": (202,),
        "servers.detach_volume": (202,),
        "servers.reset_password": (204,),
    }


def test_the_permissions_of_chapter_seven() -> None:
    assert {operation.name: operation.permission for operation in OURS if operation.permission} == {
        "flavors.list": "bms:serverFlavors:get",
        "quotas.get": "bms:serverQuotas:get",
        "servers.can_reset_password": "bms:servers:get",
        "servers.create": "bms:servers:create",
        "servers.delete_windows_password": "bms:servers:deletePassword",
        "servers.get": "bms:servers:get",
        "servers.get_windows_password": "bms:servers:get",
        "servers.list": "bms:servers:list",
        "servers.list_interfaces": "bms:servers:get",
        "servers.reboot": "bms:servers:reboot",
        "servers.reinstall_os": "bms:servers:reInstallOS",
        "servers.rename": "bms:servers:put",
        "servers.reset_password": "bms:servers:resetServerPwd",
        "servers.start": "bms:servers:start",
        "servers.stop": "bms:servers:stop",
        "servers.update_metadata": "bms:servers:updateMetadata",
    }
