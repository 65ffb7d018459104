"""What the pages say in tables and links is true: codes, names, rules, files."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from huaweicloudsdkbms import v1 as vendor
from openstack.compute.v2 import _proxy

import bms_async
from bms_async import BmsClient, Limits, StaticToken
from bms_async.api import operations
from bms_async.errorcodes import ERROR_CODES
from bms_async.journal.schema import TABLES
from tests.docs.blocks import ROOT, pages
from tests.docs.codes import COMMAND, PAGE, render

GUIDES = ROOT / "docs" / "guides"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def resolve(dotted: str) -> object:
    """Return what ``bms.servers.get`` and the like name."""
    found: object = CLIENT
    for name in dotted.split(".")[1:]:
        found = getattr(found, name)
    return found


CLIENT = BmsClient(endpoint="http://localhost", project_id="p", auth=StaticToken("token"), limits=Limits())


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not set(line) <= set("|- ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_of_error_codes_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(ERROR_CODES.values()), f"write it with: {COMMAND}"


def test_the_guide_to_errors_tells_of_every_class() -> None:
    told = {name for row in rows(read("docs/guides/errors.md")) for name in re.findall(r"\[bms_async\.(\w+)\]", row[0])}
    common = {"BmsError", "CallError", "ApiError", "JobError", "ServerWaitError"}
    classes = {
        name for name in bms_async.errors.__all__ if issubclass(getattr(bms_async.errors, name), bms_async.BmsError)
    }
    assert told == classes - common
    assert all(f"bms_async.{name}]" in read("docs/guides/errors.md") for name in common)


def test_the_statuses_in_the_guide_to_errors_are_those_of_the_classes() -> None:
    from bms_async.errors.calls import error_class

    for row in rows(read("docs/guides/errors.md")):
        found = re.match(r"\[`(\w+)`\]", row[0])
        status = re.match(r"(\d{3})\b", row[1])
        if found and status:
            assert error_class(int(status[1]), None).__name__ == found[1]


@pytest.mark.parametrize("page", pages())
def test_every_method_that_a_page_names_is_there(page: str) -> None:
    measured = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bms_async" / "telemetry").glob("*.py"))
    for name in set(re.findall(r"`(bms\.[a-z_]+(?:\.[a-z_]+)*)[`(]", read(page))):
        assert f'"{name}"' in measured or resolve(name) is not None, f"{page}: {name}"


@pytest.mark.parametrize("page", pages())
def test_every_name_that_a_page_links_is_public(page: str) -> None:
    for name in set(re.findall(r"\]\[bms_async\.(\w+)", read(page))):
        assert name in bms_async.__all__, f"{page}: {name}"


@pytest.mark.parametrize("page", pages())
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    for name in set(re.findall(r"`((?:tests|benchmarks|examples|docs)/[\w/]+\.\w+)`", read(page))):
        assert (ROOT / name).is_file(), f"{page}: {name}"


def test_the_tests_that_the_design_names_for_a_rule_are_about_it() -> None:
    told = [row for row in rows(read("docs/design.md")) if re.fullmatch(r"R\d+", row[0])]
    assert [row[0] for row in told] == [f"R{number}" for number in range(1, 11)]
    for rule, _, _, tests in told:
        for name in re.findall(r"`(tests/[\w/]+\.py)`", tests):
            assert re.search(rf"\b{rule}\b|_{rule.lower()}_", read(name)), f"{name} says nothing of {rule}"


def test_the_guide_grants_the_rights_on_every_table_of_the_journal() -> None:
    tables = {found[1] for table in TABLES if (found := re.search(r"CREATE TABLE (\w+)", table))}
    granted = re.findall(r"\bbms_async_[a-z]+\b", read("docs/guides/when-a-process-dies.md").partition("\nGRANT ")[2])
    assert tables | {"bms_async_journal"} == set(granted)


def vendor_calls() -> dict[str, tuple[str, str]]:
    """Return the vendor's methods, and the HTTP method and path of each."""
    calls = {}
    for name, function in inspect.getmembers(vendor.BmsClient):
        if made := re.fullmatch(r"_(\w+)_http_info", name):
            source = inspect.getsource(function)
            method, path = (re.search(rf'"{key}": "([^"]+)"', source) for key in ("method", "resource_path"))
            assert method
            assert path
            calls[made[1]] = method[1], re.sub(r"{\w+}", "{}", path[1])
    return calls


def test_every_method_of_the_vendor_has_its_counterpart() -> None:
    ours: dict[tuple[str, str], set[str]] = {}
    for each in operations():
        ours.setdefault((each.method, re.sub(r"{\w+}", "{}", each.path)), set()).add(f"bms.{each.name}")
    told = {
        name: row[1]
        for row in rows(read("docs/guides/coming-from-the-vendor.md"))
        for name in re.findall(r"`(\w+)`", row[0])
    }
    for name, call in vendor_calls().items():
        assert name in told, name
        there = set(re.findall(r"`(bms\.[\w.]+)`", told[name])) & ours.get(call, set())
        assert bool(there) == (call in ours), f"{name} is {call}: {told[name]}"
        assert call in ours or told[name].startswith("not in the API reference"), name


def test_fields_of_the_vendors_servers_have_the_names_that_are_told() -> None:
    page = rows(read("docs/guides/coming-from-the-vendor.md"))
    theirs = vendor.ServerDetails.attribute_map
    fields = [row for row in page if row[0].startswith(("`os_", "`access_"))]
    assert fields
    for row in fields:
        old, new = (re.findall(r"`(\w+)`", cell) for cell in row)
        assert len(old) == len(new)
        assert set(old) <= set(theirs)
        assert all(hasattr(bms_async.Server, name) for name in new)


def test_every_native_call_and_every_name_of_openstacksdk_is_told() -> None:
    page = rows(read("docs/guides/coming-from-openstacksdk.md"))
    start = page.index(["`connection.compute`", "`bms.nova`"])
    end = page.index(["`openstack.connect`", "`bms_async`"])
    told = page[start + 1 : end]
    ours = {f"nova.{name}" for row in told for name in re.findall(r"`((?:[a-z_]+)\.(?:[a-z_]+))\b", row[1])}
    native = {each.name for each in operations() if each.name.startswith("nova.")}
    assert native <= ours
    for name in ours - {"nova.bms.servers"}:
        assert resolve(f"bms.{name}") is not None
    theirs = {name for row in told for name in re.findall(r"`([a-z_]+)", row[0])}
    assert {name for name in theirs if not hasattr(_proxy.Proxy, name)} == set()


def test_every_guide_is_to_be_found_from_the_first_page() -> None:
    linked = set(re.findall(r"\]\(guides/([\w-]+\.md)\)", read("docs/index.md")))
    assert linked == {path.name for path in GUIDES.glob("*.md")}


def test_links_between_the_readme_and_the_pages_lead_to_files() -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read("README.md")):
        assert (ROOT / Path(link)).is_file(), link
