"""``bms login``: whose the credentials are, and what they may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final, NamedTuple

from bms_async import (
    AkSkAuth,
    ApiError,
    AuthenticationError,
    BmsClient,
    BmsError,
    ConfigurationError,
    PasswordAuth,
    PermissionDeniedError,
    TransportError,
)
from bms_async.api import operations
from bms_async.auth import Auth
from bms_async.cli.terminal.exit import Code, explain_error, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import folded, write
from bms_async.cli.terminal.rows import RowWriter, Table, write_rows
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import duration, strip_control_chars
from bms_async.config import Settings
from bms_async.models import read_datetime

from .cloud import open_client
from .refusals import describe_credentials, note_refusal
from .settings import read_settings
from .whoami import read_token

__all__ = ["TABLE", "log_in"]

_POWER = ("servers.start", "servers.stop", "servers.reboot")


class Check(NamedTuple):
    """The result of a read."""

    call: str
    error: BmsError | None


_FACTS: Final = ("endpoint", "credentials", "user", "project_id", "project_name", "expires_at", "expires_in")

TABLE: Final = Table[Mapping[str, object]](
    columns={name: itemgetter(name) for name in (*_FACTS, "reads")},
    usual=_FACTS,
    ids=lambda facts: str(facts["project_id"] or ""),
    fields=lambda facts: facts,
)
"""What is known of the credentials."""


def log_in(*, cloud: str | None, output: OutputOptions) -> int:
    """Check credentials: whose they are, how long they are valid, and what they may read; nothing is changed.

    Args:
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the record; the usual one is text for people.
    """
    RowWriter(TABLE, output)
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            bms = opened.bms
            checks: list[Check] = []
            for name, read in _reads(bms).items():
                checks.append(await _try(name, read))
                if isinstance(checks[-1].error, AuthenticationError):
                    note_refusal(checks[-1].error, settings.auth)
                if isinstance(checks[-1].error, AuthenticationError | TransportError | ConfigurationError):
                    # These errors are the same for all calls, and repeated attempts may lock an access key.
                    break
            # A user of another project may list all projects, and can do nothing here.
            allowed = any(check.error is None for check in checks if not check.call.startswith("identity."))
            token = await read_token(bms, settings) if allowed else {}
            project = await _name_of(bms, bms.project_id or "") if allowed else None
        facts = _describe(settings, bms.project_id, project, token)
        if output.is_default:
            _print_report(facts, checks, settings.auth, allowed=allowed)
        else:
            reads = {check.call: True if check.error is None else str(check.error) for check in checks}
            record: Mapping[str, object] = {**facts, "reads": reads}
            write_rows(TABLE, output, [record], is_single=True)
        if allowed:
            return Code.OK
        failures = [explain_error(check.error) for check in checks if check.error is not None]
        for advice in dict.fromkeys(failure.advice for failure in failures if failure.advice):
            print_error(advice)
        return max(failure.code for failure in failures)

    return run_interruptibly(main)


def _reads(bms: BmsClient) -> Mapping[str, Callable[[], Awaitable[object]]]:
    return {
        "servers.list": lambda: _first(bms),
        "flavors.list": bms.flavors.list,
        "quotas.get": bms.quotas.get,
        "identity.projects": bms.identity.projects,
    }


async def _first(bms: BmsClient) -> None:
    async for _ in bms.servers.list(page_size=1):
        break


async def _try(name: str, read: Callable[[], Awaitable[object]]) -> Check:
    try:
        await read()
    except BmsError as error:
        return Check(name, error)
    return Check(name, None)


async def _name_of(bms: BmsClient, project_id: str) -> str | None:
    try:
        projects = await bms.identity.projects()
    except BmsError:
        return None
    return next((project.name for project in projects if project.id == project_id), None)


def _describe(
    settings: Settings, project_id: str | None, project: str | None, token: Mapping[str, object]
) -> dict[str, object]:
    user = token.get("user")
    expires = read_datetime(token.get("expires_at"))
    return {
        "endpoint": settings.endpoint,
        "credentials": describe_credentials(settings.auth).removeprefix("the "),
        "user": user.get("name") if isinstance(user, dict) else None,
        "project_id": project_id,
        "project_name": project,
        "expires_at": None if expires is None else expires.isoformat(),
        "expires_in": None if expires is None else round((expires - datetime.now(UTC)).total_seconds()),
    }


def _print_report(facts: Mapping[str, object], checks: list[Check], auth: Auth, *, allowed: bool) -> None:
    known = [facts["project_id"], f"({facts['project_name']})" if facts["project_id"] else facts["project_name"]]
    project = strip_control_chars(" ".join(str(each) for each in known if each and each != "(None)")) or "-"
    lines = [f"endpoint     {facts['endpoint']}", f"credentials  {strip_control_chars(str(facts['credentials']))}"]
    if facts["user"]:
        lines.append(f"user         {strip_control_chars(str(facts['user']))}")
    lines.append(f"project      {project}")
    seconds = facts["expires_in"]
    until = (
        f"until {facts['expires_at']}, {duration(seconds)} from now"
        if isinstance(seconds, int)
        else _describe_lifetime(auth)
    )
    lines += [f"valid        {until}", ""]
    for check in checks:
        if check.error is None:
            lines.append(f"  allowed  {check.call}")
            continue
        word = "refused" if isinstance(check.error, ApiError) else "failed "
        # What was refused is noted on these.
        is_refused = isinstance(check.error, AuthenticationError)
        shown = explain_error(check.error).text if is_refused else str(check.error)
        text = strip_control_chars(shown).removeprefix(f"{check.call}: ")
        lines.append(f"  {word}  {check.call}: {text}")
        if isinstance(check.error, PermissionDeniedError):
            lines.append(f"           {explain_error(check.error).advice}")
    if not allowed:
        write(folded("\n".join(lines)) + "\n")
        return
    permissions = {call.name: call.permission for call in operations()}
    lines += ["", "Not tried, since they change servers; each needs its IAM action:"]
    lines += [f"           {name}: {permissions[name]}" for name in _POWER]
    write(folded("\n".join(lines)) + "\n")


def _describe_lifetime(auth: Auth) -> str:
    if isinstance(auth, AkSkAuth):
        return "until the access key is withdrawn"
    if isinstance(auth, PasswordAuth):
        return "as long as the password; tokens are renewed"
    return "for 24 hours from when the token was issued; the cloud does not say when that was"
