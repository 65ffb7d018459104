"""The groups of a rollout: what a server's group is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bms_async import ForeignCodeError, InvalidRequestError, Server
from bms_async.errors.fleet import shown_group
from bms_async.fleet.rollout.groups import check_group_by, group_of
from bms_async.models import Image, ServerFlavor

SERVER = Server(
    id="s-1",
    availability_zone="az-2",
    host_id="h-9",
    flavor=ServerFlavor(id="physical.s3", name="s3"),
    image=Image(name="debian"),
    metadata={"cluster": "blue", "empty": ""},
    tags=("__type_baremetal", "rack-7", "racked", "env:prod"),
)


@pytest.mark.parametrize(
    ("group_by", "group"),
    [
        (None, ""),
        ("availability_zone", "az-2"),
        ("host_id", "h-9"),
        ("flavor", "physical.s3"),
        ("image", "debian"),
        ("key_name", ""),
        ("metadata:cluster", "blue"),
        ("metadata:empty", ""),
        ("metadata:missing", ""),
        ("tag:rack", "rack-7"),
        ("tag:rack-", "rack-7"),
        ("tag:rack:", ""),
        ("tag:env", "env:prod"),
        ("tag:ra", ""),
        (lambda server: server.host_id, "h-9"),
        (lambda server: 7, "7"),
        (lambda server: None, ""),
    ],
)
def test_a_server_is_in_the_group_that_is_asked_for(group_by: Any, group: str) -> None:
    check_group_by(group_by)
    assert group_of(SERVER, group_by) == group


@pytest.mark.parametrize("tag", ["rack", "rack-7", "rack:7", "rack=7", "rack/7", "rack.7", "rack_7"])
def test_a_tag_is_found_by_its_beginning_and_is_the_group(tag: str) -> None:
    assert group_of(Server(id="a", tags=("other", tag)), "tag:rack") == tag


def test_a_server_of_which_the_cloud_says_nothing_is_in_no_group() -> None:
    for group_by in ("availability_zone", "flavor", "image", "host_id", "tag:rack", "metadata:cluster"):
        assert group_of(Server(id="a"), group_by) == ""
    assert (shown_group(""), shown_group("az-2")) == ("(none)", "az-2")


def test_a_server_with_two_such_tags_is_refused_and_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"group_by='tag:rack'.*s-2 has 'rack-7', 'rack:8'") as caught:
        group_of(Server(id="s-2", tags=("rack:8", "rack-7")), "tag:rack")
    assert caught.value.argument == "group_by"
    # The same tag twice is one group.
    assert group_of(Server(id="s-2", tags=("rack-7", "rack-7")), "tag:rack") == "rack-7"


@pytest.mark.parametrize("wrong", ["zone", "", "tag:", "metadata:", "tag: ", "tags:rack", "user_data", 7, ["flavor"]])
def test_what_is_no_way_to_group_is_refused_with_the_ways_that_there_are(wrong: object) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"group_by=.*availability_zone.*tag:rack.*metadata:cluster"
    ) as caught:
        check_group_by(wrong)
    assert caught.value.argument == "group_by"


def test_a_password_is_no_group() -> None:
    with pytest.raises(InvalidRequestError, match="no password"):
        check_group_by("metadata:admin_pass")


async def _later(server: Server) -> str:
    return server.id


def test_a_coroutine_function_is_refused_at_once_and_one_in_disguise_when_it_is_called() -> None:
    with pytest.raises(InvalidRequestError, match="not a coroutine function"):
        check_group_by(_later)
    disguised: Any = lambda server: _later(server)  # noqa: E731, PLW0108 - it hides what it returns
    check_group_by(disguised)
    with pytest.raises(InvalidRequestError, match="s-1"):
        group_of(SERVER, disguised)


@pytest.mark.parametrize("found", [True, 1.5, b"rack", ("rack", 7)])
def test_a_function_that_returns_no_group_is_refused(found: object) -> None:
    wrong: Any = lambda server: found  # noqa: E731
    with pytest.raises(InvalidRequestError, match="expected the function to return a str, an int or None"):
        group_of(SERVER, wrong)


def test_what_a_function_raises_is_raised_and_an_exit_ends_nothing() -> None:
    def fails(server: Server) -> str:
        raise LookupError("not in the inventory")

    def leaves(server: Server) -> str:
        raise SystemExit

    with pytest.raises(LookupError, match="not in the inventory"):
        group_of(SERVER, fails)
    with pytest.raises(ForeignCodeError, match="group_by raised SystemExit"):
        group_of(SERVER, leaves)
