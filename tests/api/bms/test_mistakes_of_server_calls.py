"""Mistakes in what else is done with a server are refused before anything is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from bms_async import BmsClient, InvalidRequestError
from tests.support.mocked import BASE, mocked, sent

Call: TypeAlias = Callable[[BmsClient], Awaitable[object]]

MISTAKES: list[tuple[Call, str, str]] = [
    (lambda bms: bms.servers.rename("a", ""), "name", "1 to 63"),
    (lambda bms: bms.servers.rename("a", "x" * 64), "name", "1 to 63"),
    (lambda bms: bms.servers.rename("a", "new name"), "name", "1 to 63"),
    (lambda bms: bms.servers.rename("a", "ä"), "name", "1 to 63"),
    (lambda bms: bms.servers.reinstall_os("a"), "user_data", "neither admin_password nor key_name"),
    (lambda bms: bms.servers.reinstall_os("a", user_data=""), "user_data", "neither admin_password nor key_name"),
    (lambda bms: bms.servers.reinstall_os("a", key_name=""), "key_name", "1 to 255"),
    (lambda bms: bms.servers.reinstall_os("a", key_name="k", admin_password="Sesame!77"), "key_name", "got both"),
    (lambda bms: bms.servers.reinstall_os("a", key_name="k", user_id="a b"), "user_id", "expected an id of"),
    (lambda bms: bms.servers.reinstall_os("a", user_data=b"x" * 32769), "user_data", "32768 bytes"),
    (lambda bms: bms.servers.reinstall_os("a", user_data="half \ud83d"), "user_data", "UTF-8"),
    (lambda bms: bms.servers.attach_volume("a", "b c"), "volume_id", "expected an id of"),
    (lambda bms: bms.servers.attach_volume("a", "b", device="sdb"), "device", "/dev/sdb"),
    (lambda bms: bms.servers.detach_volume("a", ""), "attachment_id", "expected an id of"),
    (lambda bms: bms.servers.update_metadata("a", {"a/b": "c"}), "metadata", "expected a key of"),
    (lambda bms: bms.servers.update_metadata("a", {"a": "x" * 256}), "metadata['a']", "at most 255"),
    (lambda bms: bms.servers.update_metadata("a", [("a", "b")]), "metadata", "a mapping"),  # type: ignore[arg-type]
    (lambda bms: bms.flavors.list("a b"), "availability_zone", "expected an id of"),
    (lambda bms: bms.versions.get("v1/x"), "version", "expected an id of"),
    (lambda bms: bms.identity.projects(name=" "), "name", "name of a project"),
    (lambda bms: bms.identity.projects(name=""), "name", "name of a project"),
]
CALLS: list[Callable[[BmsClient, Any], Awaitable[object]]] = [
    lambda bms, invalid: bms.servers.rename(invalid, "name"),
    lambda bms, invalid: bms.servers.reinstall_os(invalid, key_name="k"),
    lambda bms, invalid: bms.servers.list_interfaces(invalid),
    lambda bms, invalid: bms.servers.list_volumes(invalid),
    lambda bms, invalid: bms.servers.attach_volume(invalid, "v"),
    lambda bms, invalid: bms.servers.detach_volume(invalid, "v"),
    lambda bms, invalid: bms.servers.update_metadata(invalid, {}),
    lambda bms, invalid: bms.servers.get_windows_password(invalid),
    lambda bms, invalid: bms.servers.delete_windows_password(invalid),
    lambda bms, invalid: bms.servers.can_reset_password(invalid),
    lambda bms, invalid: bms.servers.reset_password(invalid, "Sesame!77"),
]


@pytest.mark.parametrize(("mistake", "argument", "rule"), MISTAKES)
async def test_a_mistake_is_refused_with_its_argument_and_the_rule(mistake: Call, argument: str, rule: str) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await mistake(bms)

        assert sent(cloud) == []
    assert caught.value.argument == argument
    assert rule in caught.value.rule


@pytest.mark.parametrize("invalid", ["", " ", ",", " , ", 7])
@pytest.mark.parametrize("filter_", ["flavor", "name", "status", "tags", "reservation_id", "enterprise_project_id"])
async def test_a_filter_that_says_nothing_is_refused_for_it_would_list_all_servers(filter_: str, invalid: Any) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError, match="all servers") as caught:
            bms.servers.list(**{filter_: invalid})

        assert sent(cloud) == []
    assert (caught.value.argument, caught.value.value) == (filter_, invalid)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("invalid", ["", "a b", "..", "a/b", None, 7])
async def test_an_invalid_server_is_refused_by_every_call(
    call: Callable[[BmsClient, Any], Awaitable[object]], invalid: Any
) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await call(bms, invalid)

        assert sent(cloud) == []
    assert (caught.value.argument, caught.value.value) == ("server_id", invalid)


async def test_without_checks_all_of_it_is_sent() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.route(url__startswith=BASE).respond(json={"server": {"id": "a"}, "job_id": "j", "flavors": None})

        await bms.servers.rename("a", "new name")
        await bms.servers.reinstall_os("a", key_name="k", admin_password="weak")
        await bms.servers.attach_volume("a", "b c", device="sdb")
        await bms.servers.update_metadata("a", {"a/b": "c"})
        await bms.servers.reset_password("a", "weak")
        await bms.flavors.list("a b")
        await bms.servers.create(
            name="", image_id="i", flavor_id="f", availability_zone="z", vpc_id="v", nics=[], count=0
        )

        assert len(sent(cloud)) == 7
