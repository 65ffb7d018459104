"""The repairs of the printed examples: enough of them, none too many, and nothing lost."""

import base64
import dataclasses
import json
import re
from typing import Any

import pytest

from tests.reference.examples import (
    ACTION_ANSWER,
    ERROR_ANSWER,
    EXAMPLES,
    GATEWAY_ERROR_ANSWER,
    JOB_ANSWER,
    ORDER_ANSWER,
    PRINTED,
    REBOOT_REQUEST,
    SERVER_LIST,
    SERVER_SHOW,
    START_REQUEST,
    STOP_REQUEST,
    Example,
    Repair,
    repair,
)

DAMAGED = [example for example in EXAMPLES if example.repairs]
SOUND = [example for example in EXAMPLES if not example.repairs]
EVERY_REPAIR = [
    pytest.param(example, step, id=f"{example.name}-{number}")
    for example in DAMAGED
    for number, step in enumerate(example.repairs)
]


def refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a name occurs twice in one object: {names}"
    return dict(pairs)


def read(example: Example) -> Any:
    return json.loads(repair(example), object_pairs_hook=refuse_twins)


def name_of(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_a_repaired_example_is_a_json_object(example: Example) -> None:
    assert isinstance(read(example), dict)


@pytest.mark.parametrize("example", DAMAGED, ids=name_of)
def test_a_damaged_example_is_not_json_as_printed(example: Example) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(example.printed)


@pytest.mark.parametrize("example", SOUND, ids=name_of)
def test_an_example_without_repairs_is_read_as_printed(example: Example) -> None:
    assert repair(example) == example.printed


@pytest.mark.parametrize(("example", "step"), EVERY_REPAIR)
def test_leaving_out_any_one_repair_leaves_no_json(example: Example, step: Repair) -> None:
    others = tuple(other for other in example.repairs if other is not step)

    with pytest.raises(json.JSONDecodeError):
        read(dataclasses.replace(example, repairs=others))


@pytest.mark.parametrize(("example", "step"), EVERY_REPAIR)
def test_every_repair_changes_something_and_gives_its_reason(example: Example, step: Repair) -> None:
    assert step.printed != step.repaired
    assert len(step.reason) > 10


@pytest.mark.parametrize("example", DAMAGED, ids=name_of)
def test_repairs_touch_brackets_and_page_breaks_but_no_name_and_no_value(example: Example) -> None:
    filled_in = {'"IyEvYmluL3NoCmVjaG8gcmVhZHkK"', '"BMS.0040"'}
    printed = re.findall(r'"[^"\n]*"', example.printed.replace('"WITHHELD\nWITHHELD\nWITHHELD"', ""))
    repaired = re.findall(r'"[^"\n]*"', repair(example))

    assert [text for text in repaired if text not in filled_in] == printed


def test_a_repair_that_misses_its_place_is_an_error() -> None:
    lost = dataclasses.replace(JOB_ANSWER, repairs=(Repair("not there", "", "a test"),))

    with pytest.raises(AssertionError, match="0 x 'not there'"):
        repair(lost)


def test_a_repair_that_hits_more_places_than_it_claims_is_an_error() -> None:
    loose = dataclasses.replace(JOB_ANSWER, repairs=(Repair('"SUCCESS"', '"FAIL"', "a test"),))

    with pytest.raises(AssertionError, match="2 x"):
        repair(loose)


def test_a_repair_may_claim_several_places() -> None:
    step = Repair('"SUCCESS"', '"FAIL"', "a test", times=2)

    assert repair(dataclasses.replace(JOB_ANSWER, repairs=(step,))).count('"FAIL"') == 2


def test_every_printed_file_belongs_to_one_example() -> None:
    assert sorted(path.stem for path in PRINTED.iterdir()) == sorted(map(name_of, EXAMPLES))


def test_the_repaired_server_has_its_parts_in_their_places() -> None:
    server = read(SERVER_SHOW)["server"]

    assert server["id"] == "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
    assert list(server["addresses"]) == [server["metadata"]["vpc_id"]]
    assert [address["OS-EXT-IPS:type"] for address in server["addresses"][server["metadata"]["vpc_id"]]] == [
        "fixed",
        "floating",
    ]
    assert server["flavor"]["id"] == "physical.o2.medium"
    assert server["tags"] == ["__type_baremetal"]
    assert server["sys_tags"][0]["value"] == server["enterprise_project_id"]


def test_the_repaired_list_has_two_whole_servers() -> None:
    answer = read(SERVER_LIST)
    first, second = answer["servers"]

    assert answer["count"] == 2
    assert [first["status"], second["status"]] == ["ACTIVE", "SHUTOFF"]
    for server in (first, second):
        (addresses,) = server["addresses"].values()
        assert [address["version"] for address in addresses] == ["4"]
        assert server["flavor"]["vcpus"] == "32"
        assert server["sys_tags"] == [{"key": "_sys_enterprise_project_id", "value": "0"}]


def test_the_repaired_start_asks_for_the_same_servers_as_the_stop_and_the_reboot() -> None:
    start, stop, reboot = read(START_REQUEST), read(STOP_REQUEST), read(REBOOT_REQUEST)

    assert start == {"os-start": {"servers": stop["os-stop"]["servers"]}}
    assert reboot == {"reboot": stop["os-stop"]}
    assert len(start["os-start"]["servers"]) == 2


def test_the_answers_carry_what_their_names_say() -> None:
    assert read(ACTION_ANSWER) == {"job_id": "70a599e0-31e7-49b7-b260-868f441e862b"}
    assert list(read(ORDER_ANSWER)) == ["order_id", "job_id"]
    assert read(JOB_ANSWER)["entities"]["sub_jobs_total"] == 1
    assert read(ERROR_ANSWER) == {"error": {"message": "", "code": "BMS.0040"}}
    assert list(read(GATEWAY_ERROR_ANSWER)) == ["error_msg", "error_code"]


def test_no_password_hash_stands_in_a_fixture() -> None:
    user_data = read(SERVER_SHOW)["server"]["OS-EXT-SRV-ATTR:user_data"]

    assert base64.b64decode(user_data, validate=True) == b"#!/bin/sh\necho ready\n"
    for path in PRINTED.iterdir():
        # No base64 as long as a line of user data, under whatever name.
        assert re.search(r"[A-Za-z0-9+/]{60}", path.read_text(encoding="utf-8")) is None, path.name
