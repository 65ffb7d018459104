"""Writing an error as plain data."""

from __future__ import annotations

from typing import Any, Final

from bms_async.errors import BmsError, CallError, ForeignCodeError, InvalidRequestError, SubJobFailedError
from bms_async.models import Job, Server

from ._classes import args_of_sub_job, derive, fields_of, is_ours, nearest
from ._values import MAX_DEPTH, MAX_SHOWN, NO_DATA, plain, plain_args, plain_argument, text_of, write_model

_MAX_ERRORS: Final = 32
_MAX_PREVIOUS: Final = 16
_MAX_NOTES: Final = 32


def to_plain(error: BmsError) -> dict[str, object]:
    """Return an error as dicts, lists, texts and numbers, which JSON and MessagePack can hold.

    Left out are attributes that are not data, the context, the traceback, and what lies more than 8 errors deep or
    comes after the 32nd error. A job with more than 50 sub-jobs is written without them.

    Args:
        error: The error; it is not changed.
    """
    return _Writer().write(error) or {}


class _Writer:
    """Writes one error, and those that it refers to as long as there are few."""

    def __init__(self) -> None:
        self._left = _MAX_ERRORS
        self._path: list[BaseException] = []

    def write(self, error: BaseException, *, is_foreign: bool = False) -> dict[str, object] | None:
        """Return an error as data; None if it is too deep, one too many, or a cause of itself.

        Args:
            error: The error.
            is_foreign: Whether it is to be written as foreign even if it is one of ours.
        """
        if not self._left or len(self._path) == MAX_DEPTH or any(each is error for each in self._path):
            return None
        self._left -= 1
        self._path.append(error)
        is_foreign = is_foreign or not isinstance(error, BmsError)
        # Before the attributes, for the errors of other attempts may be too many for both.
        cause = None if error.__cause__ is None else self.write(error.__cause__, is_foreign=is_foreign)
        written = _write_foreign(error) if is_foreign else self._write_own(error)  # type: ignore[arg-type]
        notes = getattr(error, "__notes__", None)
        if notes and type(notes) in (list, tuple):
            written["notes"] = [plain(note) for note in notes[:_MAX_NOTES] if isinstance(note, str)]
        if cause is not None:
            written["cause"] = cause
        self._path.pop()
        return written

    def _write_own(self, error: BmsError) -> dict[str, object]:
        kind = type(error)
        own = nearest(kind)
        attributes, models, errors = self._write_attributes(error, own)
        bases = [each.__name__ for each in kind.__mro__[1:] if each is not BmsError and is_ours(each)]
        written: dict[str, object] = {"class": kind.__name__ if own is kind else _name_of(kind)}
        # A class of the application's may have a text that is not made of its arguments.
        args: list[object] = plain_args(error) if own is kind else [text_of(error)]
        if kind is not SubJobFailedError or not _gives_again(attributes, args):
            written["args"] = args
        parts = {"bases": bases, "attributes": attributes, "models": models, "errors": errors}
        written |= {name: part for name, part in parts.items() if part}
        if isinstance(error, CallError) and _ask(error, "maybe_done", otherwise=True):
            written["maybe_done"] = True
        if "code" not in vars(error) and isinstance(code := _ask(error, "code", otherwise=None), str):
            # It follows from an attribute, but a version that lacks this class cannot know from which.
            written["code"] = plain(code)
        return written

    def _write_attributes(
        self, error: BmsError, own: type[BmsError]
    ) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
        fields = fields_of(own)
        attributes: dict[str, object] = {}
        models: dict[str, object] = {}
        errors: dict[str, object] = {}
        for name, value in vars(error).items():
            if name not in fields and name.startswith("_"):
                continue
            if isinstance(value, Job | Server):
                models[name] = write_model(value)
            elif isinstance(value, BmsError):
                errors[name] = self.write(value)
            elif (name == "previous" and name in fields) or _has_errors(value):
                errors |= {name: found} if (found := self._write_all(value)) else {}
            elif value is not None or name not in fields:
                is_argument = own is InvalidRequestError and name == "value"
                written = plain_argument(value) if is_argument else plain(value)
                if written is not NO_DATA:
                    attributes[name] = written
        for name, value in derive(own, attributes).items():
            if attributes.get(name) == value:
                attributes.pop(name, None)
        return attributes, models, errors

    def _write_all(self, errors: object) -> list[object]:
        if not isinstance(errors, list | tuple):
            return []
        written = (self.write(each) for each in errors[-_MAX_PREVIOUS:] if isinstance(each, BmsError))
        return [each for each in written if each is not None]


def _write_foreign(error: BaseException) -> dict[str, object]:
    name, text = _name_of(type(error)), text_of(error)[:MAX_SHOWN]
    return {"class": ForeignCodeError.__name__, "args": [f"{name}: {text}" if text else name]}


def _gives_again(attributes: dict[str, object], args: list[object]) -> bool:
    """Return whether the attributes of a `SubJobFailedError` give its text again."""
    texts = [attributes.get(name) for name in ("code", "reason", "job_reason")]
    are_read = isinstance(attributes.get("server_id"), str) and isinstance(attributes.get("job_id"), str)
    return are_read and all(isinstance(text, str | None) for text in texts) and args == args_of_sub_job(attributes)


def _has_errors(value: Any) -> bool:
    return type(value) in (list, tuple) and any(isinstance(each, BmsError) for each in value)


def _name_of(kind: type) -> str:
    """Return the name of a foreign class, which differs from the names of ours."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _ask(error: BmsError, name: str, *, otherwise: object) -> object:
    try:
        return getattr(error, name, otherwise)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a class of the application's may raise anything here
        return otherwise
