"""``bms api``: any call by its method and path, with the credentials, the limits and the errors of all commands.

Guarantee: what changes something is confirmed, after the place was printed; a documented call keeps its limit; and no
secret of an answer is printed unless that is asked for. How: values are masked whose names are those of secrets
(`answers.SECRET_NAMES`), and of headers only values are printed that cannot be one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote

import anyio
import msgspec

from bms_async import BadRequestError, ConflictError, HttpRequest, HttpResponse, NotFoundError
from bms_async.cli.access.cloud import open_client
from bms_async.cli.access.settings import read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.files import read_bounded, read_file
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import is_terminal, json_line, write
from bms_async.cli.terminal.rows import write_rows
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import describe_os_error, pluralize, strip_control_chars
from bms_async.cli.terminal.yaml_text import escape_unprintable, yaml_document
from bms_async.redaction import MASK
from bms_async.transport import DefaultTransport

from .answers import find_rows, is_secret, mask_secrets, table_of

__all__ = ["CallOptions", "call", "guess_service"]

ServiceName: TypeAlias = Literal["bms", "compute", "identity"]

_READS: Final = frozenset({"GET", "HEAD"})
_SHOWN_HEADERS: Final = frozenset({
    "allow", "cache-control", "connection", "content-encoding", "content-language", "content-length", "content-type",
    "date", "etag", "expires", "keep-alive", "last-modified", "openstack-api-version", "retry-after", "server",
    "transfer-encoding", "vary", "via", "x-compute-request-id", "x-openstack-nova-api-version",
    "x-openstack-request-id", "x-request-id",
})  # fmt: skip
_LIMIT_HEADERS: Final = ("ratelimit-", "x-ratelimit-")
_UNNAMED: Final = "request: "
"""How errors begin of a call that is not documented."""


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed.

    Attributes:
        method: The method.
        path: The path, which may have a query.
        data: The body as JSON, ``@`` and a file, or ``-`` for standard input; None for none.
        query: Names and values of the query.
        headers: Lines of headers.
        service: The service; None to guess it from the path.
        cloud: A cloud of ``clouds.yaml``.
        yes: Whether to skip the confirmation.
        head: Whether the status and the headers are printed, too.
        shows_secrets: Whether secrets of the answer are printed.
        output: The form of the answer.
    """

    method: str
    path: str
    data: str | None = None
    query: Sequence[str] = ()
    headers: Sequence[str] = ()
    service: ServiceName | None = None
    cloud: str | None = None
    yes: bool = False
    head: bool = False
    shows_secrets: bool = False
    output: OutputOptions = OutputOptions()


class _Recorder:
    """A transport that keeps the head of the last answer.

    Args:
        transport: What sends.
    """

    def __init__(self, transport: DefaultTransport) -> None:
        self._transport = transport
        self.last: HttpResponse | None = None

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once."""
        self.last = None
        response = await self._transport.send(request)
        self.last = response
        return response


def call(options: CallOptions) -> int:
    """Make a call, print its answer, and return the exit code: 1 where the cloud refuses the call.

    Args:
        options: Which call.

    Raises:
        UsageError: It cannot be sent, or the user did not confirm.
    """
    path, query = _split(options.path, options.query)
    headers = dict(map(_read_header, options.headers))
    body = None if options.data is None else _read_body(options.data)
    service = options.service or guess_service(path)
    settings = read_settings(options.cloud)
    answers: list[object] = []

    async def main(stop: SignalHandler) -> int:
        async with AsyncExitStack() as stack:
            transport = DefaultTransport(ca_bundle=settings.ca_bundle)
            await transport.open()
            stack.push_async_callback(transport.aclose)
            recorder = _Recorder(transport)
            cloud = await stack.enter_async_context(open_client(settings, transport=recorder))
            if options.method not in _READS:
                await show_place(cloud)
                if not options.yes:
                    question = f"{options.method} {strip_control_chars(path)} of {cloud.place.brief}?"
                    await confirm(question, otherwise="confirm with --yes")
            # An interruption does not prove that nothing was changed.
            with anyio.CancelScope() as scope:
                stop.on_first_signal = scope.cancel
                try:
                    answer = await cloud.bms.request(
                        options.method, path, query=query, body=body, headers=headers, service=service
                    )
                except (BadRequestError, ConflictError, NotFoundError) as error:
                    _print_head(options, recorder)
                    print_error(strip_control_chars(str(error).removeprefix(_UNNAMED)))
                    return Code.FAILED
            if scope.cancelled_caught:
                may = "" if options.method in _READS else "; the cloud may have carried out the call"
                print_error(f"interrupted{may}")
                return Code.OK
            _print_head(options, recorder)
            answers.append(answer)
        return Code.OK

    code = run_interruptibly(main)
    # Outside of the event loop, which a large answer or a slow reader would block.
    for answer in answers:
        _print_answer(answer, options)
    return code


def guess_service(path: str) -> ServiceName:
    """Return the service whose paths begin so: ``/v2.1`` is compute, ``/v3`` identity, all else BMS.

    Args:
        path: The path.
    """
    version = path.split("/")[1] if path.startswith("/") else ""
    if version == "v3":
        return "identity"
    return "compute" if version.startswith("v2") else "bms"


def _split(typed: str, pairs: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """Return the path and the query, of which either may have a part."""
    if "://" in typed.partition("?")[0]:
        raise UsageError(
            f"{strip_control_chars(typed.partition('?')[0])}: expected a path such as"
            " '/v1/{project_id}/baremetalservers/detail', without the address: the settings have it"
        )
    if "#" in typed:
        raise UsageError("expected a path without #; write it as %23")
    path, _, rest = typed.partition("?")
    if {"{", "}"} & set(path.replace("{project_id}", "")):
        raise UsageError(f"{strip_control_chars(path)}: expected no braces but {{project_id}}; fill in the other parts")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError(
            f"{strip_control_chars(path)}: expected ASCII without spaces; write other characters as %20, %C3%BC..."
        )
    if {".", ".."} & set(unquote(path).split("/")):
        raise UsageError(f"{path}: expected a path without the parts . and ..")
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(rest, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--query {strip_control_chars(pair)}: expected NAME=VALUE, such as limit=10")
        query.setdefault(name, []).append(value)
    return path if path.startswith("/") else f"/{path}", query


def _read_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name = name.strip()
    if not colon or not name:
        raise UsageError("--header-line: expected 'NAME: VALUE', such as 'OpenStack-API-Version: compute 2.60'")
    if is_secret(name) or name.lower() in {"authorization", "cookie", "proxy-authorization"}:
        raise UsageError(
            f"--header-line {strip_control_chars(name)}: others can read a command's arguments; credentials come from"
            " the settings"
        )
    if name.lower() in {"host", "x-project-id"}:
        # What is printed before the call would not be where it goes.
        raise UsageError(f"--header-line {name}: the address and the project come from the settings")
    return name, value.strip()


def _read_body(data: str) -> object:
    """Return the body; errors have nothing of it, for it may hold a secret."""
    try:
        if data == "-":
            text, where = read_bounded(sys.stdin.buffer).decode("utf-8-sig"), "standard input"
        elif data.startswith("@"):
            text, where = read_file(data[1:]).decode("utf-8-sig"), data[1:]
        else:
            text, where = data, "the text"
    except (OSError, ValueError) as error:
        raise UsageError(f"--data: the body cannot be read: {describe_os_error(error, names_file=True)}") from error
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UsageError(f"--data: {where} is not JSON: {error}; a file is named by @FILE") from None


def _print_head(options: CallOptions, recorder: _Recorder) -> None:
    if not options.head or recorder.last is None:
        return
    lines = [f"HTTP {recorder.last.status}"]
    for name, value in recorder.last.headers:
        is_shown = name.lower() in _SHOWN_HEADERS or name.lower().startswith(_LIMIT_HEADERS)
        lines.append(strip_control_chars(f"{name}: {str.__str__(value) if is_shown else MASK}"))
    write("\n".join(lines) + "\n\n")


def _print_answer(answer: object, options: CallOptions) -> None:
    hidden = 0
    if not options.shows_secrets:
        answer, hidden = mask_secrets(answer)
    output = options.output
    if output.form in {None, "json", "yaml"} and output.columns is None and output.sort is None:
        # The answer as it is; there is none to HEAD, and to some calls that change something.
        if answer is not None:
            write(_document(answer, is_yaml=output.form == "yaml"))
    else:
        rows = find_rows(answer)
        write_rows(table_of(rows), output, rows)
    if hidden:
        is_or_are = "is" if hidden == 1 else "are"
        print_error(f"{pluralize(hidden, 'secret')} of the answer {is_or_are} masked; --show-secrets prints them")


def _document(answer: object, *, is_yaml: bool) -> str:
    text = json_line(answer)
    if is_yaml:
        return yaml_document(msgspec.json.decode(text))
    return escape_unprintable(f"{msgspec.json.format(text.strip(), indent=2)}\n" if is_terminal() else text)
