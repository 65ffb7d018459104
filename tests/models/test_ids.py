"""One server has one id, in whatever case it is written."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bms_async.models.ids import canonical_id


@given(st.uuids())
def test_a_uuid_has_one_form(server: UUID) -> None:
    assert canonical_id(str(server).upper()) == canonical_id(str(server)) == str(server)


@given(st.text())
def test_the_form_is_its_own(text: str) -> None:
    assert canonical_id(canonical_id(text)) == canonical_id(text)


def test_what_is_not_a_uuid_keeps_its_case() -> None:
    assert [canonical_id(each) for each in ("Rack-7", "ABCDEF", "", "5F880000-55BC-4A00-8149")] == [
        "Rack-7",
        "ABCDEF",
        "",
        "5F880000-55BC-4A00-8149",
    ]
