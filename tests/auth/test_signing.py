"""The signature, byte for byte the one that the vendor's own signer makes, and made of what goes over the wire."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from bms_async import AkSkAuth, BmsClient, HttpxTransport
from bms_async.wire.signing import SigningKey, sign

AK, SK = "AKIDTESTACCESSKEY", "secret-key/with+signs=and-more"
DATE = "20240102T030405Z"
ALPHABETS = (
    "abcXYZ019-._~",
    "abc /+%&=?#;,:@!$'()*[]{}|\\^`\"<>",
    "äöüßéñ£€",
    "日本語服务器裸金属",
    "😀🚀\u00a0\u2028\ufeff\x7f",
)
HEADER_NAMES = [
    "Content-Type", "X-Project-Id", "X-Security-Token", "X-OpenStack-Nova-API-Version", "x-lower", "X-UPPER", "x-MiXeD",
    "X_Under_Score", "X-Half_Under", "X.Dot", "Accept", "User-Agent", "X-A", "x-a", "X!B", "X-Sdk-Content-Sha256",
]  # fmt: skip


class Drawn(NamedTuple):
    method: str
    path: str
    query: list[tuple[str, object]]
    headers: dict[str, str]
    body: bytes | str


def text(rng: Random, longest: int) -> str:
    alphabet = rng.choice(ALPHABETS) if rng.random() < 0.7 else "".join(ALPHABETS)
    return "".join(rng.choices(alphabet, k=rng.randrange(longest + 1)))


def spelled(rng: Random, raw: str) -> str:
    """A part of a path: encoded as we do it, as a client may do it, or in hex that nobody needs."""
    way = rng.randrange(4)
    if way == 0:
        return quote(raw, safe="")
    if way == 1:
        return quote(raw, safe="/:@!$&'()*+,;=~")
    if way == 2:
        return "".join(f"%{byte:02x}" for byte in raw.encode())
    return raw.replace("?", "").replace("#", "")


def draw(rng: Random) -> Drawn:
    parts = [spelled(rng, text(rng, 8)) for _ in range(rng.randrange(6))]
    path = "/" + "/".join(parts) + rng.choice(["", "", "/"])
    query: list[tuple[str, object]] = []
    names: set[str] = set()
    for _ in range(rng.choice([0, 0, 1, 2, 5])):
        name = text(rng, 6) or "q"
        if name not in names:
            names.add(name)
            query.append((name, [text(rng, 5) for _ in range(rng.randrange(1, 4))] if rng.random() < 0.3 else
                          rng.choice([text(rng, 8), "", rng.randrange(1000), rng.random() < 0.5])))  # fmt: skip
    headers = {name: text(rng, 10) for name in rng.sample(HEADER_NAMES, rng.randrange(8))}
    headers = {name: rng.choice(["", " ", "\t"]) + value + rng.choice(["", "  "]) for name, value in headers.items()}
    if "Content-Type" in headers:
        headers["Content-Type"] = rng.choice(["application/json", "application/json;charset=UTF-8", "application/bson"])
    if "X-Sdk-Content-Sha256" in headers:
        headers["X-Sdk-Content-Sha256"] = rng.choice(["UNSIGNED-PAYLOAD", "", hashlib.sha256(b"x").hexdigest()])
    fixed = [
        (rng.choice(["Host", "host", "HOST"]), "bms.example.com"),
        (rng.choice(["X-Sdk-Date", "x-sdk-date"]), DATE),
    ]
    pairs = [*headers.items(), *fixed]
    rng.shuffle(pairs)
    bodies: list[bytes | str] = [b"", b"", rng.randbytes(rng.randrange(300)), text(rng, 50)]
    return Drawn(
        rng.choice(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get"]),
        path,
        query,
        dict(pairs),
        rng.choice(bodies),
    )


def by_vendor(drawn: Drawn, access_key: str = AK, secret_key: str = SK) -> str:
    request = SdkRequest(
        method=drawn.method,
        schema="https",
        host="bms.example.com",
        resource_path=drawn.path,
        query_params=[(name, list(value) if isinstance(value, list) else value) for name, value in drawn.query],
        header_params=dict(drawn.headers),
        body=drawn.body,
    )
    signed: Any = Signer(BasicCredentials(access_key, secret_key, "project")).sign(request)
    authorization = signed.header_params["Authorization"]
    assert isinstance(authorization, str)
    return authorization


def flat(query: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in query:
        if isinstance(value, list):
            pairs += [(name, str(each)) for each in value]
        else:
            pairs.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs


def by_us(drawn: Drawn, url: str, key: SigningKey) -> str:
    body = drawn.body.encode() if isinstance(drawn.body, str) else drawn.body
    return sign(drawn.method, url, drawn.headers, body, access_key=AK, key=key)


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_requests_are_signed_as_the_vendor_signs_them(seed: int) -> None:
    rng, key = Random(seed), SigningKey(SK)
    for _ in range(2500):
        drawn = draw(rng)
        url = f"https://bms.example.com{drawn.path}"
        pairs = flat(drawn.query)
        if pairs:
            # The order in which they are sent, and how a blank is written, must not matter.
            rng.shuffle(pairs)
            encoded = urlencode(pairs) if rng.random() < 0.3 else urlencode(pairs, quote_via=quote)
            url += "?" + encoded
        assert by_us(drawn, url, key) == by_vendor(drawn), drawn


@pytest.mark.parametrize("url", ["https://bms.example.com", "https://bms.example.com?a=/1", "http://h"])
def test_an_empty_path_is_the_root(url: str) -> None:
    query: list[tuple[str, object]] = [("a", "/1")] if "?" in url else []
    drawn = Drawn("GET", "/", query, {"Host": "bms.example.com", "X-Sdk-Date": DATE}, b"")

    assert by_us(drawn, url, SigningKey(SK)) == by_vendor(drawn)


@pytest.mark.parametrize("part", ["%FF", "a%80b", "%c3%28", "%E9", "%e4%bd"])
def test_escapes_in_a_path_that_are_no_text_are_signed_as_the_vendor_signs_them(part: str) -> None:
    drawn = Drawn("GET", f"/v1/{part}/x", [], {"Host": "bms.example.com", "X-Sdk-Date": DATE}, b"")

    assert by_us(drawn, f"https://bms.example.com{drawn.path}", SigningKey(SK)) == by_vendor(drawn)


def test_a_query_name_without_an_equals_sign_has_an_empty_value() -> None:
    drawn = Drawn("GET", "/v1", [("flag", ""), ("b", "2")], {"Host": "h", "X-Sdk-Date": DATE}, b"")

    assert by_us(drawn, "https://h/v1?flag&b=2", SigningKey(SK)) == by_vendor(drawn)


def test_a_type_that_is_no_json_is_signed_as_the_vendor_does_when_the_headers_say_so() -> None:
    # The vendor's signer adds the header by itself, and gives up on the body; ours does so only on request.
    plain = {"Host": "h", "X-Sdk-Date": DATE, "Content-Type": "text/plain"}
    drawn = Drawn("PUT", "/v1", [], plain, b"words")
    unsigned = drawn._replace(headers={**plain, "X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"})

    assert by_us(unsigned, "https://h/v1", SigningKey(SK)) == by_vendor(drawn)
    assert by_us(drawn, "https://h/v1", SigningKey(SK)) != by_vendor(drawn)


@pytest.mark.parametrize("length", [1, 20, 40, 63, 64, 65, 200])
def test_keys_of_any_length_sign_as_hmac_does(length: int) -> None:
    secret = ("ü" + "k" * 200)[:length]

    for each in (b"", b"a text", bytes(1000)):
        assert SigningKey(secret).sign(each) == hmac.new(secret.encode(), each, hashlib.sha256).hexdigest()


def test_a_signing_key_signs_again_and_again() -> None:
    key = SigningKey(SK)

    assert key.sign(b"x") == key.sign(b"x") != key.sign(b"y")


def test_a_signing_key_shows_nothing() -> None:
    key = SigningKey(SK)

    assert repr(key) == "SigningKey(***)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_without_a_date_nothing_is_signed() -> None:
    with pytest.raises(ValueError, match="X-Sdk-Date"):
        sign("GET", "https://h/", {"Host": "h"}, b"", access_key=AK, key=SigningKey(SK))


PATHS = [
    "/v1/{project_id}/a%2Fb",
    "/v1/{project_id}/a%20b",
    "/v1/{project_id}/%e2%82%ac",
    "/v1/{project_id}/:@!$&'()*+,;=~",
    "/v1/{project_id}/%7Etilde/",
    '/v1/{project_id}/[x]|y^z`"<>\\',
    "/v1/{project_id}//double",
    "/v1/{project_id}/100%",
    "/",
]
QUERIES: list[dict[str, str | list[str]]] = [
    {},
    {"b": "2", "a": "1"},
    {"tags": ["b", "a", "a"]},
    {"name": "ä b+c&d=e~f'(g)"},
    {"empty": "", "日本": "語"},
    {"q": "50%25 []{}|"},
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
async def test_what_goes_over_the_wire_is_what_was_signed(path: str, query: dict[str, str | list[str]]) -> None:
    arrived: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200, json={})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    bms = BmsClient(
        endpoint="https://BMS.example.com:443",
        project_id="0123456789abcdef",
        auth=AkSkAuth(AK, SK),
        transport=HttpxTransport(client),
    )
    async with bms:
        await bms.request("POST", path, query=query, body={"x": "ü"}, headers={"X-Mine": "a  b", "X_Not": "signed"})
    (request,) = arrived
    headers = {name.decode(): value.decode() for name, value in request.headers.raw}
    names = headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-sdk-date", "x-mine", "content-type"} <= set(names)
    assert not {"connection", "user-agent", "x_not"} & set(names)
    sent = request.url.raw_path.decode("ascii")
    drawn = Drawn(
        request.method,
        sent.partition("?")[0],
        [(name, list(value) if isinstance(value, list) else value) for name, value in query.items()],
        {name: value for name, value in headers.items() if name.lower() in names},
        request.content,
    )
    assert headers["Host"] == "bms.example.com"
    assert by_vendor(drawn) == headers["Authorization"]
    if "%" in path and "100%" not in path:
        # What was encoded stays as it was: httpx decodes nothing on the way.
        assert sent.partition("?")[0] == path.replace("{project_id}", "0123456789abcdef")
