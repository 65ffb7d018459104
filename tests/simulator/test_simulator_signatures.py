"""The simulator verifies signatures, against the vendor's own signer; whatever is altered on the way is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from bms_async import AkSkAuth, BmsClient
from bms_async.simulator import Cloud, CloudSettings
from bms_async.simulator.core.tokens import AccessKey
from tests.simulator._helpers import Hand, Open, code_of, make_cloud
from tests.support.machine import patience
from tests.support.plain_http import plain_client

REFUSED = (401, "APIGW.0301")
DATE = "%Y%m%dT%H%M%SZ"
EPOCH = CloudSettings().epoch


class Signed(NamedTuple):
    """A request as it goes over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def sign(cloud: Cloud, method: str, path: str, query: Any = (), body: bytes = b"", **changes: str) -> Signed:
    """Sign with the vendor's signer; changes are of the headers, `_` stands for `-`."""
    settings = cloud.settings
    key = changes.pop("access_key", settings.access_key)
    secret = changes.pop("secret_key", settings.secret_key)
    headers = {
        "Host": "bms.test",
        "X-Project-Id": settings.project_id,
        "X-Sdk-Date": datetime.fromtimestamp(cloud.unix_now(), UTC).strftime(DATE),
        **({"Content-Type": "application/json"} if body else {}),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    path = f"/v1/{settings.project_id}{path}"
    request = SdkRequest(
        method=method,
        schema="http",
        host="bms.test",
        resource_path=path,
        query_params=list(query),
        header_params=headers,
        body=body,
    )
    signed: Any = Signer(BasicCredentials(key, secret, settings.project_id)).sign(request)
    return Signed(method, signed.uri, dict(signed.header_params), body)


async def send(client: httpx.AsyncClient, signed: Signed) -> httpx.Response:
    client.headers.pop("X-Auth-Token", None)
    url = f"http://bms.test{signed.target}"
    return await client.request(signed.method, url, headers=signed.headers, content=signed.body)


def stop(cloud: Cloud) -> bytes:
    ids = [{"id": each} for each in list(cloud.servers)[:3]]
    return json.dumps({"os-stop": {"type": "HARD", "servers": ids}}).encode()


async def test_what_the_vendor_signs_is_accepted(served: Open) -> None:
    cloud, client = served()
    query = [("limit", 7), ("name", "a b+c/ü~*"), ("tags", "")]
    assert (await send(client, sign(cloud, "GET", "/baremetalservers/detail", query))).status_code == 200
    assert (await send(client, sign(cloud, "POST", "/baremetalservers/action", (), stop(cloud)))).status_code == 200
    assert (await send(client, sign(cloud, "GET", "/jobs/%C3%BC%2Fx"))).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"secret_key": "another"},
        {"access_key": "ANOTHER"},
        {"X_Security_Token": "nobody-gave-it"},
        {"X_Sdk_Content_Sha256": "0" * 64},
        {"X_Sdk_Content_Sha256": "UNSIGNED-PAYLOAD"},
    ],
    ids="-".join,
)
async def test_what_is_signed_wrongly_is_refused(served: Open, changes: dict[str, str]) -> None:
    cloud, client = served()
    answer = await send(client, sign(cloud, "POST", "/baremetalservers/action", (), stop(cloud), **changes))
    assert code_of(answer) == REFUSED
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert cloud.settings.secret_key not in answer.text


@pytest.mark.parametrize(
    ("late", "accepted"), [(0, True), (900, True), (-900, True), (901, False), (-901, False), (10**6, False)]
)
async def test_a_date_may_be_fifteen_minutes_off(served: Open, late: int, accepted: bool) -> None:
    hand = Hand()
    cloud, client = served(hand)
    hand.now += 5000
    date = EPOCH + timedelta(seconds=5000 - late)
    answer = await send(client, sign(cloud, "GET", "/baremetalservers/detail", X_Sdk_Date=date.strftime(DATE)))
    assert (answer.status_code == 200) == accepted
    assert parsedate_to_datetime(answer.headers["Date"]) == EPOCH + timedelta(seconds=5000)


@pytest.mark.parametrize("date", ["", "20240101", "20241301T000000Z", "2024-01-01T00:00:00Z", "20240101T000000z"])
async def test_a_date_that_is_none_is_refused(served: Open, date: str) -> None:
    cloud, client = served()
    signed = sign(cloud, "GET", "/baremetalservers/detail")
    signed.headers["X-Sdk-Date"] = date
    assert code_of(await send(client, signed)) == REFUSED


async def test_the_cloud_s_clock_may_be_wrong_on_purpose(served: Open) -> None:
    cloud, client = served(clock_skew=3600.0)
    right = sign(cloud, "GET", "/baremetalservers/detail", X_Sdk_Date=EPOCH.strftime(DATE))
    refused = await send(client, right)
    assert code_of(refused) == REFUSED
    assert parsedate_to_datetime(refused.headers["Date"]) == EPOCH + timedelta(hours=1)
    assert (await send(client, sign(cloud, "GET", "/baremetalservers/detail"))).status_code == 200


async def test_temporary_keys_need_their_token(served: Open) -> None:
    cloud, client = served(security_token="temporary")
    path = "/baremetalservers/detail"
    assert (await send(client, sign(cloud, "GET", path, X_Security_Token="temporary"))).status_code == 200
    assert code_of(await send(client, sign(cloud, "GET", path))) == REFUSED
    assert code_of(await send(client, sign(cloud, "GET", path, X_Security_Token="other"))) == REFUSED
    unsigned = sign(cloud, "GET", path)
    unsigned.headers["X-Security-Token"] = "temporary"
    assert code_of(await send(client, unsigned)) == REFUSED


async def test_keys_can_change_while_the_cloud_runs(served: Open) -> None:
    cloud, client = served()
    cloud.access_keys = {"NEW": AccessKey("new-secret")}
    path = "/baremetalservers/detail"
    assert code_of(await send(client, sign(cloud, "GET", path))) == REFUSED
    assert (await send(client, sign(cloud, "GET", path, access_key="NEW", secret_key="new-secret"))).status_code == 200


def altered(text: str) -> Iterator[str]:
    """The text with each of its characters replaced by another."""
    for place, character in enumerate(text):
        yield text[:place] + chr(ord(character) ^ 1) + text[place + 1 :]


async def test_whatever_is_altered_on_the_way_is_refused(served: Open) -> None:
    cloud, client = served(throttle="none")
    body = stop(cloud)
    query = [("name", "bms"), ("tags", "rack")]
    right = sign(cloud, "POST", "/baremetalservers/action", query, body)
    start = len(f"/v1/{cloud.settings.project_id}/baremetalservers/action?")
    tried = [right._replace(method="PUT", target=right.target.replace("/action", "/metadata"))]
    tried += [right._replace(target=right.target[:start] + each) for each in altered(right.target[start:])]
    tried += [right._replace(target=right.target + "&x=1"), right._replace(target=right.target.partition("?")[0])]
    tried += [right._replace(body=bytes([*body[:at], body[at] ^ 1, *body[at + 1 :]])) for at in range(len(body))]
    tried += [right._replace(body=b""), right._replace(body=body + b" ")]
    for name in ("Host", "X-Project-Id", "X-Sdk-Date", "Content-Type", "Authorization"):
        tried += [right._replace(headers={**right.headers, name: each}) for each in altered(right.headers[name])]
    for name in ("X-Project-Id", "X-Sdk-Date"):
        tried.append(right._replace(headers={key: value for key, value in right.headers.items() if key != name}))
    # A scheme that is not known makes the call one without credentials, which is refused alike.
    for each in tried:
        answer = await send(client, each)
        assert code_of(answer) == REFUSED, each
    assert len(tried) > 400
    assert len(cloud.activity) == 0
    assert (await send(client, right)).status_code == 200


async def test_an_altered_path_is_refused_where_it_leads_anywhere(served: Open) -> None:
    cloud, client = served(throttle="none")
    one, other = list(cloud.servers)[:2]
    right = sign(cloud, "GET", f"/baremetalservers/{one}")
    assert code_of(await send(client, right._replace(method="PUT"))) == REFUSED
    place = right.target.index(one)
    for each in [other, *altered(one)]:
        target = right.target[:place] + each
        assert code_of(await send(client, right._replace(target=target))) == REFUSED, target
    assert (await send(client, right)).status_code == 200


async def test_a_header_that_decides_must_be_signed_and_come_once(served: Open) -> None:
    cloud, client = served()
    signed = sign(cloud, "GET", "/baremetalservers/detail")
    signed.headers["Content-Type"] = "text/plain"
    assert code_of(await send(client, signed)) == REFUSED
    del signed.headers["Content-Type"]
    url = f"http://bms.test{signed.target}"
    twice = [*signed.headers.items(), ("x-project-id", "another")]
    assert code_of(await client.request("GET", url, headers=twice)) == REFUSED
    assert (await send(client, signed)).status_code == 200


async def test_headers_that_are_not_signed_may_change(served: Open) -> None:
    cloud, client = served()
    signed = sign(cloud, "GET", "/baremetalservers/detail")
    signed.headers["User-Agent"] = "a proxy"
    assert (await send(client, signed)).status_code == 200


def test_a_cloud_on_the_real_clock_lives_in_the_present() -> None:
    now = datetime.now(UTC).timestamp()
    assert Cloud(CloudSettings(servers=1)).unix_now() == pytest.approx(now, abs=5)
    assert Cloud(CloudSettings(servers=1, clock_skew=60.0)).unix_now() == pytest.approx(now + 60, abs=5)
    assert make_cloud(Hand(), {"servers": 1}).unix_now() == EPOCH.timestamp()
    assert Cloud(CloudSettings(servers=1), Hand(), wall_clock=lambda: 7.0).unix_now() == 7.0


@pytest.mark.parametrize("settings", [{"secret_key": ""}, {"clock_skew": float("nan")}, {"clock_skew": float("inf")}])
def test_settings_that_no_cloud_can_have_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        CloudSettings(**settings)


@contextmanager
def running(*flags: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "bms_async.simulator", "--port", "0", "--servers", "20", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=patience(60.0)) == ("", "")
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("skew", [0, 3600])
def test_the_served_simulator_accepts_calls_of_now_and_corrects_clocks_that_differ(
    skew: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def call(line: dict[str, Any]) -> int:
        auth = AkSkAuth(line["access_key"], line["secret_key"], "temporary")
        async with BmsClient(endpoint=line["address"], project_id=line["project_id"], auth=auth) as bms:
            servers = [server async for server in bms.servers.list()]
            assert len(servers) == 20
            await bms.nova.tags.add(servers[0].id, "rack 7 ü+~")
            return bms.statistics().session.attempts

    with running("--secret-key", "my-own", "--security-token", "temporary", "--clock-skew", str(skew)) as line:
        assert line["secret_key"] == "my-own"
        with plain_client(line["address"]) as client:
            dates = client.get("/").headers.get_list("Date")
        assert len(dates) == 1
        ahead = parsedate_to_datetime(dates[0]) - datetime.now(UTC)
        assert ahead.total_seconds() == pytest.approx(skew, abs=10)
        asyncio.run(call(line))
    told = [record for record in caplog.records if record.name == "bms_async.auth"]
    assert len(told) == (1 if skew else 0)
