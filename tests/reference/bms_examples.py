"""The examples of chapters 4 and 6: the BMS calls and what jobs and refusals look like."""

from tests.reference.mending import Example, Repair, respelled

_SERVERS = "/v1/{project_id}/baremetalservers"
_SERVER = f"{_SERVERS}/{{server_id}}"
ACTION = f"POST {_SERVERS}/action"

_TWO_UNDERSCORES = (
    "the flavor's mark for EVS disks begins with two underscores, as the tag __type_baremetal does; one was eaten. "
    "Both spellings are read"
)
_CAPITAL_I = "a capital I that was read as l: the request of 5.8.3 prints volumeId"

VERSIONS_ANSWER = Example(
    name="versions_answer",
    sections=("4.2.1",),
    call="GET /",
    repairs=(
        respelled(
            '          "rel": "self",\n          "href": "http://192.168.1.100:8080/v1"\n'
            "        }\n      ]\n    }\n  ]\n}\n```\n\n```\n",
            "",
            "a page break: the link that the extraction made up before it stands whole behind it, as in 4.2.2",
        ),
        Repair(
            '"version": ""\n}\n]\n',
            '"version": ""\n}\n]\n}\n',
            "the brace that ends the answer was lost",
        ),
    ),
)

VERSION_ANSWER = Example(name="version_answer", sections=("4.2.2",), call="GET /{api_version}")

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
        respelled(
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

ACTION_ANSWER = Example(
    name="action_answer", sections=("4.4.2", "4.4.3", "4.4.4", "4.4.5", "4.7.1", "6.3.1"), call=ACTION
)

JOB_ANSWER = Example(name="job_answer", sections=("4.11.1",), call="GET /v1/{project_id}/jobs/{job_id}")

RENAME_REQUEST = Example(
    name="rename_request",
    sections=("4.4.1",),
    call=f"PUT {_SERVER}",
    repairs=(
        Repair(
            '"name": "new-server-test"\n',
            '"name": "new-server-test"\n    }\n}\n',
            "the end of the example stands behind it, outside of the block",
        ),
    ),
)

RENAME_ANSWER = Example(
    name="rename_answer",
    sections=("4.4.1",),
    call=f"PUT {_SERVER}",
    repairs=(
        Repair(
            '            ],\n            "metadata": {\n',
            '            ]},\n            "metadata": {\n',
            "the end of addresses was lost, which put metadata and all that follows inside it",
        ),
        Repair(
            "            ]\n        }\n    }\n}\n```\n\n```\n        },\n      ],\n",
            "            ],\n",
            "a page break after the links: closing brackets that the extraction made up, and the true ones again",
        ),
    ),
)

REINSTALL_REQUEST = Example(name="reinstall_request", sections=("4.4.2",), call=f"POST {_SERVER}/reinstallos")

FLAVORS_ANSWER = Example(
    name="flavors_answer",
    sections=("4.5.1",),
    call=f"GET {_SERVERS}/flavors",
    repairs=(
        Repair(
            '"extra_specs:cpu_arch": "x86_64"\n      }\n    }\n  ]\n}\n```\n\n```\n',
            '"extra_specs:cpu_arch": "x86_64",\n',
            "a page break inside os_extra_specs: closing brackets that the extraction made up, the comma lost",
        ),
        respelled('"baremetal:_support_evs"', '"baremetal:__support_evs"', _TWO_UNDERSCORES),
        Repair(
            '"256GB DDR4 RAM(GB)"\n    }\n}\n]\n',
            '"256GB DDR4 RAM(GB)"\n    }\n}\n]\n}\n',
            "the brace that ends the answer was lost",
        ),
    ),
)

INTERFACES_ANSWER = Example(name="interfaces_answer", sections=("4.6.1",), call=f"GET {_SERVER}/os-interface")

ATTACH_REQUEST = Example(
    name="attach_request",
    sections=("4.7.1",),
    call=f"POST {_SERVER}/attachvolume",
    repairs=(respelled('"volumeld"', '"volumeId"', _CAPITAL_I),),
)

VOLUMES_ANSWER = Example(
    name="volumes_answer",
    sections=("4.7.3",),
    call=f"GET {_SERVER}/os-volume_attachments",
    repairs=(respelled('"volumeld"', '"volumeId"', _CAPITAL_I, times=2),),
)

METADATA_REQUEST = Example(name="metadata_request", sections=("4.8.1",), call=f"POST {_SERVER}/metadata")

METADATA_ANSWER = Example(name="metadata_answer", sections=("4.8.1",), call=f"POST {_SERVER}/metadata")

QUOTAS_ANSWER = Example(name="quotas_answer", sections=("4.9.1",), call=f"GET {_SERVERS}/limits")

WINDOWS_PASSWORD_ANSWER = Example(
    name="windows_password_answer",
    sections=("4.10.1",),
    call=f"GET {_SERVER}/os-server-password",
    repairs=(
        respelled(
            '"WITHHELD"',
            '"bm90IGEgcGFzc3dvcmQ="',
            "what stood there is an encrypted password, and secrets stay out of fixtures; this says that it is none",
        ),
    ),
)

ORDER_ANSWER = Example(name="order_answer", sections=("6.3.2",), call="POST /v1/{project_id}/baremetalservers")

ERROR_ANSWER = Example(
    name="error_answer",
    sections=("6.3.1", "6.3.2"),
    call=ACTION,
    repairs=(
        respelled(
            '"code": XXX',
            '"code": "BMS.0040"',
            "XXX stands for any code; table 6-3 says it is a string. The empty message is printed",
        ),
    ),
)

BMS_EXAMPLES = (
    VERSIONS_ANSWER,
    VERSION_ANSWER,
    SERVER_SHOW,
    SERVER_LIST,
    START_REQUEST,
    REBOOT_REQUEST,
    STOP_REQUEST,
    ACTION_ANSWER,
    JOB_ANSWER,
    RENAME_REQUEST,
    RENAME_ANSWER,
    REINSTALL_REQUEST,
    FLAVORS_ANSWER,
    INTERFACES_ANSWER,
    ATTACH_REQUEST,
    VOLUMES_ANSWER,
    METADATA_REQUEST,
    METADATA_ANSWER,
    QUOTAS_ANSWER,
    WINDOWS_PASSWORD_ANSWER,
    ORDER_ANSWER,
    ERROR_ANSWER,
)
