"""What new servers are to be like (API reference 7.2: the call is named there, and its body is the vendor's).

These are sent and never come back. What is None is left out of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .base import Model


class Nic(Model, frozen=True, kw_only=True, omit_defaults=True):
    """A NIC of a new server; the first one is the primary.

    Attributes:
        subnet_id: The network that it is in, within the server's VPC.
        ip_address: Its address; the cloud picks one if there is none.
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
        share_type: PER for one of its own, WHOLE for a shared one, whose ``id`` is then needed.
        size: Mbit/s.
        charge_mode: Whether time or traffic is paid for.
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
    """An elastic IP address that is made together with a server.

    Attributes:
        type: Such as ``5_bgp``.
    """

    type: str
    bandwidth: Bandwidth
    extend_param: EipExtendParam | None = None


class PublicIp(Model, frozen=True, kw_only=True, omit_defaults=True):
    """The elastic IP address of a new server: one that is there (``id``), or a new one (``eip``)."""

    id: str | None = None
    eip: NewEip | None = None


class RootVolume(Model, frozen=True, kw_only=True, omit_defaults=True, rename={"type": "volumetype"}):
    """The system disk of a new server whose flavor boots from one.

    Attributes:
        type: Such as SATA, SAS or SSD.
        size: GB.
        cluster_id: A dedicated storage pool; ``cluster_type`` is then DSS.
        metadata: What encrypts it: ``__system__encrypted`` and ``__system__cmkid``.
    """

    type: str
    size: int
    cluster_id: str | None = None
    cluster_type: str | None = None
    metadata: Mapping[str, str] | None = None


class DataVolume(RootVolume, frozen=True, kw_only=True, omit_defaults=True, rename={"type": "volumetype"}):
    """A data disk of a new server.

    Attributes:
        shareable: Whether several servers may have it.
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
        charging_mode: ``prePaid`` by the period, which the cloud takes if there is none; ``postPaid`` by use.
        period_type: What a ``prePaid`` period is counted in.
        period_num: How many of them.
        auto_renew: Whether the period is renewed when it is over.
        auto_pay: Whether the order is paid at once; else it waits for a person to pay it, and so does the job.
        enterprise_project_id: The enterprise project; the default one if there is none.
    """

    charging_mode: Literal["prePaid", "postPaid"] | None = None
    region_id: str | None = None
    period_type: Literal["month", "year"] | None = None
    period_num: int | None = None
    auto_renew: bool | None = None
    auto_pay: bool | None = None
    enterprise_project_id: str | None = None
