"""The parts of a request that creates servers (API reference 7.2: the call is named there, its body is the vendor's).

These models are only sent. A field that is None is left out of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .base import Model


class Nic(Model, frozen=True, kw_only=True, omit_defaults=True):
    """A NIC of a new server; the first one is the primary.

    Attributes:
        subnet_id: The subnet that it is in, within the server's VPC.
        ip_address: Its address; the cloud chooses one if this is None.
    """

    subnet_id: str
    ip_address: str | None = None


class Bandwidth(
    Model,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"share_type": "sharetype", "charge_mode": "chargemode"},
):
    """The bandwidth of a new elastic IP address.

    Attributes:
        share_type: PER for a dedicated bandwidth, WHOLE for a shared one, which requires its ``id``.
        size: The bandwidth in Mbit/s.
        charge_mode: Whether the bandwidth or the traffic is paid for.
    """

    share_type: Literal["PER", "WHOLE"]
    size: int | None = None
    id: str | None = None
    charge_mode: Literal["bandwidth", "traffic"] | None = None
    name: str | None = None


class EipExtendParam(Model, frozen=True, kw_only=True, omit_defaults=True, rename={"charging_mode": "chargingMode"}):
    """How a new elastic IP address is paid for."""

    charging_mode: Literal["prePaid", "postPaid"] | None = None


class NewEip(
    Model, frozen=True, kw_only=True, omit_defaults=True, rename={"type": "iptype", "extend_param": "extendparam"}
):
    """An elastic IP address that is created together with a server.

    Attributes:
        type: The type of the address, such as ``5_bgp``.
    """

    type: str
    bandwidth: Bandwidth
    extend_param: EipExtendParam | None = None


class PublicIp(Model, frozen=True, kw_only=True, omit_defaults=True):
    """The elastic IP address of a new server: an existing one (``id``), or a new one (``eip``)."""

    id: str | None = None
    eip: NewEip | None = None


class RootVolume(Model, frozen=True, kw_only=True, omit_defaults=True, rename={"type": "volumetype"}):
    """The system disk of a new server whose flavor boots from one.

    Attributes:
        type: The disk type, such as SATA, SAS or SSD.
        size: The size in GB.
        cluster_id: A dedicated storage pool; ``cluster_type`` is then DSS.
        metadata: The encryption: ``__system__encrypted`` and ``__system__cmkid``.
    """

    type: str
    size: int
    cluster_id: str | None = None
    cluster_type: str | None = None
    metadata: Mapping[str, str] | None = None


class DataVolume(RootVolume, frozen=True, kw_only=True, omit_defaults=True, rename={"type": "volumetype"}):
    """A data disk of a new server.

    Attributes:
        shareable: Whether the disk can be attached to several servers.
    """

    shareable: bool | None = None


class ExtendParam(
    Model,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "charging_mode": "chargingMode",
        "region_id": "regionID",
        "period_type": "periodType",
        "period_num": "periodNum",
        "auto_renew": "isAutoRenew",
        "auto_pay": "isAutoPay",
    },
):
    """How new servers are paid for, and where they belong.

    Attributes:
        charging_mode: ``prePaid`` by the period, which is the cloud's default; ``postPaid`` by use.
        period_type: The unit of a ``prePaid`` period.
        period_num: How many of these units the period has.
        auto_renew: Whether the period is renewed when it is over.
        auto_pay: Whether the order is paid at once; otherwise it waits for a person to pay it, and so does the job.
        enterprise_project_id: The enterprise project; None for the default one.
    """

    charging_mode: Literal["prePaid", "postPaid"] | None = None
    region_id: str | None = None
    period_type: Literal["month", "year"] | None = None
    period_num: int | None = None
    auto_renew: bool | None = None
    auto_pay: bool | None = None
    enterprise_project_id: str | None = None
