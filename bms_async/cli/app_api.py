"""``bms api``, and its options; the code of the command is imported when it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import click
from click.shell_completion import CompletionItem

from . import options
from .declaring import OUTPUT, argument, option
from .ending import EXIT_CODES, end
from .help import Command

if TYPE_CHECKING:
    from .terminal.forms import OutputOptions

__all__ = ["api"]

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _complete_path(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
    """Offer the paths of the documented calls of the method."""
    from bms_async.api import operations

    method = str(context.params.get("method") or "GET").upper()
    paths = dict.fromkeys(call.path for call in operations() if call.method == method)
    return [CompletionItem(path) for path in paths if path.startswith(begun)]


@click.command("api", cls=Command, epilog=EXIT_CODES)
@argument("method", type=click.Choice(_METHODS, case_sensitive=False), metavar="METHOD",
          description="GET, HEAD, POST, PUT, PATCH or DELETE.")  # fmt: skip
@argument("path", metavar="PATH", shell_complete=_complete_path,
          description="Such as '/v1/{project_id}/baremetalservers/detail?limit=1'.")  # fmt: skip
@option("--data", "-d", metavar="JSON|@FILE|-", help="The body. Where it has a secret, name a file: others can read a"
        " command's arguments.")  # fmt: skip
@option("--query", multiple=True, metavar="NAME=VALUE", help="A part of the query; repeat it for several.")
@option("--header-line", multiple=True, metavar="LINE", help="A header, such as 'OpenStack-API-Version: compute 2.60'.")
@option("--service", type=click.Choice(["bms", "compute", "identity"]), metavar="NAME",
        help="bms, compute or identity; default: by the path, /v1, /v2.1 or /v3.")  # fmt: skip
@option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@option("--include", "-i", "head", is_flag=True, section=OUTPUT, help="Print the status and the headers, too.")
@option("--show-secrets", "shows_secrets", is_flag=True, section=OUTPUT,
        help="Print passwords, keys and tokens of the answer, which are masked otherwise.")  # fmt: skip
@options.output(None)
@options.cloud
def api(
    *,
    method: str,
    path: str,
    data: str | None,
    query: Sequence[str],
    header_line: Sequence[str],
    service: Literal["bms", "compute", "identity"] | None,
    yes: bool,
    head: bool,
    shows_secrets: bool,
    output: OutputOptions,
    cloud: str | None,
) -> None:
    """Make any call, and print its answer.

    {project_id} in the path is that of the cloud. A documented call (`bms calls` lists them) keeps its limit, as all
    commands do; others have none. All methods but GET and HEAD ask before they are sent. Exit code 1 also means that
    the cloud has refused the call.
    """

    def work() -> int:
        from .acting.any_call import CallOptions, call

        return call(
            CallOptions(
                method=method.upper(),
                path=path,
                data=data,
                query=query,
                headers=header_line,
                service=service,
                cloud=cloud,
                yes=yes,
                head=head,
                shows_secrets=shows_secrets,
                output=output,
            )
        )

    end(work)
