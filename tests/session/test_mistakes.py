"""A user's mistakes are refused before anything is sent, with the argument, the value and the rule."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from bms_async import BmsClient, ConfigurationError, InvalidRequestError
from tests.support.mocked import ACCEPTED, ACTION, BASE, DETAIL, client_of, mocked, sent

Mistake: TypeAlias = Callable[[BmsClient], Awaitable[object]]

RULE_OF_IDS = (
    "expected an id of letters, digits, '-', '_', '.' and ':', without a space or a slash; copy it from servers.list()"
)
UNFIT_IDS: list[Any] = [
    "",
    "a b",
    "a/b",
    "../a",
    "..",
    ".",
    "a?b",
    "a#b",
    "a%2Fb",
    "a\n",
    "ä",
    "x" * 256,
    None,
    7,
    b"a",
]


async def read(bms: BmsClient, **arguments: Any) -> None:
    async for _ in bms.servers.list(**arguments):
        pass


async def refusal(mistake: Mistake) -> InvalidRequestError:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await mistake(bms)

        assert sent(cloud) == []
        assert bms.statistics().session.calls == 0
    error = caught.value
    assert str(error).startswith(f"{error.argument}=")
    assert str(error).endswith(f": {error.rule}")
    return error


@pytest.mark.parametrize("action", ["start", "stop", "reboot"])
@pytest.mark.parametrize("unfit", UNFIT_IDS, ids=repr)
async def test_an_unfit_id_in_a_batch_is_named_with_its_place(action: str, unfit: Any) -> None:
    error = await refusal(lambda bms: getattr(bms.servers, action)(["good", unfit]))

    assert (error.argument, error.value, error.rule) == ("server_ids[1]", unfit, RULE_OF_IDS)


@pytest.mark.parametrize("unfit", UNFIT_IDS, ids=repr)
async def test_an_unfit_id_is_refused_alone_too(unfit: Any) -> None:
    assert (await refusal(lambda bms: bms.servers.get(unfit))).argument == "server_id"
    assert (await refusal(lambda bms: bms.jobs.get(unfit))).argument == "job_id"


@pytest.mark.parametrize("action", ["start", "stop", "reboot"])
@pytest.mark.parametrize(
    ("ids", "argument", "value", "rule"),
    [
        ([], "server_ids", (), "expected at least one id"),
        ((), "server_ids", (), "expected at least one id"),
        ("server-1", "server_ids", "server-1", "expected a list of ids, got one string; put it in brackets"),
        (
            [f"server-{number}" for number in range(1001)],
            "server_ids",
            "1001 ids",
            "expected at most 1000; use bms.fleet, which batches any number",
        ),
        (["a", "b", "a"], "server_ids", "a", "expected each id once; remove the duplicate"),
        (None, "server_ids", None, "expected a list of ids"),
        (7, "server_ids", 7, "expected a list of ids"),
    ],
    ids=["none", "none either", "a string", "1001", "twice", "null", "a number"],
)
async def test_a_batch_that_cannot_be_one_is_refused(
    action: str, ids: Any, argument: str, value: object, rule: str
) -> None:
    error = await refusal(lambda bms: getattr(bms.servers, action)(ids))

    assert (error.argument, error.value, error.rule) == (argument, value, rule)


@pytest.mark.parametrize("page_size", [0, -1, 1001, 10**9, "10", 2.5, True, None])
async def test_a_page_has_one_to_a_thousand_servers(page_size: Any) -> None:
    error = await refusal(lambda bms: read(bms, page_size=page_size))

    assert (error.argument, error.value) == ("page_size", page_size)
    assert error.rule == "expected an int from 1 to 1000"


@pytest.mark.parametrize("action", ["stop", "reboot"])
@pytest.mark.parametrize("kind", ["SOFT", "hard", "", None])
async def test_only_a_hard_stop_and_a_hard_reboot_work(action: str, kind: Any) -> None:
    error = await refusal(lambda bms: getattr(bms.servers, action)(["a"], type=kind))

    assert (error.argument, error.value) == ("type", kind)
    assert error.rule == "expected HARD; the reference names SOFT and says it is invalid"


async def test_a_job_cannot_be_watched_by_an_unfit_id() -> None:
    async def watch(bms: BmsClient) -> None:
        bms.jobs.watch("a b")

    assert (await refusal(watch)).argument == "job_id"


async def test_a_mistake_is_a_value_error() -> None:
    async with mocked() as (bms, _):
        with pytest.raises(ValueError, match="put it in brackets"):
            await bms.servers.stop("server-1")


@pytest.mark.parametrize("ids", [["a b"], ["a", "a"], [], [f"server-{number}" for number in range(1001)]])
async def test_without_checks_any_batch_is_sent_as_it_is(ids: list[str]) -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)

        await bms.servers.stop(ids)

        (request,) = sent(cloud)
        assert [server["id"] for server in json.loads(request.content)["os-stop"]["servers"]] == ids


async def test_without_checks_any_id_is_sent_in_its_one_segment() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.get(url__startswith=BASE).respond(json={"server": {"id": "a"}, "job_id": "a"})

        for unfit in ("a/b", "a b", "..", "a?b#c"):
            await bms.servers.get(unfit)
            await bms.jobs.get(unfit)

        raw = [request.url.raw_path.decode().rpartition("/v1/")[2].split("/", 1)[1] for request in sent(cloud)]
        assert raw[::2] == [f"baremetalservers/{segment}" for segment in ("a%2Fb", "a%20b", "%2E%2E", "a%3Fb%23c")]
        assert raw[1::2] == [f"jobs/{segment}" for segment in ("a%2Fb", "a%20b", "%2E%2E", "a%3Fb%23c")]


async def test_without_checks_any_page_size_and_type_are_let_through() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [], "count": 0})
        cloud.post(ACTION).respond(json=ACCEPTED)

        await read(bms, page_size=5000)
        await bms.servers.stop(["a"], type="SOFT")  # type: ignore[arg-type]

        assert sent(cloud)[0].url.params["limit"] == "5000"
        assert json.loads(sent(cloud)[1].content)["os-stop"]["type"] == "SOFT"


@pytest.mark.parametrize("project_id", ["", "a b", "a/b", None])
def test_an_unfit_project_is_refused_when_the_client_is_made(project_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="project_id="):
        client_of(project_id=project_id)
