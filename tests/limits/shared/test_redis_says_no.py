"""What a server says instead of an answer: what passes is tried again, what does not says what to do, and no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bms_async.errors import ConfigurationError
from bms_async.limits.shared._redis_errors import _RIGHTS
from bms_async.limits.shared.messages import Question, Terms
from bms_async.limits.shared.redis import RedisStore
from bms_async.limits.shared.store import StoreError
from tests.limits.shared._fake_redis import INFO, fake_redis
from tests.limits.shared._servers import Server
from tests.secrets._search import Eye, watching
from tests.secrets.canaries import PASSWORD
from tests.transport.authority import Authority

QUESTION = Question(holder="one", seq=1, terms=Terms(), limit=50, interactive=3)
SECRET = quote(PASSWORD, safe="")


@pytest.fixture
def eye() -> Iterator[Eye]:
    with watching() as eye:
        yield eye
    assert eye.found == {}


@pytest.mark.parametrize(
    "says",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica. script: on @user_script:434.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "CLUSTERDOWN Hash slot not served",
        "ERR max number of clients reached",
        # As Redis 6 says it.
        "ERR Error running script (call to f_0): @user_script:434: @user_script: 434: -READONLY You can't write.",
    ],
)
async def test_what_passes_is_an_error_that_is_tried_again(says: str) -> None:
    async with fake_redis({"EVALSHA": f"-{says}"}) as fake:
        store = RedisStore(f"redis://127.0.0.1:{fake.port}")
        await store.open()
        with pytest.raises(ConnectionError) as caught:
            await store.ask("prod", [("servers.stop", QUESTION)])
        assert str(caught.value).startswith(f"{store.label}: ")
        await store.aclose()


@pytest.mark.parametrize(
    ("says", "helps"),
    [
        ("NOAUTH Authentication required.", "name a user and a password"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "allow the user"),
        ("ERR ACL failure in script: User u has no permissions to run the 'hset' command", "allow the user"),
        ("ERR The user executing the script can't run this command or subcommand", "allow the user"),
        ("ERR unknown command 'EVALSHA', with args beginning with: 'abc'", "allow the user"),
        ("MOVED 7 10.0.0.7:6379", "Redis Cluster is not supported"),
        ("ASK 7 10.0.0.7:6379", "Redis Cluster is not supported"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "Redis Cluster is not supported"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "name another account"),
        ("BMSLATER 2", "update bms_async here"),
        ("BMSUNREADABLE limit", "delete the account's key"),
        ("ERR user_script:410: bad argument #1 to 'ipairs' (table expected, got number)", "delete the account's key"),
        ("ERR user_script:408: attempt to compare number with string", "delete the account's key"),
    ],
)
async def test_what_does_not_pass_says_what_to_do(says: str, helps: str) -> None:
    async with fake_redis({"EVALSHA": f"-{says}"}) as fake:
        store = RedisStore(f"redis://127.0.0.1:{fake.port}")
        await store.open()
        with pytest.raises(StoreError, match=helps):
            await store.ask("prod", [("servers.stop", QUESTION)])
        await store.aclose()


async def test_a_sentinel_and_what_is_no_server_at_all_are_not_used() -> None:
    for info, says in ((INFO.replace("standalone", "sentinel"), "is a Sentinel"), ("proxy:1\r\n", "expected a run_id")):
        async with fake_redis(info=info) as fake:
            with pytest.raises(StoreError, match=says):
                await RedisStore(f"redis://127.0.0.1:{fake.port}").open()


@pytest.mark.parametrize("says", ["$-5", "$1e9", ":7", "*1\r\n:7", "HTTP/1.1 400 Bad Request", "$-1"])
async def test_what_no_redis_server_says_is_an_error_that_passes(says: str) -> None:
    async with fake_redis({"INFO": says}) as fake:
        with pytest.raises(ConnectionError, match=r"^redis://127"):
            await RedisStore(f"redis://127.0.0.1:{fake.port}").open()
    async with fake_redis({"EVALSHA": says}) as fake:
        store = RedisStore(f"redis://127.0.0.1:{fake.port}")
        await store.open()
        with pytest.raises(ConnectionError, match=r"^redis://127"):
            await store.ask("prod", [("servers.stop", QUESTION)])
        await store.aclose()


async def test_what_is_nice_to_have_may_be_forbidden() -> None:
    no = "-NOPERM this user has no permissions"
    async with fake_redis({"CLIENT": no, "CONFIG": no}) as fake:
        store = RedisStore(f"redis://127.0.0.1:{fake.port}")
        await store.open()
        await store.aclose()


async def test_a_wrong_password_is_not_shown(server: Server, eye: Eye) -> None:
    store = RedisStore(f"redis://somebody:{SECRET}@127.0.0.1:{server.port}/0")
    eye.look("store", store)
    with pytest.raises(StoreError, match="name a user and a password that it accepts") as caught:
        await store.open()
    eye.look_at_error("wrong password", caught.value)
    eye.search("label", store.label)
    assert "somebody" not in f"{store!r} {store.label} {caught.value}"


async def test_a_server_that_repeats_the_password_is_not_repeated(eye: Eye) -> None:
    for says in (
        f"ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}'",
        f"ERR unknown command `AUTH`, with args beginning with: `u`, `{PASSWORD[:9]}`",
        f"ERR your password is {PASSWORD}",
    ):
        async with fake_redis({"AUTH": f"-{says}"}) as fake:
            with pytest.raises((StoreError, ConnectionError)) as caught:
                await RedisStore(f"redis://u:{SECRET}@127.0.0.1:{fake.port}").open()
            eye.look_at_error("unknown command", caught.value)


async def test_the_right_password_is_used_and_not_shown(server: Server, eye: Eye) -> None:
    server.command("ACL", "SETUSER", "u", "reset", "on", f">{PASSWORD}", "~*", "+@all")
    try:
        store = RedisStore(f"redis://u:{SECRET}@127.0.0.1:{server.port}")
        await store.open()
        await store.ask("prod", [("servers.stop", QUESTION)])
        eye.look("store", store)
        await store.aclose()
    finally:
        server.command("ACL", "DELUSER", "u")


async def use(store: RedisStore) -> None:
    await store.open()
    await store.open_account("prod")
    await store.ask("prod", [("servers.stop", QUESTION)])
    await store.read("prod")


async def test_the_rights_that_an_error_names_are_enough_and_each_is_needed(server: Server) -> None:
    rights = _RIGHTS.removeprefix("allow the user ").split()
    keys, allowed = rights[0], rights[1:]
    optional = {"+client|setname", "+config|get"}
    try:
        for left_out in (None, *allowed):
            server.command("ACL", "SETUSER", "limited", "reset", "on", ">pw", keys, *(set(allowed) - {left_out}))
            server.command("SCRIPT", "FLUSH")
            store = RedisStore(f"redis://limited:pw@127.0.0.1:{server.port}/1")
            if left_out is None or left_out in optional:
                await use(store)
            else:
                with pytest.raises(StoreError, match=re.escape(_RIGHTS)):
                    await use(store)
            await store.aclose()
    finally:
        server.command("ACL", "DELUSER", "limited")


@pytest.mark.parametrize(("hosts", "is_trusted"), [(["localhost"], True), (["elsewhere"], False), ([], False)])
async def test_a_server_over_tls_proves_who_it_is(tmp_path: Path, hosts: list[str], is_trusted: bool) -> None:
    authority = Authority(tmp_path)
    async with fake_redis(tls=authority.server(*hosts)) as fake:
        store = RedisStore(f"rediss://localhost:{fake.port}?ssl_ca_certs={quote(str(authority.bundle))}")
        if is_trusted:
            await store.open()
            await store.aclose()
        else:
            with pytest.raises(ConnectionError, match="certificate verify failed"):
                await store.open()
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            await RedisStore(f"valkeys://localhost:{fake.port}").open()


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://limits", "redis://limits:6379/0"),
        ("rediss://u:p@limits:7000/3", "rediss://limits:7000/3"),
        ("valkey://:p@[::1]:7000/", "valkey://[::1]:7000/0"),
        ("valkeys://limits?db=4&ssl_ca_certs=/a.pem", "valkeys://limits:6379/4"),
        ("unix:///run/redis%20one.sock?db=2", "unix:///run/redis one.sock?db=2"),
        ("redis+unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
    ],
)
def test_a_label_names_the_place_and_nobody(url: str, label: str) -> None:
    assert RedisStore(url).label == label


@pytest.mark.parametrize(
    "url",
    [
        "",
        "limits:6379",
        "http://limits",
        f"redis://:{PASSWORD}@limits",
        f"redis://u:12?{SECRET}@limits",
        f"redis://u:12#{SECRET}@limits",
        f"redis://u:{SECRET}@",
        f"redis://u:{SECRET}@limits:port",
        f"redis://u:{SECRET}@limits/zero",
        f"redis://u:{SECRET}@limits?db=-1",
        f"redis://u:{SECRET}@limits?db=1&db=2",
        f"redis://u:{SECRET}@limits?socket_timeout=9",
        f"redis://limits?password={SECRET}",
        f"redis://u:{SECRET}@limits?ssl_ca_certs=/a.pem",
        f"rediss://u:{SECRET}@limits?ssl_cert_reqs=none",
        f"unix://u:{SECRET}@host/run/redis.sock",
        "unix://",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str, eye: Eye) -> None:
    with pytest.raises(ConfigurationError, match="expected redis://") as caught:
        RedisStore(url)
    eye.look_at_error("url", caught.value)
