"""clouds.yaml: where it is looked for, what it says, and errors that name a file and a line and show nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import anyio.to_thread
import pytest
import yaml
from blockbuster import BlockingError
from hypothesis import given
from hypothesis import strategies as st

from bms_async import AkSkAuth, BmsClient, ConfigurationError, PasswordAuth, StaticToken
from bms_async.config import files, read_cloud
from tests.support.machine import patience

Tree = dict[str, Any]

AUTH = {
    "auth_url": "https://iam.example.com/v3",
    "username": "ann",
    "password": "SECRET-password",
    "user_domain_name": "acme",
    "project_id": "p",
}


def cloud(endpoint: str = "https://bms.example.com", **more: Any) -> Tree:
    return {"auth": AUTH, "bms_endpoint_override": endpoint, **more}


class Machine:
    """A home, a working directory and /etc of our own."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.cwd, self.home, self.site = root / "work", root / "home", root / "etc"
        self.user = self.home / ".config" / "openstack"
        for folder in (self.cwd, self.user, self.site):
            folder.mkdir(parents=True)
        self.environment: dict[str, str] = {}
        patch.chdir(self.cwd)
        patch.setenv("HOME", str(self.home))
        patch.setattr(files, "_SITE", self.site)

    def write(self, place: Path, clouds: Any, *, key: str = "clouds") -> Path:
        tree = {key: clouds}
        place.write_text(json.dumps(tree) if place.suffix == ".json" else yaml.safe_dump(tree), encoding="utf-8")
        return place

    def failure(self, name: str | None = None) -> str:
        with pytest.raises(ConfigurationError) as caught:
            read_cloud(name, self.environment)
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None or "SECRET" not in repr(vars(caught.value.__context__))
        return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


# Where.


@pytest.mark.parametrize("xdg", [False, True])
def test_the_first_file_wins_in_the_order_of_openstack(machine: Machine, tmp_path: Path, xdg: bool) -> None:
    folders = [machine.cwd, machine.user, machine.site]
    if xdg:
        own = tmp_path / "xdg" / "openstack"
        own.mkdir(parents=True)
        machine.environment["XDG_CONFIG_HOME"] = str(own.parent)
        folders.insert(1, own)
    places = [folder / f"clouds{suffix}" for folder in folders for suffix in (".yaml", ".yml", ".json")]
    for position, place in enumerate(places):
        machine.write(place, {"a": cloud(f"https://host{position}")})

    for position, place in enumerate(places):
        assert read_cloud("a", machine.environment).endpoint == f"https://host{position}"
        place.unlink()
    text = machine.failure("a")
    assert all(str(place) in text for place in places)


@pytest.mark.parametrize("stem", ["clouds", "secure"])
def test_our_order_is_the_one_of_openstacksdk(machine: Machine, stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It looks at the machine when it is imported, hence the process of its own, in this home and this directory.
    program = f"from openstack.config import loader; print(*loader.{'CONFIG' if stem == 'clouds' else 'SECURE'}_FILES)"
    environment = {"HOME": str(machine.home), "PATH": ""}
    paths = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=patience(60.0),
    ).stdout.split()
    monkeypatch.setattr(files, "_SITE", Path("/etc/openstack"))

    ours = [str(place) for place in files.candidate_paths(stem, "OS_CLIENT_CONFIG_FILE", environment)]

    # /etc/xdg is where nobody puts it; it is not looked at.
    assert ours == list(dict.fromkeys(place for place in paths if not place.startswith("/etc/xdg")))


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")
def test_openstacksdk_reads_the_same_from_the_same_two_files(machine: Machine) -> None:
    from openstack.config import OpenStackConfig

    public = {key: value for key, value in AUTH.items() if key != "password"}
    clouds = {"a": cloud(auth={**public, "project_id": 12345}, regions=["r1", "r2"]), "b": cloud()}
    place = machine.write(machine.cwd / "clouds.yaml", clouds)
    secure = machine.write(machine.cwd / "secure.yaml", {"a": {"auth": {"password": "SECRET", "username": "eve"}}})
    theirs = OpenStackConfig([str(place)], secure_files=[str(secure)], load_envvars=False).get_one("a").config
    with mock.patch("bms_async.auth.PasswordAuth") as made:
        read_cloud("a", machine.environment)
    ours = {key: value for key, value in made.call_args.kwargs.items() if value is not None}
    auth = {key: str(value) for key, value in theirs["auth"].items()}
    assert ours | {"auth_url": f"{ours['auth_url']}/v3"} == auth | {"auth_url": "https://iam.example.com/v3"}


def test_a_file_named_outright_is_the_only_one(machine: Machine, tmp_path: Path) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud("https://wrong")})
    named = tmp_path / "mine.yaml"
    machine.environment["OS_CLIENT_CONFIG_FILE"] = str(named)
    assert machine.failure("a") == f"no clouds.yaml found; looked for {named}"

    machine.write(named, {"a": cloud("https://right")})
    assert read_cloud("a", machine.environment).endpoint == "https://right"
    machine.environment["OS_CLIENT_CONFIG_FILE"] = ""
    assert read_cloud("a", machine.environment).endpoint == "https://wrong"


def test_a_named_file_that_is_not_there_is_not_replaced_by_secure_yaml(machine: Machine) -> None:
    machine.write(machine.cwd / "secure.yaml", {"a": cloud()})
    machine.environment["OS_CLIENT_CONFIG_FILE"] = "~/absent.yaml"
    assert str(machine.home / "absent.yaml") in machine.failure("a")


def test_a_file_that_cannot_be_read_is_told(machine: Machine) -> None:
    (machine.cwd / "clouds.yaml").mkdir()
    assert machine.failure("a").startswith(f"{machine.cwd / 'clouds.yaml'}: ")


def test_a_working_directory_that_is_gone_is_passed_over(machine: Machine) -> None:
    machine.write(machine.user / "clouds.yaml", {"a": cloud()})
    machine.cwd.rmdir()
    assert read_cloud("a", machine.environment).project_id == "p"


# Which.


def test_the_name_wins_over_the_variable_and_the_only_cloud_needs_none(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud("https://a")})
    assert read_cloud(None, machine.environment).endpoint == "https://a"

    machine.write(machine.cwd / "clouds.yaml", {"a": cloud("https://a"), "b": cloud("https://b")})
    assert "there are 'a', 'b'" in machine.failure()
    machine.environment["OS_CLOUD"] = "b"
    assert read_cloud(None, machine.environment).endpoint == "https://b"
    assert read_cloud("a", machine.environment).endpoint == "https://a"


def test_a_missing_cloud_lists_those_that_are_there_and_the_files(machine: Machine) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", {"a": cloud(), "b": cloud()})
    secure = machine.write(machine.user / "secure.yaml", {"c": {"auth": {"password": "SECRET"}}})
    assert machine.failure("d") == f"no cloud 'd' in {place} with {secure}; there are 'a', 'b', 'c'"


@pytest.mark.parametrize("text", ["", "# nothing\n", "clouds:\n", "clouds: {}\n", "other: 1\n"])
def test_a_file_without_clouds_says_that_there_are_none(machine: Machine, text: str) -> None:
    (machine.cwd / "clouds.yaml").write_text(text)
    assert "there are none" in machine.failure("a")
    assert "there are none" in machine.failure()


# What.


@pytest.mark.parametrize(
    ("auth", "kind", "expected"),
    [
        ({"token": "t"}, None, StaticToken),
        ({"token": "t"}, "token", StaticToken),
        ({"token": "t"}, "v3token", StaticToken),
        (AUTH, None, PasswordAuth),
        (AUTH, "password", PasswordAuth),
        (AUTH, "v3password", PasswordAuth),
        ({**AUTH, "token": "t"}, "v3token", StaticToken),
        ({**AUTH, "token": "t"}, "password", PasswordAuth),
        ({"ak": "A", "sk": "SECRET"}, None, AkSkAuth),
        ({"ak": "A", "sk": "SECRET", "security_token": "SECRET", **AUTH}, "aksk", AkSkAuth),
    ],
)
def test_each_kind_of_credentials_is_made(
    machine: Machine, auth: Tree, kind: str | None, expected: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {} if kind is None else {"auth_type": kind}
    machine.write(machine.cwd / "clouds.yaml", {"a": {**cloud(**more), "auth": {"project_id": "p", **auth}}})
    assert isinstance(read_cloud("a", machine.environment).auth, expected)

    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert repr(BmsClient.from_cloud("a")) == "<BmsClient closed, https://bms.example.com, project p>"
    assert repr(BmsClient.from_cloud()) == "<BmsClient closed, https://bms.example.com, project p>"


def test_two_kinds_contradict_each_other(machine: Machine) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", {"a": {**cloud(), "auth": {**AUTH, "token": "SECRET"}}})
    text = machine.failure("a")
    assert f"contradict each other in cloud 'a' of {place}: auth.token; and auth.username, auth.password" in text
    assert "auth_type" in text


def test_everything_missing_is_named_with_the_file(machine: Machine) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": {"username": "ann"}, "profile": "otc"}})
    text = machine.failure("a")
    assert text.startswith(
        f"not set in cloud 'a' of {place} (without its 'profile': there is no clouds-public.yaml, "
        "and those built into OpenStack's tools are not known): "
    )
    for key in ("auth.password", "auth.user_domain_name", "auth.auth_url", "auth.project_id", "auth.project_name"):
        assert key in text
    for key in ("bms_endpoint_override or BMS_ENDPOINT", "region_name or OS_REGION_NAME together with bms_domain or"):
        assert key in text


def test_the_environment_does_not_mix_in(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud()})
    machine.environment |= {"OS_PROJECT_ID": "other", "OS_TOKEN": "t", "BMS_ENDPOINT": "https://other"}
    settings = read_cloud("a", machine.environment)
    assert isinstance(settings.auth, PasswordAuth)
    assert (settings.project_id, settings.endpoint) == ("p", "https://bms.example.com")


@pytest.mark.parametrize(
    ("variables", "endpoint", "compute"),
    [
        ({"BMS_ENDPOINT": "https://b"}, "https://b", "https://b"),
        ({"BMS_ENDPOINT": "https://b", "BMS_COMPUTE_ENDPOINT": "https://c"}, "https://b", "https://c"),
        ({"BMS_DOMAIN": "example.com"}, "https://bms.r.example.com", "https://ecs.r.example.com"),
        (
            {"BMS_DOMAIN": "example.com", "OS_REGION_NAME": "other"},
            "https://bms.r.example.com",
            "https://ecs.r.example.com",
        ),
    ],
)
def test_a_file_made_for_openstack_needs_one_variable_more(
    machine: Machine, variables: dict[str, str], endpoint: str, compute: str
) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": AUTH, "region_name": "r"}})
    machine.environment |= variables
    settings = read_cloud("a", machine.environment)
    assert (settings.endpoint, settings.compute_endpoint) == (endpoint, compute)
    assert (settings.cloud, settings.identity_endpoint) == ("a", "https://iam.example.com")


def test_a_region_of_the_environment_stands_in_for_one_that_the_cloud_has_not(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": AUTH, "bms_domain": "example.com"}})
    machine.environment |= {"OS_REGION_NAME": "r"}
    assert read_cloud("a", machine.environment).endpoint == "https://bms.r.example.com"


def test_a_left_over_endpoint_is_not_that_of_a_cloud_which_says_where_it_is(machine: Machine) -> None:
    derived = {"auth": AUTH, "region_name": "r", "bms_domain": "example.com"}
    machine.write(machine.cwd / "clouds.yaml", {"a": derived})
    machine.environment |= {"BMS_ENDPOINT": "https://other", "BMS_COMPUTE_ENDPOINT": "https://c"}
    settings = read_cloud("a", machine.environment)
    assert (settings.endpoint, settings.compute_endpoint) == (
        "https://bms.r.example.com",
        "https://ecs.r.example.com",
    )


def test_a_wrong_variable_is_named_and_not_the_key_of_the_file(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": AUTH}})
    machine.environment |= {"BMS_ENDPOINT": "bms.example.com"}
    assert machine.failure("a").startswith("BMS_ENDPOINT")


def test_what_is_missing_is_there_for_programs_by_its_shortest_name(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": {"username": "ann", "auth_url": "https://i"}}})
    with pytest.raises(ConfigurationError) as caught:
        read_cloud("a", machine.environment)
    assert caught.value.missing == {
        "password": "auth.password",
        "user domain": "auth.user_domain_name",
        "project": "auth.project_id",
        "endpoint": "bms_endpoint_override",
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"region_name": "r", "bms_domain": "example.com"},
            ("https://bms.r.example.com", "https://ecs.r.example.com", "https://iam.example.com"),
        ),
        (
            {
                "bms_endpoint_override": "https://b",
                "compute_endpoint_override": "https://c/v2.1/%(project_id)s",
                "identity_endpoint_override": "https://i/v3",
                "region_name": "r",
                "bms_domain": "example.com",
            },
            ("https://b", "https://c", "https://i"),
        ),
        ({"bms-endpoint-override": "https://b"}, ("https://b", "https://b", "https://iam.example.com")),
        (
            {"regions": ["r1", "r2"], "bms_domain": "example.com"},
            ("https://bms.r1.example.com", "https://ecs.r1.example.com", "https://iam.example.com"),
        ),
        (
            {
                "regions": ["r1", {"name": "r2", "values": {"compute-endpoint-override": "https://c2"}}],
                "region_name": "r2",
                "bms_domain": "example.com",
            },
            ("https://bms.r2.example.com", "https://c2", "https://iam.example.com"),
        ),
    ],
)
def test_addresses_are_given_or_made(machine: Machine, keys: Tree, expected: tuple[str, str, str]) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": AUTH, **keys}})
    found = read_cloud("a", machine.environment)
    assert (found.endpoint, found.compute_endpoint, found.identity_endpoint) == expected


@pytest.mark.parametrize("regions", ["r", {"r": 1}])
def test_regions_that_are_no_list_are_told(machine: Machine, regions: Any) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud(regions=regions)})
    assert "'regions'" in machine.failure("a")


def test_a_region_that_is_none_of_the_regions_is_told(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud(regions=["r1"], region_name="r9")})
    assert "expected region_name to be one of 'regions'" in machine.failure("a")


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_secure_yaml_is_laid_over_branch_by_branch(machine: Machine, suffix: str) -> None:
    public = {key: value for key, value in AUTH.items() if key != "password"}
    machine.write(machine.cwd / "clouds.yaml", {"a": {**cloud(), "auth": {**public, "username": "old"}}})
    machine.write(machine.site / f"secure{suffix}", {"a": {"auth": {"password": "SECRET", "username": "ann"}}})
    with mock.patch("bms_async.auth.PasswordAuth") as made:
        read_cloud("a", machine.environment)
    given_on = made.call_args.kwargs
    assert (given_on["username"], given_on["password"], given_on["project_id"]) == ("ann", "SECRET", "p")


def test_a_secure_file_can_be_named_and_then_has_to_be_there(machine: Machine, tmp_path: Path) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud()})
    machine.write(machine.cwd / "secure.yaml", {"a": {"bms_endpoint_override": "https://wrong"}})
    named = tmp_path / "hidden.yaml"
    machine.environment["OS_CLIENT_SECURE_FILE"] = str(named)
    assert str(named) in machine.failure("a")
    machine.write(named, {"a": {"bms_endpoint_override": "https://right"}})
    assert read_cloud("a", machine.environment).endpoint == "https://right"


def test_texts_stay_as_they_are_written_and_merge_keys_work(machine: Machine) -> None:
    (machine.cwd / "clouds.yaml").write_text(
        "shared: &shared\n  bms_endpoint_override: https://b\n"
        "clouds:\n  a:\n    <<: *shared\n    region_name: null\n    auth:\n      auth_url: https://i\n"
        "      username: yes\n      password: 0012\n      user_domain_name: 1_000\n      project_id: 2024-01-01\n"
    )
    with mock.patch("bms_async.auth.PasswordAuth") as made:
        assert read_cloud("a", machine.environment).endpoint == "https://b"
    given_on = made.call_args.kwargs
    assert (given_on["username"], given_on["password"]) == ("yes", "0012")
    assert (given_on["user_domain_name"], given_on["project_id"]) == ("1_000", "2024-01-01")


def test_numbers_in_json_are_texts_too(machine: Machine) -> None:
    machine.write(machine.cwd / "clouds.json", {"a": {**cloud(), "auth": {**AUTH, "project_id": 12345}}})
    assert read_cloud("a", machine.environment).project_id == "12345"


# Profiles.


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")
@pytest.mark.filterwarnings("ignore:.*uses the keyword 'cloud'")
@pytest.mark.parametrize("keyword", ["profile", "cloud"])
def test_a_cloud_is_laid_over_its_profile_as_openstacksdk_does(machine: Machine, keyword: str) -> None:
    from openstack.config import OpenStackConfig

    own = {key: AUTH[key] for key in ("username", "password", "project_id")}
    public = {
        "auth": {"auth_url": "https://iam.example.com/v3", "user_domain_name": "acme", "username": "nobody"},
        "bms_endpoint_override": "https://public",
        "regions": ["r1", "r2"],
        "cacert": "/etc/public.pem",
    }
    place = machine.write(machine.cwd / "clouds.yaml", {"a": {keyword: "acme", "auth": own, "region_name": "r2"}})
    vendors = machine.write(machine.user / "clouds-public.yaml", {"acme": public}, key="public-clouds")
    reader = OpenStackConfig([str(place)], secure_files=[], vendor_files=[str(vendors)], load_envvars=False)
    theirs = reader.get_one("a").config
    with mock.patch("bms_async.auth.PasswordAuth") as made:
        settings = read_cloud("a", machine.environment)
    ours = {key: value for key, value in made.call_args.kwargs.items() if value is not None}

    auth = {key: str(value) for key, value in theirs["auth"].items()}
    assert ours | {"auth_url": f"{ours['auth_url']}/v3"} == auth
    assert settings.endpoint == theirs["bms_endpoint_override"] == "https://public"
    assert str(settings.ca_bundle) == theirs["cacert"]
    assert theirs["region_name"] == "r2"


def test_where_profiles_are_looked_for_is_where_openstacksdk_does(machine: Machine) -> None:
    program = "from openstack.config import loader; print(*loader.VENDOR_FILES)"
    environment = {"HOME": str(machine.home), "PATH": ""}
    paths = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=patience(60.0),
    ).stdout.split()
    site = [str(Path("/etc/openstack") / Path(place).name) for place in paths[:3]]
    ours = [str(place) for place in files.candidate_paths("clouds-public", "", environment)]

    theirs = list(dict.fromkeys(place for place in paths if not place.startswith("/etc/")))
    assert [place for place in ours if not place.startswith(str(machine.site))] == theirs
    assert [Path(place).name for place in ours[-3:]] == [Path(place).name for place in site]


@pytest.mark.parametrize("profile", ["otc", "https://SECRET.example.com", ["SECRET"]])
def test_a_profile_that_is_not_there_is_told_only_if_something_is_missing(machine: Machine, profile: Any) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud(profile=profile), "b": {"profile": profile, "auth": AUTH}})
    vendors = machine.write(machine.cwd / "clouds-public.yaml", {"acme": {}}, key="public-clouds")

    assert read_cloud("a", machine.environment).project_id == "p"
    text = machine.failure("b")
    assert f"(without its 'profile': it is not in {vendors}, and those built into OpenStack's tools" in text
    assert "bms_endpoint_override" in text


@pytest.mark.parametrize("broken", ["SECRET", {"acme": "SECRET"}, {"acme": {"auth": "SECRET"}}])
def test_a_broken_profile_is_told_and_not_shown(machine: Machine, broken: Any) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud(profile="acme")})
    vendors = machine.write(machine.cwd / "clouds-public.yaml", broken, key="public-clouds")
    assert str(vendors) in machine.failure("a")


# Certificates, domains, names.


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_certificates_to_trust_are_named_and_never_left_unchecked(machine: Machine, suffix: str) -> None:
    place = machine.cwd / f"clouds{suffix}"
    machine.write(place, {"a": cloud(cacert="~/ca.pem", verify=True, insecure=False)})
    assert read_cloud("a", machine.environment).ca_bundle == machine.home / "ca.pem"
    machine.write(place, {"a": cloud()})
    assert read_cloud("a", machine.environment).ca_bundle is None

    for more in ({"verify": False}, {"verify": "no"}, {"insecure": True}, {"verify": False, "cacert": "/ca.pem"}):
        machine.write(place, {"a": cloud(**more)})
        text = machine.failure("a")
        assert text.startswith(
            f"{next(iter(more))} in cloud 'a' of {place}: the cloud's certificate is always verified"
        )
        assert "cacert" in text
    machine.write(place, {"a": cloud(verify="/SECRET")})
    assert machine.failure("a").endswith(": expected true or false")


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")
@pytest.mark.parametrize("key", ["domain_name", "domain_id"])
def test_one_domain_for_user_and_project_is_as_openstacksdk_reads_it(machine: Machine, key: str) -> None:
    from openstack.config import OpenStackConfig

    auth = {"auth_url": AUTH["auth_url"], "username": "ann", "password": "SECRET", "project_name": "n", key: "d"}
    place = machine.write(machine.cwd / "clouds.yaml", {"a": {"auth": auth, "bms_endpoint_override": "https://b"}})
    theirs = OpenStackConfig([str(place)], secure_files=[], load_envvars=False).get_one("a").config["auth"]
    with mock.patch("bms_async.auth.PasswordAuth") as made:
        read_cloud("a", machine.environment)
    ours = {key: value for key, value in made.call_args.kwargs.items() if value is not None}

    assert ours | {"auth_url": AUTH["auth_url"]} == dict(theirs)
    assert ours[f"user_{key}"] == ours[f"project_{key}"] == "d"


def test_keys_with_a_region_look_up_the_project_of_that_name(machine: Machine) -> None:
    keys = {"ak": "A", "sk": "SECRET"}
    machine.write(machine.cwd / "clouds.yaml", {"a": {**cloud(region_name="ae-ad-1"), "auth": keys}})
    settings = read_cloud("a", machine.environment)
    assert (settings.project_id, settings.project_name) == (None, "ae-ad-1")


# In an event loop.


async def test_a_cloud_can_be_read_in_a_thread_and_then_nothing_blocks_the_loop(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(machine.cwd / "clouds.yaml", {"a": cloud()})
    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    bms = await anyio.to_thread.run_sync(BmsClient.from_cloud, "a")
    async with bms:
        assert bms.project_id == "p"
    # And called in the loop it does block, which is what the thread is for.
    with pytest.raises(BlockingError):
        BmsClient.from_cloud("a")


# Broken files.


@pytest.mark.parametrize("text", ["clouds: &c\n  a: *c\n", "clouds:\n  a: &a\n    auth: [*a]\n"])
@pytest.mark.parametrize("stem", ["clouds", "secure"])
def test_an_anchor_that_contains_itself_is_an_error(machine: Machine, stem: str, text: str) -> None:
    machine.write(machine.site / "clouds.yaml", {"a": cloud()})
    place = machine.cwd / f"{stem}.yaml"
    place.write_text(text)
    assert machine.failure("a") == f"{place}: nested too deeply"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clouds.yaml", b"clouds:\n  a:\n    auth: {password: SECRET\n", ", line "),
        ("clouds.yaml", b"clouds:\n  a:\n\tpassword: SECRET\n", ", line 3: not YAML"),
        ("clouds.yaml", b"clouds:\n  a: *SECRET\n", ", line 2: not YAML"),
        ("clouds.yaml", b"clouds:\n  a: !SECRET x\n", ", line 2: not YAML"),
        ("clouds.yaml", b"clouds: {a: !!int SECRET}\n", ": not YAML"),
        ("clouds.yaml", b"clouds: {a: 1}\n---\nSECRET: 2\n", ", line 2: not YAML"),
        ("clouds.yaml", b"clouds:\n  a: SECRET\x01\n", ""),
        ("clouds.yaml", b"clouds:\n  a: SECRET\xff\n", ", line 2: not UTF-8"),
        ("clouds.yaml", b"[" * 100_000, ""),
        ("clouds.yaml", b"- SECRET\n", ": expected a mapping with the key 'clouds'"),
        ("clouds.yaml", b"SECRET", ": expected a mapping with the key 'clouds'"),
        ("clouds.yaml", b"clouds: SECRET\n", ": expected a mapping for 'clouds'"),
        ("clouds.json", b'{"clouds":\n {"a": "SECRET}', ", line 2: not JSON"),
        ("clouds.json", b'{"clouds": "SECRET"}', ": expected a mapping for 'clouds'"),
        ("clouds.json", b'{"clouds":' * 100_000, ""),
    ],
)
def test_a_broken_file_is_told_by_its_name_and_line_and_not_shown(
    machine: Machine, name: str, content: bytes, message: str
) -> None:
    (machine.cwd / name).write_bytes(content)
    assert machine.failure("a").startswith(f"{machine.cwd / name}{message}")


@pytest.mark.parametrize(
    "broken",
    [{"a": "SECRET"}, {"a": ["SECRET"]}, {"a": {"auth": "SECRET"}}, {"a": {"auth": {**AUTH, "password": ["SECRET"]}}}],
)
def test_a_cloud_of_another_shape_is_told_and_not_shown(machine: Machine, broken: Tree) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", broken)
    assert machine.failure("a").startswith(f"cloud 'a' of {place}: ")


def test_a_byte_order_mark_does_no_harm(machine: Machine) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", {"a": cloud()})
    place.write_bytes(b"\xef\xbb\xbf" + place.read_bytes())
    assert read_cloud("a", machine.environment).project_id == "p"


def test_without_pyyaml_the_error_names_the_extra_and_json_still_works(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.write(machine.cwd / "clouds.yaml", {"a": cloud()})
    monkeypatch.setitem(sys.modules, "yaml", None)
    text = machine.failure("a")
    assert text.startswith(f"{place}: ")
    assert "bms-async[clouds]" in text
    place.unlink()
    machine.write(machine.cwd / "clouds.json", {"a": cloud()})
    assert read_cloud("a", machine.environment).project_id == "p"


# R5.


@given(
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    suffix=st.sampled_from([".yaml", ".json"]),
)
def test_whatever_stands_in_a_file_no_secret_leaves(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str, suffix: str
) -> None:
    place = tmp_path_factory.mktemp("clouds") / f"clouds{suffix}"
    text = json.dumps({"clouds": {"a": {"auth": {**AUTH, "password": "SECRET"}}}})
    place.write_bytes(f"{before}{text.replace('SECRET', f'SECRET{before}')}{after}".encode("utf-8", "surrogatepass"))
    environment = {"OS_CLIENT_CONFIG_FILE": str(place), "XDG_CONFIG_HOME": str(place.parent)}
    with pytest.raises(ConfigurationError) as caught:
        read_cloud("a", environment)  # It never says where the BMS service is.
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
