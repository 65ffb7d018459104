"""R5: a token that is kept in a file, and a file that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bms_async import BmsError
from bms_async.auth.cache import TokenCache
from tests.secrets._search import Eye, watching
from tests.secrets.calls import SERVER
from tests.secrets.canaries import CACHED, ISSUED, secrets_in
from tests.secrets.clouds import Cloud, client_of, password_auth
from tests.secrets.failures import FAILURES


async def _fill(file: Path) -> None:
    """Have a first client write a token, and put another in its place."""
    eye = Eye()
    async with client_of(eye, Cloud(eye, FAILURES["400 with nothing"]), password_auth(file)) as bms:
        with pytest.raises(BmsError):
            await bms.servers.get(SERVER)
    _put_in(file)


def _put_in(file: Path) -> None:
    text = file.read_text()
    assert ISSUED in text
    file.write_text(text.replace(ISSUED, CACHED))


def _link(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


FILES: dict[str, Callable[[Path], object]] = {
    "good": lambda file: None,
    "broken": lambda file: file.write_text(file.read_text()[:-5]),
    "of half a character": lambda file: file.write_bytes(file.read_bytes().replace(b'"token"', b'"\xff"')),
    "of another shape": lambda file: file.write_text(json.dumps({"version": 1, "tokens": [CACHED]})),
    "of wrong types": lambda file: file.write_text(file.read_text().replace(f'"{CACHED}"', f'["{CACHED}"]')),
    "with a token for no header": lambda file: file.write_text(file.read_text().replace(CACHED, f"{CACHED} x")),
    "open to all": lambda file: file.chmod(0o666),
    "a folder": _directory,
    "a link": _link,
}


@pytest.mark.parametrize("failure", ["400 of the gateway that echoes as it was sent", "401 of the gateway"])
@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
async def test_r5_no_token_of_a_file_shows(change: Callable[[Path], object], failure: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    await _fill(file)
    change(file)
    with watching() as eye:
        cloud = Cloud(eye, FAILURES[failure], FAILURES["403 of the service"])
        auth = password_auth(file)
        async with client_of(eye, cloud, auth) as bms:
            with pytest.raises(BmsError) as caught:
                await bms.servers.get(SERVER)
            eye.look_at_error("error", caught.value)
        eye.look("credentials", auth)
        kept = await TokenCache(file, ("nobody",)).load()
        assert kept is None
    assert eye.found == {}
    assert cloud.asked


async def test_r5_a_kept_token_shows_itself_to_nobody(tmp_path: Path) -> None:
    from bms_async.auth.cache import CachedToken

    kept = CachedToken.issued(CACHED, 100.0, expires_at=None, project_id=None)
    cache = TokenCache(tmp_path / "tokens.json", ("u",))
    with watching() as eye:
        async with cache.lock() as held:
            assert held
            await cache.store(kept)
            again = await cache.load()
        assert again is not None
        for thing in (kept, again, cache):
            eye.look(type(thing).__name__, thing)
    assert eye.found == {}
    assert secrets_in(again.token) == {"CACHED"}
