"""The served simulator lets OpenStack's own client in, which reads tokens and catalogs its own way; and ours."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.machine import patience

pytest.importorskip("openstack")

import openstack
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import generic, v3

from bms_async import BmsClient, PasswordAuth

pytestmark = [
    # The package warns of what its own next versions will take out of its own insides.
    pytest.mark.filterwarnings("ignore:The _compute_attributes method is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'service_type' parameter is unnecesary"),
]

SERVERS = 20


@contextmanager
def running(*flags: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "bms_async.simulator", "--port", "0", "--servers", str(SERVERS), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=patience(60.0)) == ("", "")
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def line() -> Iterator[dict[str, Any]]:
    with running("--token-lifetime", "7200", "--project-name", "the-region") as told:
        yield told


def who(line: dict[str, Any], **changes: Any) -> dict[str, Any]:
    names = ("auth_url", "username", "password", "user_domain_name", "project_name")
    return {name: line[name] for name in names} | {"project_domain_name": line["user_domain_name"]} | changes


def calls(line: dict[str, Any]) -> dict[str, int]:
    books = session.Session().get(f"{line['address']}/_admin/calls").json()
    return {name: book["arrived"] for name, book in books["operations"].items()}


@pytest.mark.parametrize("kind", [v3.Password, generic.Password])
def test_openstacks_client_logs_in_and_reads_what_the_token_tells(line: dict[str, Any], kind: Any) -> None:
    given = session.Session()
    access = kind(**who(line)).get_access(given)
    assert (access.project_id, access.project_name) == (line["project_id"], "the-region")
    assert (access.username, access.user_domain_name) == (line["username"], line["user_domain_name"])
    assert access.role_names == ["admin"]
    assert access.expires - access.issued == timedelta(hours=2)
    assert abs(access.issued - datetime.now(UTC)) < timedelta(seconds=30)
    assert not access.will_expire_soon()
    catalog = access.service_catalog
    assert catalog.url_for(service_type="bms") == f"{line['address']}/v1/{line['project_id']}"
    assert catalog.url_for(service_type="identity", region_name="sim-1") == line["auth_url"]


def test_openstacks_client_lists_servers_by_the_catalog_and_logs_in_again_when_it_is_refused(
    line: dict[str, Any],
) -> None:
    before = calls(line).get("identity.create_token", 0)
    given = session.Session(auth=v3.Password(**who(line)))
    connection: Any
    with openstack.connection.Connection(session=given) as connection:
        first = [server.id for server in connection.compute.servers(limit=7)]
        assert len(first) == len(set(first)) == SERVERS
        assert [each.name for each in connection.identity.projects()] == ["the-region"]
        assert given.delete(f"{line['address']}/_admin/tokens").json()["revoked"] >= 1
        assert [server.id for server in connection.compute.servers()] == first
    assert calls(line)["identity.create_token"] == before + 2


def test_openstacks_client_finds_its_projects_with_a_token_for_none(line: dict[str, Any]) -> None:
    wanted = who(line, unscoped=True)
    del wanted["project_name"], wanted["project_domain_name"]
    given = session.Session(auth=v3.Password(**wanted))
    projects = given.get(f"{line['auth_url']}/auth/projects").json()["projects"]
    assert [each["id"] for each in projects] == [line["project_id"]]
    with pytest.raises(exceptions.Unauthorized):
        given.get(f"{line['address']}/v1/{line['project_id']}/baremetalservers/detail")


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}, {"project_name": "another"}])
def test_openstacks_client_reads_why_it_is_not_let_in(line: dict[str, Any], wrong: dict[str, str]) -> None:
    with pytest.raises(exceptions.Unauthorized) as refused:
        v3.Password(**who(line, **wrong)).get_access(session.Session())
    assert "Nobody is known by these credentials" in str(refused.value)


def test_our_client_logs_in_with_what_the_simulator_prints(line: dict[str, Any]) -> None:
    async def count() -> int:
        wanted = who(line)
        del wanted["project_domain_name"]
        async with BmsClient(endpoint=line["address"], auth=PasswordAuth(**wanted)) as bms:
            return len([server async for server in bms.servers.list()])

    assert asyncio.run(count()) == SERVERS


def test_a_password_of_ones_own_opens_and_is_not_printed() -> None:
    flags = ("--password", "My-0wn-Password", "--username", "me", "--user-domain-name", "my-account")
    with running(*flags) as told:
        assert (told["password"], told["username"], told["user_domain_name"]) == (None, "me", "my-account")
        assert "My-0wn" not in json.dumps(told)
        access = v3.Password(**who(told, password="My-0wn-Password")).get_access(session.Session())
        assert access.username == "me"
