"""What the command prints of the cloud's words shows no secret that stands in them."""

from __future__ import annotations

import json

from bms_async import SubJobFailedError
from bms_async.cli.terminal.output import json_line
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.cli.terminal.words import message_of_error
from bms_async.redaction import MaskedStr

REASON = MaskedStr("no use for token-1", "no use for ***")


def test_a_reason_is_masked_on_the_terminal_and_in_json() -> None:
    assert strip_control_chars(REASON) == "no use for ***"
    assert type(strip_control_chars(REASON)) is str
    assert json.loads(json_line({"reason": REASON, "all": [REASON]})) == {
        "reason": "no use for ***",
        "all": ["no use for ***"],
    }


def test_an_error_tells_it_masked_and_keeps_it_as_it_was() -> None:
    error = SubJobFailedError(server_id="s", job_id="j", code="BMS.9999", reason=REASON)
    words = message_of_error(error)
    assert "no use for ***" in str(error)
    assert words is not None
    assert words.text == "no use for ***"
    assert error.reason == "no use for token-1"
