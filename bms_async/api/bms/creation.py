"""Creating servers (API reference 7.2 names the call, 6.3.2 its response)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.models import DataVolume, ExtendParam, JobAccepted, Nic, PublicIp, RootVolume
from bms_async.redaction import wrap_secrets
from bms_async.validation.common import check_id
from bms_async.validation.text import (
    check_metadata,
    check_native_name,
    check_one_login,
    check_password,
    encode_user_data,
    user_data_as_text,
)
from bms_async.wire import Safety

from ._base import SERVERS, ServerResource

CREATE = define(
    "servers.create",
    "POST",
    SERVERS,
    JobAccepted,
    title="Create servers",
    chapter="7.2",
    safety=Safety.UNSAFE,
    permission="bms:servers:create",
)


class CreationJob(JobHandle):
    """The job that creates servers; each sub-job creates one, and has its id as soon as there is one.

    Attributes:
        order_id: The cloud's order for the servers; None if there is none. Not part of `to_json`.
    """

    __slots__ = ("order_id",)

    def __init__(self, job: JobHandle, order_id: str | None) -> None:
        super().__init__(job._record, job._project_id)  # noqa: SLF001 - the same job, in a subclass
        self.order_id = order_id

    @property
    def server_ids(self) -> tuple[str, ...]:
        """The ids of the new servers, as of the last poll; complete once the job has ended."""
        job = self.job
        if job is None:
            return ()
        ids = [sub.server_id for sub in job.sub_jobs]
        ids.append(job.entities.server_id if job.entities else None)
        return tuple(dict.fromkeys(server_id for server_id in ids if server_id))


class Creation(ServerResource):
    """The call that creates servers."""

    async def create(
        self,
        *,
        name: str,
        image_id: str,
        flavor_id: str,
        availability_zone: str,
        vpc_id: str,
        nics: Sequence[Nic],
        count: int | None = None,
        key_name: str | None = None,
        admin_password: str | None = None,
        metadata: Mapping[str, str] | None = None,
        user_data: str | bytes | None = None,
        security_groups: Iterable[str] = (),
        public_ip: PublicIp | None = None,
        root_volume: RootVolume | None = None,
        data_volumes: Sequence[DataVolume] = (),
        extend_param: ExtendParam | None = None,
        placement: Literal["share", "dedicate"] | None = None,
        server_tags: Mapping[str, str] | None = None,
    ) -> CreationJob:
        """Create servers and return the job, which is watched from then on.

        ::

            job = await bms.servers.create(
                name="rack-7", image_id=image, flavor_id="physical.s4.medium", availability_zone="az1",
                vpc_id=vpc, nics=[Nic(subnet_id=subnet)], key_name="ops", count=2,
            )
            await job
            job.server_ids

        Never sent again when a response is lost, for that could create them twice. The `TransportError` then says
        ``maybe_delivered``, and `list` by the name shows what happened.

        Args:
            name: 1 to 255 characters; the cloud appends a number to each of several servers.
            image_id: The image.
            flavor_id: The flavor, an id from ``bms.flavors.list()``.
            availability_zone: The zone's name.
            vpc_id: The VPC that all NICs are in.
            nics: At least one; the first is the primary.
            count: The number of servers; one if None.
            key_name: The key pair to log in with, instead of a password.
            admin_password: The administrator's password: 8 to 26 characters of at least three classes (upper case,
                lower case, digits, special).
            metadata: Keys and values of at most 255 characters.
            user_data: Data for the first start of the operating system, at most 32 KB, in plain: it is encoded as
                base64 here.
            security_groups: Ids of security groups; the default group if empty.
            public_ip: An elastic IP address.
            root_volume: The system disk, for a flavor whose ``boot_source`` is a volume.
            data_volumes: Data disks.
            extend_param: Billing, and the enterprise project.
            placement: Shared hosts, or a dedicated cloud (``schedulerHints.dec_baremetal``).
            server_tags: Keys and values.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 7.2 and 6.3.2; no limit is documented.
        """
        # The administrator's password of a Windows server is in its metadata.
        admin_password, metadata, user_data = (
            wrap_secrets(admin_password),
            wrap_secrets(metadata),
            wrap_secrets(user_data),
        )
        groups = (security_groups,) if isinstance(security_groups, str) else tuple(security_groups)
        if self._check:
            check_native_name("name", name)
            ids = {"image_id": image_id, "flavor_id": flavor_id, "availability_zone": availability_zone}
            for argument, value in {**ids, "vpc_id": vpc_id}.items():
                check_id(argument, value)
            _check_shape(nics, count, groups, data_volumes)
            _check_login(key_name, admin_password)
            if metadata is not None:
                check_metadata("metadata", metadata)
            if server_tags is not None:
                _check_server_tags(server_tags)
        data = None if user_data is None else encode_user_data("user_data", user_data, check=self._check)
        fields: dict[str, object] = {
            "name": name,
            "imageRef": image_id,
            "flavorRef": flavor_id,
            "availability_zone": availability_zone,
            "vpcid": vpc_id,
            "nics": nics,
            "count": count,
            "key_name": key_name,
            "adminPass": admin_password,
            "metadata": None if metadata is None else dict(metadata),
            "user_data": data,
            "security_groups": [{"id": group} for group in groups] or None,
            "publicip": public_ip,
            "root_volume": root_volume,
            "data_volumes": data_volumes or None,
            "extendparam": _encode_extend_param(extend_param),
            "schedulerHints": None if placement is None else {"dec_baremetal": placement},
            "server_tags": [{"key": key, "value": value} for key, value in (server_tags or {}).items()] or None,
        }
        body = {"server": {field: value for field, value in fields.items() if value is not None}}
        secrets = (admin_password, data, user_data_as_text(user_data), (metadata or {}).get("admin_pass"))
        accepted = await self._session.call(CREATE, body=body, secrets=secrets)
        return CreationJob(self._watch(accepted, CREATE, secrets=secrets), accepted.order_id or None)


def _encode_extend_param(extend_param: ExtendParam | None) -> dict[str, object] | None:
    """Return the parameters as the cloud expects them, with "true" and "false" for booleans."""
    if extend_param is None:
        return None
    fields: dict[str, object] = msgspec.to_builtins(extend_param)
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}


def _check_shape(nics: Sequence[Nic], count: object, groups: tuple[str, ...], volumes: Sequence[DataVolume]) -> None:
    if not isinstance(nics, Sequence) or not nics or not all(isinstance(nic, Nic) for nic in nics):
        raise InvalidRequestError("nics", nics, "expected at least one Nic, such as [Nic(subnet_id=...)]")
    for index, nic in enumerate(nics):
        check_id(f"nics[{index}].subnet_id", nic.subnet_id)
    if count is not None and (type(count) is not int or count < 1):
        raise InvalidRequestError("count", count, "expected an int of at least 1")
    for index, group in enumerate(groups):
        check_id(f"security_groups[{index}]", group)
    if not isinstance(volumes, Sequence) or not all(isinstance(volume, DataVolume) for volume in volumes):
        raise InvalidRequestError("data_volumes", volumes, "expected disks, such as [DataVolume(type='SAS', size=100)]")


def _check_login(key_name: str | None, password: str | None) -> None:
    check_one_login(password, key_name)
    if password is not None:
        check_password("admin_password", password)
    if key_name is not None:
        check_native_name("key_name", key_name)


def _check_server_tags(tags: object) -> None:
    if not isinstance(tags, Mapping):
        raise InvalidRequestError("server_tags", tags, "expected a mapping of keys to values")
    for key, value in tags.items():
        if not isinstance(key, str) or not key or not isinstance(value, str):
            raise InvalidRequestError("server_tags", key, "expected a non-empty str with a str for its value")
