"""Whole lives of servers in the simulator, which was written from the reference and not from these calls."""

from __future__ import annotations

import pytest

from bms_async import Network, NotFoundError, ServerStatus
from tests.support.clouds import simulated
from tests.support.mocked import virtually


@virtually
async def test_a_server_is_made_stopped_started_restarted_and_deleted() -> None:
    async with simulated(servers=3, seed=1) as (bms, _):
        nova = bms.nova
        example = await anext(aiter(nova.servers.list_details()))
        assert example.image is not None
        assert example.image.id is not None
        flavor = (await nova.flavors.list())[0]
        nic = (await nova.interfaces.list(example.id))[0]

        created = await nova.servers.create(
            name="bms-8",
            image=example.image.id,
            flavor=flavor.id,
            availability_zone=example.availability_zone or "",
            networks=[Network(uuid=nic.net_id)],
        )
        running = await nova.servers.wait_for(created.id, "ACTIVE", timeout=7200)
        assert (running.name, running.task_state) == ("bms-8", None)

        await nova.tags.add(created.id, "__type_baremetal")
        assert created.id in [server.id async for server in nova.servers.list(limit=1)]

        await nova.servers.stop(created.id)
        assert (await nova.servers.wait_for(created.id, "SHUTOFF", timeout=7200)).status is ServerStatus.SHUTOFF
        await nova.servers.start(created.id)
        await nova.servers.wait_for(created.id, "ACTIVE", timeout=7200)
        await nova.servers.reboot(created.id)
        await nova.servers.wait_for(created.id, "ACTIVE", timeout=7200)

        await nova.servers.delete(created.id)
        await nova.servers.wait_until_deleted(created.id, timeout=7200)
        with pytest.raises(NotFoundError):
            await nova.servers.get(created.id)
        with pytest.raises(NotFoundError):
            await nova.tags.has(created.id, "__type_baremetal")


@virtually
async def test_tags_metadata_and_keys_come_back_as_they_were_given() -> None:
    async with simulated(servers=1, seed=1) as (bms, cloud):
        nova = bms.nova
        (server_id,) = cloud.servers
        assert await nova.tags.replace(server_id, ["__type_baremetal", "a b&c=ü?#%"]) == (
            "__type_baremetal",
            "a b&c=ü?#%",
        )
        assert await nova.tags.has(server_id, "a b&c=ü?#%")
        assert not await nova.tags.has(server_id, "a b")
        await nova.tags.remove(server_id, "a b&c=ü?#%")
        assert await nova.tags.list(server_id) == ("__type_baremetal",)
        assert (await nova.metadata.set(server_id, "a_key.1:x-y", "a value"))["a_key.1:x-y"] == "a value"
        assert (await nova.metadata.get(server_id))["a_key.1:x-y"] == "a value"
        await nova.metadata.delete(server_id, "a_key.1:x-y")
        assert "a_key.1:x-y" not in await nova.metadata.get(server_id)
        made = await nova.keypairs.create("k-1")
        assert made.private_key
        assert (await nova.keypairs.get("k-1")).public_key == made.public_key
        await nova.keypairs.delete("k-1")
        assert "k-1" not in [pair.name for pair in await nova.keypairs.list()]
