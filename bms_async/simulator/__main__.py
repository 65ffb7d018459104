"""`python -m bms_async.simulator`: serve a cloud on the loopback interface until a signal ends it."""

import argparse
import contextlib
import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec
import uvicorn

from bms_async.simulator import Cloud, CloudSettings, create_app

__all__ = ["Announcement", "main", "print_announcement"]

_HOST: Final = "127.0.0.1"
_PROGRAM: Final = "python -m bms_async.simulator"
_PRINTS: Final = "one line of JSON with its address, project, token and how to log in"
_PASSWORD: Final = CloudSettings().password
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to reach the cloud, published when it accepts calls."""

    address: str
    project_id: str
    token: str
    auth_url: str
    username: str
    password: str | None
    user_domain_name: str
    project_name: str
    access_key: str
    secret_key: str
    servers: int
    seed: int
    throttle: str
    pid: int


def print_announcement(announcement: Announcement) -> None:
    """Print it as one line of JSON."""
    sys.stdout.write(msgspec.json.encode(announcement).decode() + "\n")
    sys.stdout.flush()


def main(
    arguments: Sequence[str] | None = None,
    *,
    program: str = _PROGRAM,
    prints: str = _PRINTS,
    on_ready: Callable[[Announcement], None] = print_announcement,
) -> int:
    """Serve a cloud; returns 0 when a signal ends it.

    Args:
        arguments: Its options; those of the process by default.
        program: Its name in the help and in messages about wrong options.
        prints: What the help says that it prints.
        on_ready: Called once the cloud accepts calls.
    """
    _exit_silently_on_signals()
    parser = _parser(program, prints)
    settings, port, until_stdin_ends = _read_options(parser, arguments)
    try:
        listener = _listen(port)
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {_HOST}:{port}: {error}")
    with listener:
        # A client may still watch a job of an earlier process: no new job may get its id.
        cloud = Cloud(settings, life=secrets.randbits(128))
        if until_stdin_ends:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        # The servers live as long as the process. Without the freeze, each garbage collection would walk a million of
        # them and hold the event loop for a tenth of a second.
        gc.collect()
        gc.freeze()
        _Simulator(cloud, listener, on_ready).run(sockets=[listener])
    return 0


def _read_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[CloudSettings, int, bool]:
    """Return the settings, the port, and whether to end with stdin."""
    options = vars(parser.parse_args(arguments))
    settings = CloudSettings()
    if options["settings"] is not None:
        try:
            settings = _read_settings(options["settings"])
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            parser.error(f"argument --settings: {options['settings']}: {error}")
        given = {name: getattr(settings, name) for name in settings.__struct_fields__}
        parser.set_defaults(**given | {"limits": list(settings.limits.items())})
        options = vars(parser.parse_args(arguments))
    del options["settings"]
    port, until_stdin_ends = options.pop("port"), options.pop("until_stdin_ends")
    options = {name: value for name, value in options.items() if name in settings.__struct_fields__}
    options["limits"] = dict(options["limits"])
    for name in ("job_seconds", "boot_seconds", "latency", "drift_error_seconds", "drift_task_seconds"):
        options[name] = tuple(options[name])
    if settings.epoch == CloudSettings().epoch:
        # The dates of its responses are those of the machine's clock, and the times of its servers must go with them.
        options["epoch"] = datetime.now(UTC).replace(microsecond=0)
    try:
        settings = msgspec.structs.replace(settings, **options)
    except ValueError as error:
        parser.error(str(error))
    return settings, port, until_stdin_ends


class _Simulator(uvicorn.Server):
    """A uvicorn server that reports when it is ready, and for which a signal is a normal end."""

    def __init__(self, cloud: Cloud, listener: socket.socket, on_ready: Callable[[Announcement], None]) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(cloud),
                lifespan="off",
                log_level="critical",
                access_log=False,
                server_header=False,
                # Responses carry a Date by the cloud's own clock, which may be wrong on purpose.
                date_header=False,
                backlog=4096,
                timeout_graceful_shutdown=1,
            )
        )
        self._cloud = cloud
        self._listener = listener
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then publish the announcement that clients wait for."""
        await super().startup(sockets=sockets)
        if self.started:
            settings = self._cloud.settings
            host, port = self._listener.getsockname()[:2]
            address = f"http://{host}:{port}"
            self._on_ready(
                Announcement(
                    address=address,
                    project_id=settings.project_id,
                    token=settings.token,
                    auth_url=f"{address}/v3",
                    username=settings.username,
                    # A password of the user's own may be valid elsewhere, and printed lines end up in log files.
                    password=settings.password if settings.password == _PASSWORD else None,
                    user_domain_name=settings.user_domain_name,
                    project_name=settings.project_name,
                    access_key=settings.access_key,
                    secret_key=settings.secret_key,
                    servers=settings.servers,
                    seed=settings.seed,
                    throttle=settings.throttle,
                    pid=os.getpid(),
                )
            )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on a signal as uvicorn does, but do not raise it again: a requested stop is not a failure."""
        before = {number: signal.signal(number, self.handle_exit) for number in _heeded_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets that name their protocol. Without it, the body of a response waits 40 ms
    # for the acknowledgement of its headers.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _read_settings(path: str) -> CloudSettings:
    text = sys.stdin.buffer.readline() if path == "-" else Path(path).read_bytes()
    names = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).keys()
    unknown = sorted(names - set(CloudSettings.__struct_fields__))
    if unknown:
        raise ValueError(f"unknown setting: {', '.join(unknown)}")
    return msgspec.json.decode(text, type=CloudSettings)


def _end_with_stdin() -> None:
    # Not through sys.stdin: a blocked reader holds its lock, which aborts the interpreter at its end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_silently_on_signals() -> None:
    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in _heeded_signals():
        signal.signal(number, leave)


def _heeded_signals() -> list[signal.Signals]:
    # What a script starts with `&` ignores Ctrl-C, which is for the command that the script waits for.
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _limit(text: str) -> tuple[str, int]:
    operation, _, calls = text.partition("=")
    if not calls.isdecimal():
        raise argparse.ArgumentTypeError(f"expected OPERATION=CALLS, such as servers.stop=20: {text}")
    return operation, int(calls)


def _parser(program: str, prints: str) -> argparse.ArgumentParser:
    default = CloudSettings()
    parser = argparse.ArgumentParser(
        prog=program,
        description="Serve a simulated bare-metal cloud on 127.0.0.1. When it accepts calls it prints"
        f" {prints}; SIGINT or SIGTERM ends it."
        " A browser that opens the address shows a status page.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--settings", metavar="FILE",
        help="JSON with settings by name, also those without a flag; flags win, - reads one line of stdin")  # fmt: skip
    add(
        "--until-stdin-ends",
        action="store_true",
        help="end when stdin is closed, as when the parent was killed",
    )
    add("--servers", type=int, default=default.servers, metavar="N", help="number of servers")
    add("--rack-size", type=int, default=default.rack_size, metavar="N", help="servers a rack, which is tagged rack-N")
    add("--seed", type=int, default=default.seed, metavar="N", help="seed of all random values")
    add("--port", type=int, default=0, metavar="N", help="port to listen on; 0 takes a free one")
    add("--throttle", choices=("fixed", "sliding", "bucket", "none"), default=default.throttle,
        help="how the limits of a minute are counted")  # fmt: skip
    add("--limit", dest="limits", action="append", type=_limit, default=[], metavar="OPERATION=N",
        help="calls a minute, over the documented limit; may be given more than once")  # fmt: skip
    add("--shared-power-budget", action="store_true",
        help="count start, stop and reboot as one operation, by their URI")  # fmt: skip
    add("--retry-after", action="store_true", help="send Retry-After with a 429")
    add("--fail-share", type=float, default=default.fail_share, metavar="SHARE",
        help="share of the servers on which every power operation fails")  # fmt: skip
    add("--never-back-share", type=float, default=default.never_back_share, metavar="SHARE",
        help="share of the servers that are never reachable again after they were started")  # fmt: skip
    add("--stopped-share", type=float, default=default.stopped_share, metavar="SHARE",
        help="share of the servers that are off at the beginning")  # fmt: skip
    add("--windows-share", type=float, default=default.windows_share, metavar="SHARE",
        help="share of the servers that run Windows")  # fmt: skip
    add("--virtual-machines", type=int, default=default.virtual_machines, metavar="N",
        help="virtual machines that native lists show among the servers")  # fmt: skip
    add("--quota-instances", type=int, default=default.quota_instances, metavar="N",
        help="quota of bare-metal servers; -1 for any number")  # fmt: skip
    add("--not-administrator", dest="administrator", action="store_false", default=default.administrator,
        help="refuse the list of all projects, as a plain Keystone does")  # fmt: skip
    add("--job-seconds", type=float, nargs=2, default=default.job_seconds, metavar=("MIN", "MAX"),
        help="seconds that a sub-job takes from the acceptance of its batch")  # fmt: skip
    add("--boot-seconds", type=float, nargs=2, default=default.boot_seconds, metavar=("MIN", "MAX"),
        help="seconds from the end of such a sub-job until its server is reachable")  # fmt: skip
    add("--latency", type=float, nargs=2, default=default.latency, metavar=("MIN", "MAX"),
        help="seconds of a round trip")  # fmt: skip
    add("--refuse-batches", action="store_true",
        help="refuse a whole batch for one server in the wrong state")  # fmt: skip
    add("--early-failures", action="store_true",
        help="report a job as FAIL as soon as one of its sub-jobs has failed")  # fmt: skip
    add("--stuck-share", type=float, default=default.stuck_share, metavar="SHARE",
        help="share of the sub-jobs that stay RUNNING for ever")  # fmt: skip
    add("--drift-share", type=float, default=default.drift_share, metavar="SHARE",
        help="share of the servers that turn on or off each minute without being asked")  # fmt: skip
    add("--drift-error-share", type=float, default=default.drift_error_share, metavar="SHARE",
        help="share of those changes that end in ERROR, from which the server recovers later")  # fmt: skip
    add("--drift-error-seconds", type=float, nargs=2, default=default.drift_error_seconds, metavar=("MIN", "MAX"),
        help="seconds until it recovers")  # fmt: skip
    add("--drift-task-seconds", type=float, nargs=2, default=default.drift_task_seconds, metavar=("MIN", "MAX"),
        help="seconds for which such a change shows as a task before, like the work of another operator")  # fmt: skip
    add("--state-lag-seconds", type=float, default=default.state_lag_seconds, metavar="SECONDS",
        help="seconds after the end of a sub-job until its server shows it")  # fmt: skip
    add("--token", default=default.token, help="the token to accept")
    add("--project-id", default=default.project_id, metavar="ID", help="id of the project of the servers")
    add("--project-name", default=default.project_name, metavar="NAME", help="name of that project")
    add("--username", default=default.username, metavar="NAME", help="user that gets tokens, at AUTH_URL/auth/tokens")
    add("--password", default=default.password, help="password of the user; only the default one is printed")
    add("--user-domain-name", default=default.user_domain_name, metavar="NAME", help="the account of the user")
    add("--token-lifetime", type=float, default=default.token_lifetime, metavar="SECONDS",
        help="lifetime of the tokens that are issued")  # fmt: skip
    add("--access-key", default=default.access_key, metavar="AK", help="access key of signed calls")
    add("--secret-key", default=default.secret_key, metavar="SK", help="secret key of signed calls")
    add("--security-token", default=default.security_token, metavar="TOKEN",
        help="security token of signed calls, as with temporary keys")  # fmt: skip
    add("--clock-skew", type=float, default=default.clock_skew, metavar="SECONDS",
        help="how far the cloud's clock is ahead, to test clients with a wrong clock")  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
