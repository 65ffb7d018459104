"""The table of error codes against the reference, which is not in the repository."""

from collections import Counter
from typing import cast

import msgspec
import pytest

from bms_async import errorcodes
from bms_async.errorcodes import ERROR_CODES, ErrorCode, Remedy, explain

# Taken from API reference 6.2 by a script, in the order of its pages; its `Comm on.0018` is mended.
CHAPTER_6_2 = """
    BMS.0001 BMS.0002 BMS.0003 BMS.0004 BMS.0005 BMS.0008 BMS.0006 BMS.0009 BMS.0010 BMS.0011
    BMS.0012 BMS.0013 BMS.0014 BMS.0015 BMS.0017 BMS.0218 BMS.0219 BMS.0018 BMS.0019 BMS.0021
    BMS.0022 BMS.0023 BMS.0025 BMS.0026 BMS.0027 BMS.0028 BMS.0029 BMS.0030 BMS.0031 BMS.0032
    BMS.0033 BMS.0034 BMS.0047 BMS.0049 BMS.0089 BMS.0102 BMS.0103 BMS.0104 BMS.0105 BMS.0106
    BMS.0108 BMS.1001 BMS.1002 BMS.1003 BMS.1004 BMS.1006 BMS.1007 BMS.1008 BMS.1009 BMS.1011
    BMS.3001 BMS.3011 BMS.3025 BMS.3035 BMS.3039 BMS.0246 BMS.0201 BMS.0202 BMS.0203 BMS.0204
    BMS.0205 BMS.0206 BMS.0207 BMS.0208 BMS.0210 BMS.0211 BMS.0114 BMS.0212 BMS.0213 BMS.0214
    BMS.0215 BMS.0216 BMS.0217 BMS.0222 BMS.0223 BMS.0039 BMS.0040 BMS.0035 BMS.0036 BMS.0038
    BMS.0037 BMS.0288 BMS.0290 BMS.0071 BMS.0072 BMS.0073 BMS.0074 BMS.0075 BMS.0077 BMS.0078
    BMS.0079 BMS.0080 BMS.0297 BMS.0054 BMS.0055 BMS.3037 BMS.3004 BMS.3005 BMS.3033 BMS.3029
    BMS.3006 BMS.3021 BMS.3019 BMS.3038 BMS.0315 BMS.0360 BMS.3026 BMS.3027 BMS.3028 Common.0018
    BMS.0111 BMS.0395
"""
REFERENCE = CHAPTER_6_2.split()

GATEWAY = {"APIGW.0301": 401, "APIG.0301": 401, "APIGW.0308": 429, "APIG.0308": 429}
FORBIDDEN = {"BMS.0033", "BMS.0288"}

REMEDIES = {
    Remedy.ALREADY_THERE: "BMS.0038 BMS.0039",
    Remedy.IN_TRANSITION: "BMS.0035 BMS.0036 BMS.0037 BMS.1001 BMS.1006",
    Remedy.OVERLOADED: "BMS.0212 APIGW.0308 APIG.0308",
    Remedy.QUOTA: (
        "BMS.0012 BMS.0017 BMS.0025 BMS.0026 BMS.0027 BMS.0028 BMS.0029 BMS.0030 BMS.0031 BMS.0054 "
        "BMS.0078 BMS.1002 BMS.1004 BMS.3028 BMS.3037"
    ),
    Remedy.PERMISSION: "BMS.0004 BMS.0005 BMS.0032 BMS.0033 BMS.0213 BMS.0288 Common.0018 APIGW.0301 APIG.0301",
    Remedy.NOT_FOUND: "BMS.0040 BMS.0103 BMS.0114 BMS.0246",
}
NOT_PERMANENT = [(code, remedy) for remedy, codes in REMEDIES.items() for code in codes.split()]


def test_the_list_in_this_test_is_the_whole_table_of_the_reference() -> None:
    assert len(REFERENCE) == len(set(REFERENCE)) == 112


def test_every_code_of_the_reference_and_the_gateway_is_there_and_no_other() -> None:
    assert set(ERROR_CODES) == {*REFERENCE, *GATEWAY}


def test_no_code_stands_in_two_rows() -> None:
    rows = (*errorcodes._BMS, *errorcodes._GATEWAY)

    assert [code for code, times in Counter(row[0] for row in rows).items() if times > 1] == []
    assert len(rows) == len(ERROR_CODES)


def test_the_codes_of_the_gateway_are_kept_apart_from_those_of_the_reference() -> None:
    assert {row[0] for row in errorcodes._GATEWAY} == set(GATEWAY)
    assert {row[0] for row in errorcodes._BMS} == set(REFERENCE)


@pytest.mark.parametrize("code", REFERENCE)
def test_a_code_of_the_service_has_the_status_that_the_reference_prints(code: str) -> None:
    assert ERROR_CODES[code].status == (403 if code in FORBIDDEN else 400)


@pytest.mark.parametrize(("code", "status"), GATEWAY.items())
def test_a_code_of_the_gateway_has_the_status_of_its_answers(code: str, status: int) -> None:
    assert ERROR_CODES[code].status == status


@pytest.mark.parametrize(("code", "remedy"), NOT_PERMANENT)
def test_a_code_that_is_not_permanent_has_its_remedy(code: str, remedy: Remedy) -> None:
    assert ERROR_CODES[code].remedy is remedy


def test_every_other_code_is_permanent() -> None:
    named = {code for code, _ in NOT_PERMANENT}
    others = {entry.remedy for code, entry in ERROR_CODES.items() if code not in named}

    assert others == {Remedy.PERMANENT}
    assert {*REMEDIES, Remedy.PERMANENT} == set(Remedy)


@pytest.mark.parametrize("entry", ERROR_CODES.values(), ids=lambda entry: entry.code)
def test_meaning_and_measure_are_sentences_an_operator_can_read(entry: ErrorCode) -> None:
    for text in (entry.meaning, entry.measure):
        assert text == text.strip()
        assert len(text) > 10
        assert text[0].isupper()
        assert text.endswith(".")
        assert "%" not in text, "a placeholder of the reference's own message"


@pytest.mark.parametrize("code", [*REFERENCE, *GATEWAY])
def test_a_row_is_found_by_the_code_it_carries(code: str) -> None:
    entry = explain(code)

    assert entry is ERROR_CODES[code]
    assert entry.code == code


def test_blanks_around_a_code_do_no_harm() -> None:
    assert explain(" BMS.0038\n") is ERROR_CODES["BMS.0038"]


@pytest.mark.parametrize("code", [None, "", " ", "404", "BMS.9999", "BMS", "itemNotFound", "BMS.0038x"])
def test_no_code_and_an_unknown_code_are_explained_by_nothing(code: str | None) -> None:
    assert explain(code) is None


def test_the_table_cannot_be_written_to() -> None:
    with pytest.raises(TypeError):
        cast("dict[str, ErrorCode]", ERROR_CODES)["BMS.0001"] = ERROR_CODES["BMS.0002"]
    with pytest.raises(AttributeError):
        ERROR_CODES["BMS.0001"].status = 200  # type: ignore[misc]


def test_a_remedy_reads_as_a_word_in_text_and_in_json() -> None:
    assert f"{Remedy.IN_TRANSITION}" == "in_transition"
    assert all(str(remedy) == remedy.name.lower() for remedy in Remedy)
    assert msgspec.to_builtins(ERROR_CODES["BMS.0212"])["remedy"] == "overloaded"
