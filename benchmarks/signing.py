"""The CPU of signing: one signature of a call without a body, and one of a batch of 1000 ids.

The floor is what every signer needs: the SHA-256 of the body and of the canonical request, and an HMAC-SHA256, by the
standard library alone. Ours is timed twice: the signature alone, and all that `AkSkAuth` does for a request, with the
date and its own headers. The vendor's signer gets a new request each time, for it writes into it. The figure is the
least CPU of many rounds, in which all take turns, so that other load affects all alike. The exit status is 1 if a
signature costs more than 1.5 times the floor.

    python -m benchmarks.signing [ROUNDS]
"""

from __future__ import annotations

import gc
import hashlib
import hmac
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from benchmarks._report import report
from benchmarks._samples import ACCESS_KEY, PROJECT, SECRET_KEY
from bms_async import AkSkAuth
from bms_async.wire import HttpRequest
from bms_async.wire.signing import SigningKey, sign

ROUNDS = 400
YIELD_EVERY = 50
TARGET = 1.5
"""How many times the floor a signature of ours may cost."""

HOST = "bms.eu-west-0.example.com"
SIGNED = {
    "Host": HOST,
    "X-Sdk-Date": "20260101T000000Z",
    "X-Project-Id": PROJECT,
    "Content-Type": "application/json",
}


def batch() -> bytes:
    """Return the body that stops 1000 servers."""
    ids = [{"id": f"53206ed0-56de-4d6b-b7ee-{number:012x}"} for number in range(1000)]
    return msgspec.json.encode({"os-stop": {"type": "HARD", "servers": ids}})


def signers_of(method: str, path: str, body: bytes) -> dict[str, Callable[[], object]]:
    """Return all signers of one request, the floor first."""
    url = f"https://{HOST}{path}"
    key, secret = SigningKey(SECRET_KEY), SECRET_KEY.encode()
    canonical = (
        f"{method}\n{path}/\n\ncontent-type:application/json\nhost:{HOST}\nx-project-id:{PROJECT}\n"
        f"x-sdk-date:20260101T000000Z\n\ncontent-type;host;x-project-id;x-sdk-date\n{'0' * 64}"
    ).encode()
    text = f"SDK-HMAC-SHA256\n20260101T000000Z\n{'0' * 64}".encode()
    vendor = Signer(BasicCredentials(ACCESS_KEY, SECRET_KEY, PROJECT))
    auth = AkSkAuth(ACCESS_KEY, SECRET_KEY)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "bms-async"}
    request = HttpRequest(operation="servers.stop", method=method, url=url, headers=headers, body=body)

    def floor() -> object:
        if body:
            hashlib.sha256(body).hexdigest()
        hashlib.sha256(canonical).hexdigest()
        return hmac.digest(secret, text, "sha256").hex()

    def theirs() -> object:
        return vendor.sign(
            SdkRequest(
                method=method,
                schema="https",
                host=HOST,
                resource_path=path,
                query_params=[],
                header_params=dict(SIGNED),
                body=body,
            )
        )

    def ours() -> object:
        return sign(method, url, SIGNED, body, access_key=ACCESS_KEY, key=key)

    signed: Any = theirs()
    if signed.header_params["Authorization"] != ours():
        raise AssertionError("the two signers do not agree")
    return {
        "hashlib and hmac": floor,
        "bms_async": ours,
        "bms_async AkSkAuth": lambda: _run(auth.headers(request)),
        "huaweicloudsdkcore": theirs,
    }


def _run(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that never waits, without the cost of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("signing waited for something")


def costs_of(signers: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least CPU of each signer for one signature, in microseconds."""
    least = dict.fromkeys(signers, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, signer in signers.items():
                begun = time.process_time()
                for _ in range(YIELD_EVERY):
                    signer()
                least[name] = min(least[name], (time.process_time() - begun) / YIELD_EVERY)
    finally:
        gc.enable()
    return {name: 1e6 * cost for name, cost in least.items()}


def main(rounds: int = ROUNDS) -> int:
    """Measure, print and save; return the exit status."""
    rows: list[dict[str, object]] = []
    missed = []
    for name, method, path, body in (
        ("empty", "GET", f"/v1/{PROJECT}/baremetalservers/detail", b""),
        ("1000 ids", "POST", f"/v1/{PROJECT}/baremetalservers/action", batch()),
    ):
        costs = costs_of(signers_of(method, path, body), rounds)
        floor = costs["hashlib and hmac"]
        rows += [
            {"body": name, "bytes": len(body), "signed by": by, "CPU us": cost, "times the floor": cost / floor}
            for by, cost in costs.items()
        ]
        if costs["bms_async"] > TARGET * floor:
            missed.append(f"{name}: a signature costs {costs['bms_async'] / floor:.2f} times the floor")
    report("signing", rows)
    print("\n".join(missed) or f"all targets are met: at most {TARGET:g} times the floor")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
