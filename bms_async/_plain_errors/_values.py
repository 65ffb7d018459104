"""Values as plain data: without secrets, and such as both JSON and MessagePack can hold."""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import msgspec

from bms_async.errors.base import show_value
from bms_async.models import Job, JobEntities, Server, convert
from bms_async.redaction import MASK, MaskedStr, Secret, SecretBytes, SecretStr

MAX_DEPTH: Final = 8
"""How deep errors and the values of their attributes are written and read."""

MAX_SHOWN: Final = 1024
"""Most characters of a foreign error's text, and of an argument that was refused."""

NO_DATA: Final[Any] = object()
"""What a value that is not data becomes: it is left out."""

_MAX_SUB_JOBS: Final = 50
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

_SERVER_FIELDS: Final = (
    "id",
    "name",
    "status",
    "vm_state",
    "task_state",
    "power_state",
    "created",
    "updated",
    "tenant_id",
    "availability_zone",
    "fault",
)
"""Which server it is and how it is. Its metadata and injected data may hold a password, and are not written."""


def plain(value: object, depth: int = 1) -> Any:
    """Return a value as data without secrets, `NO_DATA` if it is none.

    Args:
        value: Anything.
        depth: In how many collections it is, itself included.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | SecretBytes | Secret):
        return _plain_text(value)
    if isinstance(value, int | float):
        return _plain_number(value)
    # Exactly these: what a class of the application's does when it is iterated may be anything.
    is_collection = type(value) in (list, tuple, dict) and depth <= MAX_DEPTH
    return _plain_parts(value, depth) if is_collection else NO_DATA  # type: ignore[arg-type]


def _plain_text(value: str | SecretBytes | Secret) -> str:
    if type(value) is str:
        return encodable(value)
    if isinstance(value, SecretStr) or not isinstance(value, str):
        return MASK
    return encodable(value.masked if isinstance(value, MaskedStr) else str.__str__(value))


def _plain_number(value: float) -> Any:
    if isinstance(value, int):
        number = int.__int__(value)
        return number if _SMALLEST <= number <= _LARGEST else NO_DATA
    # JSON has neither; the largest number compares as infinity does.
    return None if math.isnan(value) else max(-sys.float_info.max, min(sys.float_info.max, float.__float__(value)))


def _plain_parts(value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> Any:
    if isinstance(value, dict):
        pairs = [(_plain_text(key), plain(each, depth + 1)) for key, each in value.items() if isinstance(key, str)]
        return {key: each for key, each in pairs if each is not NO_DATA}
    items = [plain(each, depth + 1) for each in value]
    return NO_DATA if any(each is NO_DATA for each in items) else items


def plain_argument(value: object) -> object:
    """Return an argument that was refused; one that is long, or no single value, as errors show it."""
    written = NO_DATA if isinstance(value, list | tuple | dict) else plain(value)
    if written is NO_DATA:
        return encodable(show_value(value))
    return show_value(written) if isinstance(written, str) and len(written) > MAX_SHOWN else written


def plain_args(error: BaseException) -> list[object]:
    """Return the arguments that give an error's text again: its own if they are data, else the text."""
    args: list[object] = []
    for each in error.args:
        is_shown_alike = each is None or type(each) in (str, bool, int, float, MaskedStr, SecretStr)
        written = plain(each) if is_shown_alike else NO_DATA
        if written is NO_DATA or (isinstance(each, float) and written != each):
            return [text_of(error)]
        args.append(written)
    return args


def text_of(error: BaseException) -> str:
    """Return the text of an error whose class may be foreign, without secrets."""
    if any(isinstance(each, SecretStr | SecretBytes) for each in error.args):
        # Their str is the plain text, their repr is not.
        return encodable(", ".join(map(show_value, error.args)))
    try:
        return _plain_text(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001 - foreign code, which must not replace the error
        return f"<a {type(error).__name__} whose text raises {type(failure).__name__}>"


def encodable(text: str) -> str:
    """Return a text that UTF-8 has: the same, unless it has half of a surrogate pair."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def write_model(model: Job | Server) -> object:
    """Return what a user needs of a model, as data.

    Args:
        model: A job, written without its sub-jobs if they are more than 50; or a server.
    """
    if isinstance(model, Server):
        model = Server(**{name: getattr(model, name) for name in _SERVER_FIELDS})
    elif model.entities is not None and len(model.sub_jobs) > _MAX_SUB_JOBS:
        about = {name: getattr(model.entities, name) for name in ("server_id", "nic_id", "errorcode_message")}
        short = JobEntities(sub_jobs_total=model.sub_jobs_total, **about)
        model = msgspec.structs.replace(model, entities=short)
    return _without_absent(msgspec.to_builtins(model, enc_hook=_write_odd))


def read_model(written: object, kind: type[Job | Server]) -> Job | Server | None:
    """Return a model that `write_model` wrote; None if it cannot be read.

    Args:
        written: What was read; it may be anything.
        kind: The model's class.
    """
    try:
        return convert(written, kind)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError):
        return None


def _write_odd(value: object) -> object:
    """Return what msgspec cannot write as data: a masked text, and whatever an application put into a model."""
    written = plain(value)
    return show_value(value) if written is NO_DATA else written


def _without_absent(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_absent(each) for key, each in value.items() if each is not None and each != {}}
    if isinstance(value, list | tuple):
        return [_without_absent(each) for each in value]
    written = plain(value)
    return None if written is NO_DATA else written
