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
    KEYPAIR_ANSWER,
    KEYPAIR_CREATED_ANSWER,
    KEYPAIR_REQUEST,
    KEYPAIRS_ANSWER,
    NATIVE_CREATE_ANSWER,
    ORDER_ANSWER,
    PRINTED,
    REBOOT_REQUEST,
    SERVER_LIST,
    SERVER_SHOW,
    START_REQUEST,
    STOP_REQUEST,
    TOKEN_REQUEST,
    TOKEN_REQUEST_COMMENTED,
    WINDOWS_PASSWORD_ANSWER,
    Example,
    Kind,
    Repair,
    repair,
)

DAMAGED = [example for example in EXAMPLES if example.repairs]
SOUND = [example for example in EXAMPLES if not example.repairs]
# A damaged name leaves JSON, so examples with nothing but such repairs are JSON as printed.
BROKEN = [
    example
    for example in DAMAGED
    if any(step.kind != "words" for step in example.repairs) or example in {ERROR_ANSWER, TOKEN_REQUEST_COMMENTED}
]


def steps_of(*kinds: Kind) -> list[Any]:
    return [
        pytest.param(example, step, id=f"{example.name}-{number}")
        for example in DAMAGED
        for number, step in enumerate(example.repairs)
        if step.kind in kinds
    ]


def refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a name occurs twice in one object: {names}"
    return dict(pairs)


def read(example: Example) -> Any:
    return json.loads(repair(example), object_pairs_hook=refuse_twins)


def without(example: Example, step: Repair) -> Example:
    return dataclasses.replace(example, repairs=tuple(other for other in example.repairs if other is not step))


def texts_in(text: str) -> list[str]:
    return re.findall(r'"[^"\n]*"', text)


def name_of(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_a_repaired_example_is_a_json_object(example: Example) -> None:
    assert isinstance(read(example), dict)


@pytest.mark.parametrize("example", BROKEN, ids=name_of)
def test_a_broken_example_is_not_json_as_printed(example: Example) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(example.printed)


@pytest.mark.parametrize("example", SOUND, ids=name_of)
def test_an_example_without_repairs_is_read_as_printed(example: Example) -> None:
    assert repair(example) == example.printed


@pytest.mark.parametrize(("example", "step"), steps_of("brackets", "lines"))
def test_leaving_out_any_one_repair_leaves_no_json(example: Example, step: Repair) -> None:
    with pytest.raises(json.JSONDecodeError):
        read(without(example, step))


@pytest.mark.parametrize(("example", "step"), steps_of("words"))
def test_leaving_out_any_one_repair_of_words_leaves_no_json_or_another_answer(example: Example, step: Repair) -> None:
    try:
        unmended = read(without(example, step))
    except json.JSONDecodeError:
        return
    assert unmended != read(example)


@pytest.mark.parametrize(("example", "step"), steps_of("brackets", "lines", "words"))
def test_every_repair_changes_something_and_gives_its_reason(example: Example, step: Repair) -> None:
    assert step.printed != step.repaired
    assert len(step.reason) > 10


@pytest.mark.parametrize("example", [each for each in DAMAGED if each is not KEYPAIR_ANSWER], ids=name_of)
def test_repairs_of_brackets_touch_page_breaks_and_brackets_but_no_name_and_no_value(example: Example) -> None:
    """KEYPAIR_ANSWER has a page break inside a text: its key is looked at below."""
    words = tuple(step for step in example.repairs if step.kind != "brackets")

    assert texts_in(repair(example)) == texts_in(repair(dataclasses.replace(example, repairs=words)))


@pytest.mark.parametrize(("example", "step"), steps_of("lines"))
def test_repairs_of_lines_touch_nothing_but_the_line_breaks(example: Example, step: Repair) -> None:
    assert re.sub(r"\s", "", step.printed) == re.sub(r"\s", "", step.repaired)


def test_repairs_of_words_are_these_and_no_others() -> None:
    """Names and values are the matter of the reference; what is changed of them is told here once more."""
    changed = {(example.name, step.repaired) for example in DAMAGED for step in example.repairs if step.kind == "words"}

    assert changed == {
        ("attach_request", '"volumeId"'),
        ("error_answer", '"code": "BMS.0040"'),
        ("flavors_answer", '"baremetal:__support_evs"'),
        ("native_create_answer", '"Not-a-passw0rd"'),
        ("native_extra_specs_answer", '"baremetal:__support_evs"'),
        ("native_volume_answer", '"volumeId"'),
        ("native_volumes_answer", '"volumeId"'),
        ("server_show", '"IyEvYmluL3NoCmVjaG8gcmVhZHkK"'),
        ("token_request_commented", ""),
        ("versions_answer", ""),
        ("volumes_answer", '"volumeId"'),
        ("windows_password_answer", '"bm90IGEgcGFzc3dvcmQ="'),
    }


def test_the_comments_of_a_request_say_what_the_other_one_leaves_out() -> None:
    named = read(TOKEN_REQUEST_COMMENTED)["auth"]

    assert named["identity"] == read(TOKEN_REQUEST)["auth"]["identity"]
    assert list(named["scope"]) == ["project"]


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


def test_public_keys_are_whole_again() -> None:
    listed = read(KEYPAIRS_ANSWER)["keypairs"][0]["keypair"]["public_key"]
    shown = read(KEYPAIR_ANSWER)["keypair"]["public_key"]
    made = read(KEYPAIR_CREATED_ANSWER)["keypair"]["public_key"]
    sent = read(KEYPAIR_REQUEST)["keypair"]["public_key"]

    # The one that was sent and the one that came back should be the same; the extraction misread some letters.
    assert (sent[:26], sent[-40:]) == (made[:26], made[-40:])
    for key in (listed, shown, made, sent):
        kind, material, *_ = key.split()
        assert kind == "ssh-rsa"
        assert re.fullmatch(r"AAAAB3NzaC1yc2E[A-Za-z0-9+/]+=*", material)


def test_every_call_that_an_example_belongs_to_is_a_method_and_a_path() -> None:
    calls = {example.call for example in EXAMPLES} - {"any"}

    assert all(re.fullmatch(r"(GET|POST|PUT|DELETE) /[\w./{}-]*", call) for call in calls)
    assert len(EXAMPLES) == len({example.name for example in EXAMPLES})


def test_no_secret_stands_in_a_fixture() -> None:
    user_data = read(SERVER_SHOW)["server"]["OS-EXT-SRV-ATTR:user_data"]
    password = read(WINDOWS_PASSWORD_ANSWER)["password"]

    assert base64.b64decode(user_data, validate=True) == b"#!/bin/sh\necho ready\n"
    assert base64.b64decode(password, validate=True) == b"not a password"
    assert read(NATIVE_CREATE_ANSWER)["server"]["adminPass"] == "Not-a-passw0rd"
    for path in PRINTED.iterdir():
        # No base64 as long as a line of user data, under whatever name; public keys are public.
        text = re.sub(r'"ssh-rsa\s[^"]*"', "", path.read_text(encoding="utf-8"))
        assert re.search(r"[A-Za-z0-9+/]{60}|PRIVATE KEY|\$6\$", text) is None, path.name
