"""The simulator as a process of its own."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from bms_async.simulator.__main__ import _listen, main
from tests.support.machine import patience
from tests.support.plain_http import plain_client


@contextmanager
def running(*flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "bms_async.simulator", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_serves_and_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    flags = ["--servers", "3000", "--seed", "7", "--limit", "servers.list=1", "--retry-after", "--token", "t"]
    with running(*flags) as process:
        assert process.stdout
        line = json.loads(process.stdout.readline())
        assert line["servers"] == 3000
        assert line["address"].startswith("http://127.0.0.1:")
        with plain_client(line["address"], headers={"X-Auth-Token": line["token"]}) as client:
            path = f"/v1/{line['project_id']}/baremetalservers/detail"
            first, second = (client.get(path) for _ in range(2))
            assert (first.status_code, first.json()["count"]) == (200, 3000)
            assert second.status_code == 429
            assert 1 <= int(second.headers["Retry-After"]) <= 60
            # The client's connection is still open: it must not keep the simulator from ending.
            process.send_signal(number)
            out, err = process.communicate(timeout=patience(60.0))
        assert (process.returncode, out, err) == (0, "", "")


def test_a_cut_breaks_the_connection() -> None:
    with running("--servers", "10") as process:
        assert process.stdout
        line = json.loads(process.stdout.readline())
        with plain_client(line["address"]) as client:
            script = [{"operation": "versions.list", "nth": 1, "fault": {"type": "CutAfter"}}]
            assert client.post("/_admin/faults", json=script).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/")
            assert client.get("/").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=patience(60.0)) == ("", "")


def test_answers_are_not_held_back_for_an_acknowledgement() -> None:
    # Without its protocol a listener's connections never get TCP_NODELAY from asyncio.
    with _listen(0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_explained(capsys: pytest.CaptureFixture[str], same_handlers: None) -> None:
    with _listen(0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit):
            main(["--port", str(port)])
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.fixture
def same_handlers() -> Iterator[None]:
    """Put the signal handlers back that `main` sets for its process."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("same_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_it_is_ready_ends_it_cleanly(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bms_async.simulator.__main__.Cloud", lambda _settings, **_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 0


@pytest.mark.usefixtures("same_handlers")
def test_ctrl_c_is_not_for_a_simulator_that_a_script_has_started_in_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on: list[int] = []

    def make_cloud(*_: object, **__: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            goes_on.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr("bms_async.simulator.__main__.Cloud", make_cloud)
    with pytest.raises(SystemExit):
        main([])
    assert goes_on == [signal.SIGINT]


@pytest.mark.usefixtures("same_handlers")
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--job-seconds", "9", "1"], "job_seconds"),
        (["--limit", "servers.stop"], "servers.stop=20"),
        (["--limit", "servers.fly=3"], "servers.fly"),
        (["--throttle", "leaky"], "sliding"),
        (["--port", "99999"], "99999"),
        (["--fail-share", "2"], "fail_share"),
        (["--token-lifetime", "0"], "token_lifetime"),
        (["--password", ""], "password"),
    ],
)
def test_a_wrong_flag_is_explained(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(flags)
    assert left.value.code == 2
    assert named in capsys.readouterr().err
