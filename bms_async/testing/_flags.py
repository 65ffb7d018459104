"""The flags of the simulator's command for the settings of a cloud."""

from __future__ import annotations

from bms_async.simulator import CloudSettings

__all__ = ["flags_of"]

_WITHOUT_FLAG = frozenset(
    {
        "anonymous_failures", "epoch", "job_hidden_seconds", "job_kept_seconds", "other_projects", "quota_cores",
        "quota_keypairs", "quota_ram", "shuffle_sub_jobs", "user_domain_id", "user_id",
    }
)  # fmt: skip


def flags_of(settings: CloudSettings) -> list[str]:
    """Return the flags for what is not as by default.

    Raises:
        ValueError: There is no flag for a setting.
    """
    flags: list[str] = []
    default = CloudSettings()
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if value == getattr(default, name):
            continue
        if name in _WITHOUT_FLAG:
            raise ValueError(f"{name}={value!r}: a simulator in a process of its own cannot be told this one")
        flag = f"--{name.replace('_', '-')}"
        match value:
            case _ if name == "limits":
                flags += [word for operation, limit in value.items() for word in ("--limit", f"{operation}={limit}")]
            case False:
                flags.append(f"--not-{name}")
            case True:
                flags.append(flag)
            case tuple():
                flags += [flag, *map(str, value)]
            case _:
                # In one word, for a value may begin with a minus.
                flags.append(f"{flag}={value}")
    return flags
