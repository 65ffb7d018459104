"""Makes pages of docstrings that were written to be read in a terminal too.

- A line ``::`` and what is indented below it is an example.
- A public name in single quotes is a link.
- All fields of a Struct and all members of an enum are listed, whether the docstring tells of them or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<indent> *)(?P<text>.*?)::\n\n(?P<code>(?:(?P=indent) {4}.*\n|\n)+)", re.MULTILINE)
_NAME = re.compile(r"(?<![`\[])`([A-Za-z_]\w*)`(?!`)")
_ATTRIBUTES = re.compile(r"^Attributes:\n(?P<rows>(?: {4}.*\n|\n(?= {4}))+)", re.MULTILINE)
_ROW = re.compile(r"^ {4}(\w+):", re.MULTILINE)
_OWN = "bms_async"


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite them, before any of them is taken apart."""
        del kwargs
        if pkg.path != _OWN:
            return
        public = {name: f"{_OWN}.{name}" for name in (str(each).strip("'\"") for each in pkg.exports or ())}
        for each in _objects(pkg):
            if isinstance(each, griffe.Class):
                _list_fields(each)
            if each.docstring is not None:
                each.docstring.value = _linked(_examples(each.docstring.value), public, besides=each.name)


def _objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias and isinstance(member, griffe.Object):
            yield from _objects(member)


def _examples(text: str) -> str:
    def fenced(found: re.Match[str]) -> str:
        indent, before = found["indent"], found["text"]
        code = [line.removeprefix(f"{indent}    ") for line in found["code"].strip("\n").split("\n")]
        language = "sh" if code[0].startswith(("base64", "python ")) else "python"
        body = "\n".join(f"{indent}{line}".rstrip() for line in [f"```{language}", *code, "```"])
        return (f"{indent}{before}:\n\n" if before else "") + body + "\n\n"

    return _EXAMPLE.sub(fenced, f"{text}\n").rstrip("\n")


def _linked(text: str, public: dict[str, str], *, besides: str) -> str:
    def link(found: re.Match[str]) -> str:
        name = found[1]
        return f"[`{name}`][{public[name]}]" if name in public and name != besides else found[0]

    # What is fenced stays as it is.
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.lstrip().startswith("```") else _NAME.sub(link, part) for part in parts)


def _list_fields(each: griffe.Class) -> None:
    enum = any("Enum" in str(base) for base in each.bases)
    if not enum and not _is_struct(each):
        return
    fields = [name for name, member in each.members.items() if _is_field(name, member, enum=enum)]
    if not fields or each.docstring is None:
        return
    text = f"{each.docstring.value}\n"
    found = _ATTRIBUTES.search(text)
    told = dict(_rows(found["rows"])) if found else {}
    rows = "".join(f"    {name}: {told.get(name) or _plain(each, name)}\n" for name in fields)
    rows += "".join(f"    {name}: {words}\n" for name, words in told.items() if name not in fields)
    section = f"Attributes:\n{rows}\n"
    text = text[: found.start()] + section + text[found.end() :] if found else f"{text}\n{section}"
    each.docstring.value = text.rstrip("\n")


def _rows(text: str) -> Iterable[tuple[str, str]]:
    starts = [*_ROW.finditer(text)]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        yield start[1], text[start.end() : following.start() if following else None].strip()


def _plain(each: griffe.Class, name: str) -> str:
    member = each.members[name]
    # The template leaves three dots out.
    return f"`{member.value}`" if isinstance(member, griffe.Attribute) and not member.annotation else "…"


def _is_struct(each: griffe.Class) -> bool:
    if any(str(base).rpartition(".")[2] in {"Struct", "Model"} for base in each.bases):
        return True
    return any(isinstance(base, griffe.Class) and _is_struct(base) for base in each.resolved_bases)


def _is_field(name: str, member: griffe.Object | griffe.Alias, *, enum: bool) -> bool:
    if name.startswith("_") or not member.is_attribute or "property" in member.labels:
        return False
    return enum or ("class-attribute" in member.labels or "instance-attribute" in member.labels)
