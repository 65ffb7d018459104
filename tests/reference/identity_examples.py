"""The examples of chapter 3 and of the appendix: the IAM calls, and what a gateway refuses with."""

from tests.reference.mending import Example, Repair, respelled

TOKEN = "POST /v3/auth/tokens"

TOKEN_REQUEST = Example(name="token_request", sections=("3.1",), call=TOKEN)

TOKEN_REQUEST_COMMENTED = Example(
    name="token_request_commented",
    sections=("3.2",),
    call=TOKEN,
    repairs=(
        respelled(" // IAM user name", "", "a comment, which JSON has none of"),
        respelled(" // IAM user password", "", "a comment, which JSON has none of"),
        respelled(" // Name of the account to which the IAM user belongs", "", "a comment, which JSON has none of"),
        respelled(" // Project Name", "", "a comment, which JSON has none of"),
    ),
)

TOKEN_ANSWER = Example(
    name="token_answer",
    sections=("3.3",),
    call=TOKEN,
    repairs=(
        Repair('{ "token": {\n```\n\n```\n', '{ "token": {\n', "a page break inside the token"),
        Repair(
            '"az-01",\n.....\n',
            '"az-01"\n}]}]}}\n',
            "the example is a part and ends in dots; what it began is closed here",
        ),
    ),
)

GATEWAY_ERROR_ANSWER = Example(name="gateway_error_answer", sections=("3.3",), call="any")

PROJECTS_ANSWER = Example(
    name="projects_answer",
    sections=("A.1",),
    call="GET /v3/projects",
    repairs=(
        Repair(
            '    "previous": null,\n  }\n}\n```\n\n```\n',
            '    "previous": null,\n',
            "a page break inside the links: closing brackets that the extraction made up",
        ),
        Repair(
            '"https://www.example.com/v3/projects"\n    }\n',
            '"https://www.example.com/v3/projects"\n    }\n}\n',
            "the brace that ends the answer was lost",
        ),
    ),
)

IDENTITY_EXAMPLES = (
    TOKEN_REQUEST,
    TOKEN_REQUEST_COMMENTED,
    TOKEN_ANSWER,
    GATEWAY_ERROR_ANSWER,
    PROJECTS_ANSWER,
)
