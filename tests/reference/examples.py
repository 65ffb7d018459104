"""The JSON examples of the API reference, as printed, and what it takes to make them JSON.

`printed/` holds the text of the reference's example blocks: every line as it stands there, only
blanks at the ends of lines left out. Where an example runs over a page, the fences that close one
block and open the next are part of it. Nothing is mended in these files. The one thing withheld
is the user data of 4.3.1, which sets a root password.

All mending is the `Repair`s below, and each says why it is right.
"""

from dataclasses import dataclass
from pathlib import Path

PRINTED = Path(__file__).parent / "printed"
ACTION = "POST /v1/{project_id}/baremetalservers/action"


@dataclass(frozen=True, slots=True)
class Repair:
    """One replacement: what is printed, what it should have been, and how we know."""

    printed: str
    repaired: str
    reason: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    """One example: where it stands, the call it belongs to, its text and what mends it."""

    name: str
    sections: tuple[str, ...]
    call: str
    repairs: tuple[Repair, ...] = ()

    @property
    def printed(self) -> str:
        return (PRINTED / f"{self.name}.txt").read_text(encoding="utf-8")


def repair(example: Example) -> str:
    """Mend an example; the result is JSON.

    Every fragment has to occur exactly as often as its repair claims, so that a repair can neither
    miss its place nor touch another one.
    """
    text = example.printed
    for step in example.repairs:
        found = text.count(step.printed)
        assert found == step.times, f"{example.name}: {found} x {step.printed!r} ({step.reason})"
        text = text.replace(step.printed, step.repaired)
    return text


SERVER_SHOW = Example(
    name="server_show",
    sections=("4.3.1",),
    call="GET /v1/{project_id}/baremetalservers/{server_id}",
    repairs=(
        Repair(
            '    "addresses": [\n',
            '    "addresses": {\n',
            "addresses is an object by VPC id, and the list around it is noise",
        ),
        Repair(
            '        }\n      ],\n      "flavor": {\n',
            '        }\n      ]},\n      "flavor": {\n',
            "the end of addresses was lost, which put flavor and all that follows inside it",
        ),
        Repair(
            "        ...\n      ]\n    }\n  }\n}\n```\n\n```\n",
            "",
            "a page break: dots and closing brackets that the extraction made up",
        ),
        Repair(
            '"WITHHELD\nWITHHELD\nWITHHELD"',
            '"IyEvYmluL3NoCmVjaG8gcmVhZHkK"',
            "a string broken over three lines; what stood there holds the hash of a root password, "
            "and secrets stay out of fixtures. This one is a shell script that says ready",
        ),
        Repair(
            '"2c7b6d77-9013-4d74-a221-2f612fc56372"\n        }\n    ]\n}\n',
            '"2c7b6d77-9013-4d74-a221-2f612fc56372"\n        }\n    ]\n}\n}\n',
            "the brace that ends the answer was lost",
        ),
    ),
)

SERVER_LIST = Example(
    name="server_list",
    sections=("4.3.2",),
    call="GET /v1/{project_id}/baremetalservers/detail",
    repairs=(
        Repair(
            '          }\n        ],\n        "flavor": {\n',
            '          }\n        ]},\n        "flavor": {\n',
            "first server: the end of addresses was lost, which put flavor inside it",
        ),
        Repair(
            '        "imageRef": "http://10.0.0.1/v1/images/1"\n      }\n    }\n  ]\n}\n```\n\n```\n',
            '        "imageRef": "http://10.0.0.1/v1/images/1",\n',
            "a page break inside the first server: closing brackets made up, the comma lost",
        ),
        Repair(
            '  }\n],\n{\n  "id": "a1541fcf-8ac3-43e9-a70d-b8d4b395b256",\n',
            '  }\n]},\n{\n  "id": "a1541fcf-8ac3-43e9-a70d-b8d4b395b256",\n',
            "the brace that ends the first server was lost",
        ),
        Repair(
            '  "addresses": [\n',
            '  "addresses": {\n',
            "second server: addresses is an object and the list around it is noise",
        ),
        Repair(
            '      }\n    ]\n  ],\n  "flavor": {\n',
            '      }\n    ]\n  },\n  "flavor": {\n',
            "the other end of that list",
        ),
        Repair(
            '  "tenant_id": "bbf1946d374b44a0a2a95533562ba954",\n```\n\n```\n',
            '  "tenant_id": "bbf1946d374b44a0a2a95533562ba954",\n',
            "a page break inside the second server",
        ),
        Repair(
            '        "value": "0"\n    }\n]\n}\n',
            '        "value": "0"\n    }\n]\n}\n]\n}\n',
            "the brackets that end the list and the answer were lost",
        ),
    ),
)

START_REQUEST = Example(
    name="start_request",
    sections=("4.4.3",),
    call=ACTION,
    repairs=(
        Repair(
            "            },\n        ]\n    }\n}\n```\n\n```\n{\n",
            "            },\n{\n",
            "a page break between the two servers: closing brackets that the extraction made up",
        ),
        Repair(
            '"726fb98f-46ca-475e-917e-2563e5a8cd20"\n}\n}\n}\n',
            '"726fb98f-46ca-475e-917e-2563e5a8cd20"\n}\n]\n}\n}\n',
            "the bracket that ends the list of servers was lost; 4.4.5 prints it",
        ),
    ),
)

REBOOT_REQUEST = Example(name="reboot_request", sections=("4.4.4",), call=ACTION)

STOP_REQUEST = Example(name="stop_request", sections=("4.4.5",), call=ACTION)

ACTION_ANSWER = Example(name="action_answer", sections=("4.4.3", "4.4.4", "4.4.5", "6.3.1"), call=ACTION)

JOB_ANSWER = Example(name="job_answer", sections=("4.11.1",), call="GET /v1/{project_id}/jobs/{job_id}")

ORDER_ANSWER = Example(name="order_answer", sections=("6.3.2",), call="POST /v1/{project_id}/baremetalservers")

ERROR_ANSWER = Example(
    name="error_answer",
    sections=("6.3.1", "6.3.2"),
    call=ACTION,
    repairs=(
        Repair(
            '"code": XXX',
            '"code": "BMS.0040"',
            "XXX stands for any code; table 6-3 says it is a string. The empty message is printed",
        ),
    ),
)

GATEWAY_ERROR_ANSWER = Example(name="gateway_error_answer", sections=("3.3",), call="any")

EXAMPLES = (
    SERVER_SHOW,
    SERVER_LIST,
    START_REQUEST,
    REBOOT_REQUEST,
    STOP_REQUEST,
    ACTION_ANSWER,
    JOB_ANSWER,
    ORDER_ANSWER,
    ERROR_ANSWER,
    GATEWAY_ERROR_ANSWER,
)
