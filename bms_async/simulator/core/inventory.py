"""All machines of the project, with filters that are ranges of indices where possible."""

import random
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from typing import Final

from bms_async.simulator.core.attributes import Attributes, CreationSpec, flavor_of, name_of, reservation_of, tags_of
from bms_async.simulator.core.flavors import FLAVORS, Flavor
from bms_async.simulator.core.servers import (
    ACTIVE,
    BUILD,
    GONE,
    SHUTOFF,
    STATUSES,
    Filters,
    Server,
    Statuses,
    VirtualMachine,
)
from bms_async.simulator.core.settings import CloudSettings

__all__ = ["Inventory"]

_TAG_NAMES: Final = {"", "__type_baremetal", "_type_baremetal"}


class Inventory:
    """All machines of the project.

    A server's rack, flavor, name and reservation follow from its index, so that a filter is a range and not a search.
    Servers that were created or changed later are few, and are checked one by one.

    Attributes:
        by_id: The bare-metal servers.
        machines: The virtual machines, by id.
        extras: The attributes that do not follow from a machine's index, by its id.
        never_back: The ids of the servers that are never reachable again after an action that leaves them on.
    """

    __slots__ = (
        "_base", "_changed", "_gone", "_order", "_rack_size", "_rows", "_seed", "_statuses", "_totals", "_vm_statuses",
        "by_id", "extras", "machines", "never_back",
    )  # fmt: skip

    def __init__(self, settings: CloudSettings) -> None:
        total, seed = settings.servers, settings.seed
        self._seed = seed
        self._base = total
        self._gone = 0
        self._changed: set[int] = set()
        self._rack_size = settings.rack_size
        self._statuses = Statuses(bytes([ACTIVE]) * total, settings.rack_size)
        draw = random.Random(f"{seed}/ids").getrandbits
        self._order = [Server(_uuid(draw(128)), i, self._statuses) for i in range(total)]
        self.by_id = {server.id: server for server in self._order}
        self.extras: dict[str, Attributes] = {}
        for i in _share(f"{seed}/stopped", total, settings.stopped_share):
            self._statuses[i] = SHUTOFF
        for i in _share(f"{seed}/faulty", total, settings.fail_share):
            self._order[i].faulty = True
        self.never_back = {self._order[i].id for i in _share(f"{seed}/never_back", total, settings.never_back_share)}
        for i in _share(f"{seed}/windows", total, settings.windows_share):
            extra = self.record(self._order[i])
            extra.windows, extra.password = True, f"simulated/encrypted+{i:06d}=="
        self._vm_statuses = Statuses(bytes([ACTIVE]) * settings.virtual_machines, settings.rack_size)
        draw = random.Random(f"{seed}/machines").getrandbits
        machines = [VirtualMachine(_uuid(draw(128)), i, self._vm_statuses) for i in range(settings.virtual_machines)]
        self.machines = {machine.id: machine for machine in machines}
        self._rows = _mix(self._order, machines) if machines else None
        self._totals = [total, 0, 0]
        for index, flavor in enumerate(FLAVORS):
            count = len(range(index, total, len(FLAVORS)))
            self._totals[1] += count * int(flavor.vcpus)
            self._totals[2] += count * int(flavor.ram)

    @property
    def used(self) -> tuple[int, int, int]:
        """Bare-metal servers, their cores and their memory."""
        servers, cores, ram = self._totals
        return servers, cores, ram

    def record(self, server: Server) -> Attributes:
        """Return the attributes of a server that do not follow from its index, for writing."""
        return self.extras.setdefault(server.id, Attributes())

    def mark(self, server: Server) -> None:
        """Mark a server whose attributes no longer follow from its index."""
        if not server.virtual:
            self._changed.add(server.index)

    def add(self, birth: CreationSpec, name: str, rng: random.Random) -> Server:
        """Add a machine, in status BUILD."""
        virtual = not birth.flavor.board
        statuses = self._vm_statuses if virtual else self._statuses
        kind = VirtualMachine if virtual else Server
        server = kind(_uuid(rng.getrandbits(128)), len(statuses), statuses)
        statuses.append(BUILD)
        if isinstance(server, VirtualMachine):
            self.machines[server.id] = server
            self._rows = self._rows or list(self._order)
        else:
            self._order.append(server)
            self.by_id[server.id] = server
            self._count(birth.flavor, 1)
            self.mark(server)
        if self._rows is not None:
            self._rows.append(server)
        extra = self.record(server)
        extra.birth, extra.name = birth, name
        return server

    def remove(self, server: Server) -> None:
        """Remove a machine; its index stays unused, and lists of changes still show it."""
        if isinstance(server, VirtualMachine):
            self.machines.pop(server.id, None)
        elif self.by_id.pop(server.id, None) is not None:
            self._gone += 1
            self._count(flavor_of(server, self.extras.get(server.id)), -1)
        extra = self.extras.pop(server.id, None)
        if extra is not None and (extra.birth is not None or extra.name is not None):
            kept = self.extras[server.id] = Attributes()
            kept.birth, kept.name = extra.birth, extra.name

    def rows(self) -> Sequence[Server]:
        """Return all machines, the oldest first, including removed ones."""
        return self._order if self._rows is None else self._rows

    def servers(self) -> Sequence[Server]:
        """Return the bare-metal servers, the oldest first, including removed ones and those that are yet to come."""
        return self._order

    def count(self) -> dict[str, int]:
        """Return how many servers are in each status; rare statuses only if there are any."""
        counts = dict.fromkeys(STATUSES.values(), 0)
        for code, name in STATUSES.items():
            counts[name] += self._statuses.count(code)
        return {name: n for name, n in counts.items() if n or name not in {"BUILD", "ERROR"}}

    def find(self, filters: Filters, first: int, most: int) -> tuple[int, list[Server]]:
        """Return how many servers match, and `most` of them from the `first` one on."""
        candidates = self._candidates(filters)
        if filters.status is None and not self._gone:
            return len(candidates), [self._order[i] for i in candidates[first : first + most]]
        status = filters.status
        fits = (code != GONE if status is None else STATUSES.get(code) == status for code in range(256))
        mask = self._codes(candidates).translate(bytes(fits))
        page = islice(compress(candidates, mask), first, first + most)
        return mask.count(1), [self._order[i] for i in page]

    def _codes(self, candidates: Sequence[int]) -> bytes | bytearray:
        if isinstance(candidates, range):
            return self._statuses[candidates.start : candidates.stop : candidates.step]
        return bytes(self._statuses[i] for i in candidates)

    def _candidates(self, filters: Filters) -> Sequence[int]:
        ranges = list(self._ranges(filters))
        if not ranges:
            return range(len(self._order))
        smallest = min(ranges, key=len)
        others = [each for each in ranges if each is not smallest]
        if not self._changed:
            return [i for i in smallest if all(i in each for each in others)] if others else smallest
        changed = self._changed
        found = [i for i in smallest if i not in changed and all(i in each for each in others)]
        found.extend(i for i in changed if self._matches(self._order[i], filters))
        found.sort()
        return found

    def _matches(self, server: Server, filters: Filters) -> bool:
        extra = self.extras.get(server.id)
        return (
            filters.flavor in {None, flavor_of(server, extra).name}
            and filters.name in {None, name_of(server, extra)}
            and _asked(filters) <= {*tags_of(server, extra), *_TAG_NAMES}
            and filters.reservation_id in {None, reservation_of(server, extra)}
            and filters.enterprise_project_id in {None, "0", "all_granted_eps"}
        )

    def _ranges(self, filters: Filters) -> Iterator[range]:
        """Yield for each filter the range of initial servers that match."""
        total = self._base
        if filters.flavor is not None:
            names = [flavor.name for flavor in FLAVORS]
            kind = names.index(filters.flavor) if filters.flavor in names else total
            yield range(kind, total, len(FLAVORS))
        if filters.name is not None:
            index = _number(filters.name, "bms-")
            yield _within(index, 1, total) if index is None or filters.name == f"bms-{index:06d}" else range(0)
        for tag in _asked(filters):
            yield _within(_number(tag, "rack-"), self._rack_size, total)
        if filters.reservation_id is not None:
            yield _within(_number(filters.reservation_id, "r-rack"), self._rack_size, total)
        if filters.enterprise_project_id not in {None, "0", "all_granted_eps"}:
            yield range(0)

    def _count(self, flavor: Flavor, sign: int) -> None:
        for index, amount in enumerate((1, int(flavor.vcpus), int(flavor.ram))):
            self._totals[index] += sign * amount


def _asked(filters: Filters) -> set[str]:
    return set((filters.tags or "").split(",")) - _TAG_NAMES


def _mix(servers: list[Server], machines: list[VirtualMachine]) -> list[Server]:
    """Mix the virtual machines evenly among the servers, as if both had been created in turn."""
    positions = [((i + 0.5) / len(servers), 0, server) for i, server in enumerate(servers)]
    positions += [((i + 0.5) / len(machines), 1, machine) for i, machine in enumerate(machines)]
    positions.sort(key=lambda position: position[:2])
    return [machine for _, _, machine in positions]


def _uuid(bits: int) -> str:
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _share(seed: str, total: int, share: float) -> list[int]:
    return random.Random(seed).sample(range(total), round(total * share))


def _number(text: str, prefix: str) -> int | None:
    digits = text.removeprefix(prefix)
    if not text.startswith(prefix) or not digits.isdecimal() or not digits.isascii():
        return None
    return int(digits)


def _within(index: int | None, size: int, total: int) -> range:
    if index is None:
        return range(0)
    return range(min(index * size, total), min((index + 1) * size, total))
