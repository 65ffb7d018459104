"""How bare-metal servers are told from the virtual machines that share the native lists.

Nova itself does not say which of its servers are bare metal. The clouds of the API reference set a tag, and their
flavors begin with ``physical.``; other clouds have neither, and there a list by those signs is empty. So the sign is
a setting of the client and of each list, and a list that read servers and kept none of them says so in the log, once
a client.

What only a flavor shows is read once a flavor, when a list first meets it, and kept for as long as the client is.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
import msgspec

from bms_async.errors import InvalidRequestError, NotFoundError
from bms_async.models import BARE_METAL_TAG, BriefServer, Flavor, Server
from bms_async.session import Session
from bms_async.validation.native import check_text

from .flavor_operations import EXTRA_SPECS, GET

_log = logging.getLogger("bms_async.nova")

_FORMS: Final = "'tag:NAME', 'flavor_prefix:PREFIX', 'extra_spec:KEY=VALUE' or 'all'"


class BareMetal(msgspec.Struct, frozen=True, kw_only=True):
    """The sign by which bare-metal servers are told from virtual machines in the lists of ``bms.nova``.

    ::

        bms = BmsClient.from_cloud(bare_metal=BareMetal.by_flavor_prefix("bm."))

    A server is bare metal if it has one of the signs that are set; if none is set, every server is. Without any
    `BareMetal` it is the tag ``__type_baremetal`` or a flavor that begins with ``physical.``.

    Attributes:
        tag: A tag of the server; the brief list has the cloud filter by it.
        flavor_prefix: How the id or the name of the server's flavor begins.
        extra_spec: A key and a value of the flavor's extra specs.
    """

    tag: str | None = None
    flavor_prefix: str | None = None
    extra_spec: tuple[str, str] | None = None

    @classmethod
    def by_tag(cls, tag: str = BARE_METAL_TAG) -> BareMetal:
        """Return the sign of a tag.

        Args:
            tag: The tag of every bare-metal server, and of no virtual machine.

        Raises:
            InvalidRequestError: It is empty.
        """
        return cls(tag=check_text("tag", tag))

    @classmethod
    def by_flavor_prefix(cls, prefix: str) -> BareMetal:
        """Return the sign of a flavor whose id or name begins with a text.

        Where the id of a flavor does not begin so, its name is read, once a flavor.

        Args:
            prefix: How it begins, such as ``bm.``.

        Raises:
            InvalidRequestError: It is empty.
        """
        return cls(flavor_prefix=check_text("prefix", prefix))

    @classmethod
    def by_extra_spec(cls, key: str, value: str) -> BareMetal:
        """Return the sign of a flavor that has an extra spec, which is read once a flavor.

        Args:
            key: Its key, such as ``capabilities:hypervisor_type``.
            value: Its value, such as ``ironic``.

        Raises:
            InvalidRequestError: One of them is empty.
        """
        return cls(extra_spec=(check_text("key", key), check_text("value", value)))

    @classmethod
    def all(cls) -> BareMetal:
        """Return the setting for a cloud without virtual machines: every server counts as bare metal."""
        return cls()

    @classmethod
    def parse(cls, text: str) -> BareMetal:
        """Return the sign that a text describes, as ``BMS_BARE_METAL`` and ``bms_bare_metal`` have it.

        Args:
            text: ``tag:NAME``, ``flavor_prefix:PREFIX``, ``extra_spec:KEY=VALUE`` or ``all``.

        Raises:
            InvalidRequestError: It is none of these.
        """
        kind, _, rest = text.strip().partition(":")
        if kind == "tag" and rest:
            return cls.by_tag(rest)
        if kind == "flavor_prefix" and rest:
            return cls.by_flavor_prefix(rest)
        # Keys of extra specs have colons of their own.
        key, _, value = rest.partition("=")
        if kind == "extra_spec" and key and value:
            return cls.by_extra_spec(key, value)
        if text.strip() == "all":
            return cls.all()
        raise InvalidRequestError("bare_metal", text, f"expected {_FORMS}")

    @property
    def is_all(self) -> bool:
        """Whether every server counts as bare metal."""
        return self.tag is None and self.flavor_prefix is None and self.extra_spec is None

    @property
    def needs_details(self) -> bool:
        """Whether the brief list does not show it, and the cloud cannot filter by it."""
        return self.tag is None and not self.is_all

    def __str__(self) -> str:
        signs = [
            None if self.tag is None else f"the tag {self.tag}",
            None if self.flavor_prefix is None else f"a flavor that begins with {self.flavor_prefix}",
            None if self.extra_spec is None else "the extra spec {}={}".format(*self.extra_spec),
        ]
        return " or ".join(sign for sign in signs if sign) or "no sign"


DEFAULT: Final = BareMetal(tag=BARE_METAL_TAG, flavor_prefix="physical.")
"""The signs of the clouds of the API reference (table 4-7 and 5.6.1)."""


class BareMetalFilter:
    """Applies a client's setting to all of its lists, and remembers what flavors show.

    Args:
        setting: The client's setting; None for that of the API reference.
    """

    def __init__(self, setting: BareMetal | None = None) -> None:
        self._setting = DEFAULT if setting is None else setting
        self._flavors: dict[tuple[BareMetal, str], bool] = {}
        self._reading = anyio.Lock()
        self._has_warned = False

    def choose(self, wanted: bool | BareMetal, *, check: bool) -> BareMetal:  # noqa: FBT001 - a caller's argument
        """Return the setting for one list.

        Args:
            wanted: ``True`` for the client's setting, ``False`` for all servers, or a setting of the list's own.
            check: Whether to refuse anything else.

        Raises:
            InvalidRequestError: It is none of these.
        """
        if isinstance(wanted, BareMetal):
            return wanted
        if check and not isinstance(wanted, bool):
            raise InvalidRequestError("bare_metal_only", wanted, "expected True, False or a BareMetal")
        return self._setting if wanted else BareMetal.all()

    def judge(self, server: Server, setting: BareMetal) -> bool | None:
        """Return whether a server is bare metal; None if its flavor must be read to know."""
        if setting.is_all or (setting.tag is not None and setting.tag in server.tags):
            return True
        flavor = server.flavor
        if flavor is None:
            return False
        if setting.flavor_prefix is not None and _begins((flavor.id, flavor.name), setting.flavor_prefix):
            return True
        if not setting.needs_details or flavor.id is None:
            return False
        return self._flavors.get((setting, flavor.id))

    async def find_out(self, session: Session, server: Server, setting: BareMetal) -> bool:
        """Return whether a server is bare metal, by what its flavor shows.

        Raises:
            CallError: The flavor could not be read.
        """
        flavor_id = None if server.flavor is None else server.flavor.id
        if flavor_id is None:
            return False
        key = (setting, flavor_id)
        async with self._reading:
            if key not in self._flavors:
                self._flavors[key] = await _is_bare_metal_flavor(session, flavor_id, setting)
        return self._flavors[key]

    async def is_flavor_wanted(self, session: Session, flavor: Flavor, setting: BareMetal) -> bool:
        """Return whether a flavor is one of bare metal; a setting by tag alone says nothing of flavors.

        Raises:
            CallError: Its extra specs could not be read.
        """
        if setting.flavor_prefix is None and setting.extra_spec is None:
            return True
        if setting.flavor_prefix is not None and _begins((flavor.id or flavor.name,), setting.flavor_prefix):
            return True
        if (
            setting.needs_details
            and setting.flavor_prefix is not None
            and _begins((flavor.name,), setting.flavor_prefix)
        ):
            return True
        return await _has_extra_spec(session, flavor.id, setting.extra_spec)

    def note_end(self, what: str, setting: BareMetal, *, read: int | None, kept: int) -> None:
        """Warn, once a client, of a list that left out everything.

        Args:
            what: The name of the call.
            setting: What was applied.
            read: How many there were before; None where the cloud filtered.
            kept: How many were left.
        """
        if kept or read == 0 or setting.is_all or self._has_warned:
            return
        self._has_warned = True
        _log.warning(
            "%s: %s has %s, by which bare metal is told from virtual machines; if this cloud shows it otherwise, set "
            "BmsClient(bare_metal=BareMetal...), BMS_BARE_METAL or bms_bare_metal in clouds.yaml (%s), or list "
            "everything with bare_metal_only=False",
            what,
            "no server" if read is None else f"none of {read} listed",
            setting,
            _FORMS,
        )


async def _is_bare_metal_flavor(session: Session, flavor_id: str, setting: BareMetal) -> bool:
    if setting.flavor_prefix is not None:
        try:
            flavor = (await session.call(GET, path={"flavor_id": flavor_id})).flavor
        except NotFoundError:
            # A flavor may be deleted, or hidden from this project, while servers have it.
            return False
        if _begins((flavor.id, flavor.name), setting.flavor_prefix):
            return True
    return await _has_extra_spec(session, flavor_id, setting.extra_spec)


async def _has_extra_spec(session: Session, flavor_id: str, wanted: tuple[str, str] | None) -> bool:
    if wanted is None:
        return False
    key, value = wanted
    try:
        response = await session.call(EXTRA_SPECS, path={"flavor_id": flavor_id})
    except NotFoundError:
        return False
    return bool(response.extra_specs) and dict(response.extra_specs or {}).get(key) == value


def _begins(names: tuple[str | None, ...], prefix: str) -> bool:
    return any(name is not None and name.startswith(prefix) for name in names)


def to_brief(server: Server) -> BriefServer:
    """Return what the brief list shows of a server."""
    return BriefServer(id=server.id, name=server.name, links=server.links)
