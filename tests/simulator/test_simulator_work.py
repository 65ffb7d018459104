"""How often the cloud did what with which server, for whoever runs it."""

from __future__ import annotations

from tests.simulator._helpers import Open


async def test_admin_tells_how_often_each_server_was_set_to_work_and_not_how_often_it_was_asked(served: Open) -> None:
    cloud, client = served(fail_share=1.0, job_seconds=(5.0, 5.0))
    first, second, third = list(cloud.servers)[:3]

    async def ask(key: str, *ids: str) -> None:
        wish = {"servers": [{"id": each} for each in ids]}
        answer = await client.post("/baremetalservers/action", json={key: wish | {"type": "HARD"}})
        assert answer.status_code == 200

    async def tell() -> dict[str, dict[str, int]]:
        told: dict[str, dict[str, int]] = (await client.get("http://bms.test/_admin/servers/work")).json()
        return told

    assert await tell() == {"start": {}, "stop": {}, "reboot": {}}
    await ask("reboot", first, second)
    assert await tell() == {"start": {}, "stop": {}, "reboot": {first: 1, second: 1}}
    # What is at something already, or is already so, does nothing.
    await ask("reboot", second, third)
    await ask("os-start", first)
    await ask("os-stop", second)
    assert await tell() == {"start": {}, "stop": {}, "reboot": {first: 1, second: 1, third: 1}}
