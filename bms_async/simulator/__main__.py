"""`python -m bms_async.simulator`: serve a cloud on the loopback interface until told to stop."""

import argparse
import contextlib
import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec
import uvicorn

from bms_async.simulator import Cloud, CloudSettings, create_app

__all__ = ["main"]

_HOST: Final = "127.0.0.1"
_PROGRAM: Final = "python -m bms_async.simulator"
_PRINTS: Final = "one line of JSON with its address, project, token and how to log in"
_PASSWORD: Final = CloudSettings().password
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None, *, program: str = _PROGRAM, prints: str = _PRINTS) -> int:
    """Serve a cloud; returns 0 when a signal ends it.

    Args:
        arguments: Its options; those of the process by default.
        program: What it is called in its help and in what it says of wrong options.
        prints: What its help says that it prints.
    """
    _leave_quietly_on_signals()
    parser = _parser(program, prints)
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
    port, follow = options.pop("port"), options.pop("until_stdin_ends")
    options = {name: value for name, value in options.items() if name in settings.__struct_fields__}
    options["limits"] = dict(options["limits"])
    for name in ("job_seconds", "latency"):
        options[name] = tuple(options[name])
    try:
        settings = msgspec.structs.replace(settings, **options)
    except ValueError as error:
        parser.error(str(error))
    try:
        listener = _listen(port)
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {_HOST}:{port}: {error}")
    with listener:
        # A program may still watch a job of the life before: no new one may get its id.
        cloud = Cloud(settings, life=secrets.randbits(128))
        if follow:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        # The servers live as long as the process: a collection that walks a million of them would
        # hold the event loop for a tenth of a second each time.
        gc.collect()
        gc.freeze()
        _Simulator(cloud, listener).run(sockets=[listener])
    return 0


class _Simulator(uvicorn.Server):
    """A uvicorn server that says when it is ready and ends without fuss."""

    def __init__(self, cloud: Cloud, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(cloud),
                lifespan="off",
                log_level="critical",
                access_log=False,
                server_header=False,
                # Answers have a Date of their own: by the cloud's clock, which may be wrong on purpose.
                date_header=False,
                backlog=4096,
                timeout_graceful_shutdown=1,
            )
        )
        self._cloud = cloud
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then print the line that others wait for."""
        await super().startup(sockets=sockets)
        if self.started:
            settings = self._cloud.settings
            host, port = self._listener.getsockname()[:2]
            address = f"http://{host}:{port}"
            line = {
                "address": address,
                "project_id": settings.project_id,
                "token": settings.token,
                "auth_url": f"{address}/v3",
                "username": settings.username,
                # A password that somebody chose may be good elsewhere too, and what is printed here is often kept.
                "password": settings.password if settings.password == _PASSWORD else None,
                "user_domain_name": settings.user_domain_name,
                "project_name": settings.project_name,
                "access_key": settings.access_key,
                "secret_key": settings.secret_key,
                "servers": settings.servers,
                "seed": settings.seed,
                "throttle": settings.throttle,
                "pid": os.getpid(),
            }
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on a signal as uvicorn does, but do not raise it again: being told to stop is no failure."""
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it, the body of an
    # answer waits 40 ms for the acknowledgement of its head.
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
    told = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    unknown = sorted(told.keys() - set(CloudSettings.__struct_fields__))
    if unknown:
        raise ValueError(f"no setting is called {', '.join(unknown)}")
    return msgspec.json.decode(text, type=CloudSettings)


def _end_with_stdin() -> None:
    # Not through sys.stdin: its lock, held by a thread that waits, would abort the interpreter's end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _leave_quietly_on_signals() -> None:
    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for each in _SIGNALS:
        signal.signal(each, leave)


def _limit(text: str) -> tuple[str, int]:
    operation, _, number = text.partition("=")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected OPERATION=CALLS, such as servers.stop=20: {text}")
    return operation, int(number)


def _parser(program: str, prints: str) -> argparse.ArgumentParser:
    default = CloudSettings()
    parser = argparse.ArgumentParser(
        prog=program,
        description="Serve a simulated bare-metal cloud on 127.0.0.1. When it accepts calls it prints"
        f" {prints}; SIGINT or SIGTERM ends it."
        " A browser that opens the address sees what it does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--settings", metavar="FILE",
        help="JSON with settings by name, also such as have no flag; flags win, - reads one line of stdin")  # fmt: skip
    add("--until-stdin-ends", action="store_true", help="end when stdin does, as with a parent that was killed")
    add("--servers", type=int, default=default.servers, metavar="N", help="how many servers")
    add("--seed", type=int, default=default.seed, metavar="N", help="where drawn values come from")
    add("--port", type=int, default=0, metavar="N", help="0 takes a free one")
    add("--throttle", choices=("fixed", "sliding", "bucket", "none"), default=default.throttle,
        help="how calls are counted against a minute's limit")  # fmt: skip
    add("--limit", dest="limits", action="append", type=_limit, default=[], metavar="OPERATION=N",
        help="calls a minute, over the documented limit; may be given more than once")  # fmt: skip
    add("--shared-power-budget", action="store_true",
        help="count start, stop and reboot as one operation, by their URI")  # fmt: skip
    add("--retry-after", action="store_true", help="send Retry-After with a 429")
    add("--fail-share", type=float, default=default.fail_share, metavar="POLL_BUDGET_SHARE",
        help="share of the servers on which every power operation fails")  # fmt: skip
    add("--stopped-share", type=float, default=default.stopped_share, metavar="POLL_BUDGET_SHARE",
        help="share of the servers that are off at the beginning")  # fmt: skip
    add("--windows-share", type=float, default=default.windows_share, metavar="POLL_BUDGET_SHARE",
        help="share of the servers that run Windows")  # fmt: skip
    add("--virtual-machines", type=int, default=default.virtual_machines, metavar="N",
        help="how many virtual machines native lists show in between")  # fmt: skip
    add("--quota-instances", type=int, default=default.quota_instances, metavar="N",
        help="how many bare-metal servers there may be; -1 for any number")  # fmt: skip
    add("--not-administrator", dest="administrator", action="store_false", default=default.administrator,
        help="refuse the list of all projects, as a plain Keystone does")  # fmt: skip
    add("--job-seconds", type=float, nargs=2, default=default.job_seconds, metavar=("MIN", "MAX"),
        help="how long a sub-job takes from the acceptance of its batch")  # fmt: skip
    add("--latency", type=float, nargs=2, default=default.latency, metavar=("MIN", "MAX"),
        help="seconds on the wire, there and back together")  # fmt: skip
    add("--refuse-batches", action="store_true",
        help="refuse a whole batch for one server in the wrong state")  # fmt: skip
    add("--early-failures", action="store_true",
        help="have a job say FAIL as soon as one of its sub-jobs has failed")  # fmt: skip
    add("--stuck-share", type=float, default=default.stuck_share, metavar="POLL_BUDGET_SHARE",
        help="share of the sub-jobs that say RUNNING for ever")  # fmt: skip
    add("--token", default=default.token, help="the token to accept")
    add("--project-id", default=default.project_id, metavar="ID", help="the project of the servers")
    add("--project-name", default=default.project_name, metavar="NAME", help="what it is called")
    add("--username", default=default.username, metavar="NAME", help="who may ask for tokens, at AUTH_URL/auth/tokens")
    add("--password", default=default.password, help="with which password; one of your own is not printed")
    add("--user-domain-name", default=default.user_domain_name, metavar="NAME", help="the account of the user")
    add("--token-lifetime", type=float, default=default.token_lifetime, metavar="SECONDS",
        help="how long a token is good that the user was given")  # fmt: skip
    add("--access-key", default=default.access_key, metavar="AK", help="the key of signed calls")
    add("--secret-key", default=default.secret_key, metavar="SK", help="what they are signed with")
    add("--security-token", default=default.security_token, metavar="TOKEN",
        help="what they carry besides, as with temporary keys")  # fmt: skip
    add("--clock-skew", type=float, default=default.clock_skew, metavar="SECONDS",
        help="how far the cloud's clock is ahead, to try clients whose own is wrong")  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
