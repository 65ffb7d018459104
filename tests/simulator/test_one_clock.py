"""The dates of responses and the times of servers are of one clock: clients compare them."""

from __future__ import annotations

import time

from bms_async.simulator import Cloud, CloudSettings


def test_a_cloud_on_the_real_clock_dates_its_servers_by_it() -> None:
    cloud = Cloud(CloudSettings(servers=1))
    assert abs(cloud.wall.unix(cloud.now()) - cloud.unix_now()) <= 1
    assert abs(cloud.wall.unix(cloud.now()) - time.time()) < 60


def test_a_cloud_on_another_clock_counts_from_its_epoch() -> None:
    settings = CloudSettings(servers=1)
    cloud = Cloud(settings, clock=lambda: 5.0)
    assert cloud.wall.unix(cloud.now()) == settings.epoch.timestamp() == cloud.unix_now()
