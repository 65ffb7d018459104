"""Which servers a command is about: names, filters, and what is learnt of the servers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anyio import create_task_group, current_time
from anyio.lowlevel import checkpoint

from bms_async import BmsClient, StaticToken
from bms_async.api.bms.server_list import PageReader
from bms_async.cli.access import learning
from bms_async.cli.access import slowly as in_steps
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServer, KnownServers
from bms_async.cli.access.learning import learn_servers
from bms_async.cli.acting.pairs import read_rows
from bms_async.cli.following.chosen import look_at
from bms_async.cli.selection.choosing import Choice, Selection, choose_servers
from bms_async.cli.selection.filters import Filters, make_filters, split
from bms_async.cli.selection.ids import Given, read_excluded, read_given
from bms_async.cli.selection.listing import find_ids
from bms_async.cli.selection.names import resolve
from bms_async.cli.selection.words import Word
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.progress import Screen
from bms_async.config import Settings
from bms_async.models import Server
from bms_async.testing import Answer, CloudSettings, Delay, SimulatedCloud, run_virtually

NOBODY = "00000000-0000-4000-8000-000000000000"

NOTHING: dict[str, Any] = {
    "tag": (), "tag_any": (), "not_tag": (), "zone": (), "name": (), "status": (), "flavor": (),
    "enterprise_project": None, "allow_unknown": False,
}  # fmt: skip


SETTINGS = Settings(
    endpoint="http://localhost", auth=StaticToken("t"), project_id="p", project_name="", compute_endpoint="",
    identity_endpoint="", ca_bundle=None,
)  # fmt: skip


def typed(**options: Any) -> Filters:
    arguments: Any = NOTHING | options
    return make_filters(arguments)


def server(server_id: str, *, zone: str = "az-1", tags: tuple[str, ...] = ()) -> Server:
    fields = {"id": server_id, "status": "ACTIVE", "tags": tags, "OS-EXT-AZ:availability_zone": zone,
              "flavor": {"id": "f-1", "name": "big"}}  # fmt: skip
    return msgspec.convert(fields, Server)


def opened(bms: BmsClient) -> OpenClient:
    return OpenClient(bms, SETTINGS, KnownServers())


def test_nothing_typed_filters_nothing() -> None:
    assert not typed()
    assert split(typed()).queries == [dict.fromkeys(("tags", "name", "status", "flavor", "enterprise_project_id"))]
    assert typed().fits(server("a"))


def test_the_cloud_is_asked_for_one_tag_and_the_others_are_looked_for_here() -> None:
    filters = typed(tag=["a", "b"], not_tag=["c"], zone=["az-1", "az-2"])
    [query], rest = split(filters)
    assert query["tags"] == "a"
    assert rest == Filters(tags=("b",), not_tags=("c",), zones=("az-1", "az-2"))
    assert rest.fits(server("1", tags=("b",)))
    assert not rest.fits(server("1", tags=("a",)))
    assert not rest.fits(server("1", tags=("b", "c")))
    assert not rest.fits(server("1", tags=("b",), zone="az-3"))


def test_a_few_values_are_a_list_each_and_many_are_looked_at_here() -> None:
    few = split(typed(tag_any=["a", "b"], status=["active", "SHUTOFF"]))
    assert [(query["tags"], query["status"]) for query in few.queries] == [
        ("a", "ACTIVE"), ("a", "SHUTOFF"), ("b", "ACTIVE"), ("b", "SHUTOFF"),
    ]  # fmt: skip
    assert not few.rest
    tags = [f"rack-{number}" for number in range(20)]
    many = split(typed(tag_any=tags, status=["active", "SHUTOFF"]))
    assert [query["status"] for query in many.queries] == ["ACTIVE", "SHUTOFF"]
    assert many.rest.fits(server("1", tags=("rack-19",)))
    assert not many.rest.fits(server("1", tags=("rack-20",)))


def test_a_flavor_is_known_to_the_cloud_by_its_id_and_here_by_its_name_too() -> None:
    filters = typed(flavor=["big"])
    assert split(filters).queries[0]["flavor"] == "big"
    chosen = split(filters, by_flavor=False)
    assert chosen.queries[0]["flavor"] is None
    assert chosen.rest.fits(server("1"))
    assert not Filters(flavors=("small",)).fits(server("1"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tag_any": [" "]}, "--tag-any is empty"),
        ({"zone": [""]}, "--zone is empty"),
        ({"tag": ["a,b"]}, "repeat the option: --tag a --tag b"),
    ],
)
def test_a_filter_that_is_surely_not_meant_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        typed(**options)
    assert told in str(refused.value)


def test_a_status_has_no_case() -> None:
    assert typed(status=["active", "Active", "hard-reboot", " hard reboot"]).statuses == ("ACTIVE", "HARD_REBOOT")


def test_filters_are_said_in_words() -> None:
    assert (
        str(typed(tag=["a", "b"], status=["SHUTOFF"], not_tag=["c"])) == "tag a and b and status SHUTOFF and no tag c"
    )


def test_a_few_servers_are_read_and_many_are_looked_for_in_the_list() -> None:
    async def main() -> None:
        sim = SimulatedCloud(CloudSettings(servers=120))
        async with sim.client() as bms:
            few, many = opened(bms), opened(bms)
            await learn_servers(few, [sim.ids[3].upper(), sim.ids[3], "no-such-server", *sim.ids[5:20]])
            assert len(few.known) == 16
            assert few.known.label(sim.ids[3]) == f"bms-000003 ({sim.ids[3]})"
            assert sim.arrived("servers.get") == 17
            for _ in range(2):
                await learn_servers(many, sim.ids[:100])
                assert sim.arrived("servers.list") == 1
            assert len(many.known) == 100

    run_virtually(main)


def test_nothing_of_the_list_is_fetched_any_more_once_all_servers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = SimulatedCloud(CloudSettings(servers=3000))
    given_up: list[int] = []
    monkeypatch.setattr(PageReader, "cancel", lambda reader: given_up.append(len(reader._fetching)))

    async def given_up_by_then() -> int:
        given_up.clear()
        async with sim.client() as bms:
            await learn_servers(opened(bms), sim.ids[:30])
            return sum(given_up)

    assert run_virtually(given_up_by_then) > 0
    # The control: a list that is left to Python is given up at some time after that.
    monkeypatch.setattr(learning, "closing", lambda items: nullcontext(aiter(items)))
    assert run_virtually(given_up_by_then) == 0


def test_names_and_what_is_known_of_many_servers_are_read_from_few_of_their_fields() -> None:
    sim = SimulatedCloud(CloudSettings(servers=40))

    async def main() -> None:
        async with sim.client() as bms:
            bms.servers.list = None  # type: ignore[method-assign,assignment]
            cloud = opened(bms)
            assert await resolve(cloud, Given(Word(f"bms-{number:06}") for number in range(10))) == sim.ids[:10]
            await learn_servers(cloud, sim.ids)
            assert cloud.known.get(sim.ids[39]) == KnownServer(
                "bms-000039", "az-sim-1", "physical.o2.medium", cloud.known.get(sim.ids[0]).tags, "ACTIVE"
            )

    run_virtually(main)


@pytest.mark.parametrize("count", [10, 30])
def test_what_cannot_be_learnt_is_left_out_and_delays_nothing_for_long(count: int) -> None:
    async def main() -> None:
        sim = SimulatedCloud(CloudSettings(servers=30))
        sim.faults.add("servers.get", Answer(status=403), times=None)
        sim.faults.add("servers.list", Answer(status=403), times=None)
        async with sim.client() as bms:
            refused = opened(bms)
            await learn_servers(refused, sim.ids[:count])
            assert len(refused.known) == 0
            assert len(sim.calls) <= 8
        slow = SimulatedCloud(CloudSettings(servers=30, latency=(60.0, 60.0)))
        async with slow.client() as bms:
            before = current_time()
            await learn_servers(opened(bms), slow.ids[:count])
            assert current_time() - before < 6

    run_virtually(main)


async def found(sim: SimulatedCloud, *words: str, native: bool = False) -> list[str]:
    async with sim.client() as bms:
        return await resolve(opened(bms), Given(map(Word, words)), native=native)


def refused(sim: SimulatedCloud, *words: str) -> str:
    with pytest.raises(UsageError) as error:
        run_virtually(lambda: found(sim, *words))
    return str(error.value)


@pytest.mark.parametrize("native", [False, True])
def test_a_name_is_the_server_that_has_it_and_a_uuid_is_never_looked_up(native: bool) -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    assert run_virtually(lambda: found(sim, "bms-000003", sim.ids[7], sim.ids[3], native=native)) == [
        sim.ids[3], sim.ids[7],
    ]  # fmt: skip
    calls = len(sim.calls)
    assert run_virtually(lambda: found(sim, sim.ids[7], NOBODY)) == [sim.ids[7], NOBODY]
    assert len(sim.calls) == calls


def test_thousands_of_servers_are_resolved_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"0a000000-0000-4000-8000-{number:012}" for number in range(3000)]
    given = Given(map(Word, ids))

    async def steps() -> int:
        taken, is_over = 0, False

        async def count() -> None:
            nonlocal taken
            while not is_over:
                await checkpoint()
                taken += 1

        async with SimulatedCloud(CloudSettings(servers=1)).client() as bms, create_task_group() as tasks:
            tasks.start_soon(count)
            assert await resolve(opened(bms), given) == ids
            is_over = True
        return taken

    many = run_virtually(steps)
    monkeypatch.setattr(in_steps, "_AT_ONCE", 10**9)
    assert many > run_virtually(steps) + 4


def test_many_names_are_found_in_one_pass_over_the_list() -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    names = [f"bms-{number:06}" for number in range(20)]
    assert run_virtually(lambda: found(sim, *names)) == sim.ids
    # The second call finds the end of the list.
    assert sim.arrived("servers.list") == 2
    assert sim.arrived("servers.get") == 0


def test_a_name_of_several_servers_is_refused_with_which_they_are() -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    for server_id in sim.ids[:12]:
        sim.rename(server_id, "web")
    head, *lines, last = refused(sim, sim.ids[0], "web").splitlines()
    assert head == "12 servers have the name web; give the id of the one that is meant:"
    assert len(lines) == 10
    assert lines[0].startswith(f"{sim.ids[0]}   web   ")
    assert lines[0].endswith("   ACTIVE")
    assert last == "and 2 more"


def test_what_is_neither_a_name_nor_an_id_refuses_all() -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    told = refused(sim, sim.ids[0], "bms-00000", "bms-000001")
    assert told.startswith("there is no server with the name or the id bms-00000 in project ")
    assert told.endswith("; `bms servers list` shows all")
    told = refused(sim, *(f"web-{number}" for number in range(30)))
    assert "the name or the id web-0 in" in told
    assert "the same is true of web-1, web-2" in told
    assert told.count("web-") == 10
    # As soon as it is sure that the command is refused nothing more is read.
    assert sim.arrived("servers.get") < 25


def test_an_unfit_id_is_refused_in_words_for_a_shell_and_with_its_line() -> None:
    sim = SimulatedCloud(CloudSettings(servers=3))
    told = refused(sim, "a b")
    assert "there is no server named 'a b' in project" in told
    assert "server ids have letters, digits and -_.:; copy ids from `bms servers list`" in told

    async def main() -> None:
        async with sim.client() as bms:
            await resolve(opened(bms), Given([Word("a/b", "ids.csv", 7)]))

    with pytest.raises(UsageError, match=r"^ids\.csv, line 7: there is no server named 'a/b'"):
        run_virtually(main)


def test_an_id_of_another_kind_is_one_if_the_cloud_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    sim = SimulatedCloud(CloudSettings(servers=3))
    for operation in ("servers.get", "servers.list"):
        sim.faults.add(operation, Answer(status=403), times=None)
    # Credentials that may not read a server may still stop it.
    assert run_virtually(lambda: found(sim, "node-17")) == ["node-17"]
    assert "names cannot be looked up" in capsys.readouterr().err
    many = [f"node-{number}" for number in range(100)]
    assert run_virtually(lambda: found(sim, *many)) == many
    assert sim.arrived("servers.get") < 30
    body = b'{"server": {"id": "node-17", "name": "x"}}'
    sim = SimulatedCloud(CloudSettings(servers=3))
    sim.faults.add("servers.get", Answer(status=200, body=body), times=None)
    assert run_virtually(lambda: found(sim, "node-17")) == ["node-17"]


def test_an_id_goes_before_a_name_that_is_spelled_like_it() -> None:
    sim = SimulatedCloud(CloudSettings(servers=3))
    servers = [{"id": "node-1", "name": "a"}, {"id": "b", "name": "node-1"}, {"id": "c", "name": "node-1"}]
    sim.faults.add("servers.list", Answer(status=200, body=msgspec.json.encode({"servers": servers, "count": 3})))
    sim.faults.add("servers.list", Answer(status=200, body=b'{"servers": [], "count": 3}'), nth=2, times=None)
    assert run_virtually(lambda: found(sim, "node-1")) == ["node-1"]


def test_the_list_of_a_name_does_not_hide_the_server_that_has_it_for_an_id() -> None:
    sim = listing({"id": "b", "name": "node-1"})
    body = b'{"server": {"id": "node-1", "name": "a"}}'
    sim.faults.add("servers.get", Answer(status=200, body=body), times=None)
    assert run_virtually(lambda: found(sim, "node-1")) == ["node-1"]
    sim = listing({"id": "b", "name": "node-1"})
    assert run_virtually(lambda: found(sim, "node-1")) == ["b"]


async def chosen(sim: SimulatedCloud, wish: Selection) -> Choice:
    async with sim.client() as bms:
        with Screen(quiet=True) as screen:
            return await choose_servers(opened(bms), wish, screen)


@pytest.mark.parametrize("whole", [False, True])
def test_servers_are_left_out_by_id_and_by_name_whatever_chose_them(
    whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = SimulatedCloud(CloudSettings(servers=10))
    excluded = Given(map(Word, [sim.ids[1].upper(), "bms-000002", NOBODY]), "FILE")
    by_filter = Selection(given=None, filters=typed(tag=["__type_baremetal"]), excluded=excluded, whole=whole)
    by_ids = Selection(given=Given.of_ids(map(str.upper, sim.ids)), filters=typed(), excluded=excluded)
    for wish in (by_filter, by_ids):
        choice = run_virtually(lambda wish=wish: chosen(sim, wish))  # type: ignore[misc]
        assert [each.lower() for each in choice.ids] == [sim.ids[0], *sim.ids[3:]]
        assert len(list(choice.servers)) == 8
        err = capsys.readouterr().err
        assert "--except leaves out 2 of 10 servers" in err
        assert f"1 of the 3 in FILE is not among these: {NOBODY}" in err
    everything = Selection(given=Given.of_ids(sim.ids), filters=typed(), excluded=Given.of_ids(sim.ids))
    assert run_virtually(lambda: chosen(sim, everything)).why_none == "--except leaves out all of 10 servers"


@pytest.mark.parametrize("by_filter", [False, True])
def test_a_name_to_be_left_out_that_no_server_has_refuses_all(by_filter: bool) -> None:
    sim = SimulatedCloud(CloudSettings(servers=10))
    wish = Selection(
        given=None if by_filter else Given.of_ids(sim.ids),
        filters=typed(tag=["__type_baremetal"]) if by_filter else typed(),
        excluded=Given([Word("bms-00002", "keep.txt", 3)]),
    )
    with pytest.raises(UsageError, match=r"^keep\.txt, line 3: there is no server with the name or the id bms-00002"):
        run_virtually(lambda: chosen(sim, wish))
    sim.faults.add("servers.list", Answer(status=403), times=None)
    if not by_filter:
        with pytest.raises(UsageError, match="--except: these credentials may not list servers"):
            run_virtually(lambda: chosen(sim, wish))


def test_a_name_of_a_server_that_is_not_chosen_leaves_nothing_out(capsys: pytest.CaptureFixture[str]) -> None:
    sim = SimulatedCloud(CloudSettings(servers=10))
    wish = Selection(given=Given.of_ids(sim.ids[:3]), filters=typed(), excluded=Given([Word("bms-000007")], "keep.txt"))
    assert run_virtually(lambda: chosen(sim, wish)).ids == sim.ids[:3]
    assert "--except leaves out 0 of 3 servers" in capsys.readouterr().err


def test_an_empty_file_of_servers_to_be_left_out_is_refused(tmp_path: Path) -> None:
    empty, none = tmp_path / "empty", tmp_path / "none"
    empty.write_bytes(b"\xef\xbb\xbf\n")
    none.write_text("# none\n")
    with pytest.raises(UsageError, match="it is empty, so that nothing would be left out"):
        read_excluded([str(empty)], reads_input=False)
    found = read_excluded([str(none)], reads_input=False)
    assert found is not None
    assert len(found) == 0


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_an_end_is_refused_by_its_beginning(device: str) -> None:
    with pytest.raises(UsageError, match=rf"^{device}, line \d+: expected text"):
        read_given((), device)
    with pytest.raises(UsageError, match=rf"^{device}, line \d+: expected text"):
        read_excluded([device], reads_input=False)
    with pytest.raises(UsageError, match=rf"^--from {device}, line \d+: expected text"):
        read_rows("--from", device, names=("name",), example="ID,web-1")


def test_no_name_is_taken_from_a_part_of_the_list() -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    names = [f"bms-{number:06}" for number in range(10)]
    sim.faults.add("servers.list", Answer(status=200, body=b"<html>"), nth=2, times=None)
    # The second page may have another server of each of these names.
    assert "there is no server with the name or the id" in refused(sim, *names)


def test_a_flavor_that_the_cloud_has_no_id_for_is_found_by_its_name() -> None:
    sim = SimulatedCloud(CloudSettings(servers=3))
    page = msgspec.json.encode({"servers": [{"id": "a", "flavor": {"id": "f-1", "name": "big"}}], "count": 1})
    sim.faults.add("servers.list", Answer(status=200, body=b'{"servers": [], "count": 0}'), times=1)
    sim.faults.add("servers.list", Answer(status=200, body=page), nth=2, times=None)
    choice = run_virtually(lambda: chosen(sim, Selection(given=None, filters=typed(flavor=["big"]))))
    assert choice.ids == ["a"]


def listing(*servers: dict[str, Any]) -> SimulatedCloud:
    """Return a cloud that has one list, whatever it is asked for."""
    sim = SimulatedCloud(CloudSettings(servers=3))
    page = msgspec.json.encode({"servers": servers, "count": len(servers)})
    sim.faults.add("servers.list", Answer(status=200, body=page), times=None)
    return sim


@pytest.mark.parametrize(
    "options",
    [{"tag": ["a"]}, {"tag_any": ["a"]}, {"status": ["ACTIVE"]}, {"flavor": ["f-1"]}, {"flavor": ["big"]},
     {"name": ["WEB"]}, {"name": ["we.-1"]}, {"enterprise_project": "e"}],
)  # fmt: skip
def test_what_a_cloud_lists_in_spite_of_a_filter_is_left_out(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    meant = {"id": "a", "name": "web-1", "status": "ACTIVE", "tags": ["a"], "flavor": {"id": "f-1", "name": "big"},
             "enterprise_project_id": "e"}  # fmt: skip
    other = {"id": "b", "name": "db", "status": "SHUTOFF", "tags": ["b"], "flavor": {"id": "f-2", "name": "small"},
             "enterprise_project_id": "0"}  # fmt: skip
    sim = listing(meant, other)
    assert run_virtually(lambda: chosen(sim, Selection(given=None, filters=typed(**options)))).ids == ["a"]
    assert "and has listed 1 server that does not fit: it is left out" in capsys.readouterr().err

    async def listed() -> list[str]:
        async with sim.client() as bms:
            return [server_id async for ids in find_ids(bms, typed(**options)) for server_id in ids]

    assert run_virtually(listed) == ["a"]


def test_a_pattern_is_the_clouds_to_match() -> None:
    sim = listing({"id": "a", "name": "web-1"}, {"id": "b", "name": "x"})
    assert run_virtually(lambda: chosen(sim, Selection(given=None, filters=typed(name=["^w.*$"])))).ids == ["a", "b"]


def test_no_tag_anywhere_is_no_proof_that_a_tag_is_not_there() -> None:
    for options in ({"not_tag": ["keep"]}, {"not_tag": ["keep"], "allow_unknown": True}):
        wish = Selection(given=None, filters=typed(**options))
        with pytest.raises(UsageError, match="--not-tag: the cloud lists no tag of any of these servers"):
            run_virtually(lambda wish=wish: chosen(listing({"id": "a"}, {"id": "b"}), wish))  # type: ignore[misc]
        assert not isinstance(refusal(listing({"id": "a", "tags": ["keep"]}, {"id": "b"}), **options), str)


def refusal(sim: SimulatedCloud, **options: Any) -> Choice | str:
    """Return why filters are refused; what they choose if they are not."""
    try:
        return run_virtually(lambda: chosen(sim, Selection(given=None, filters=typed(**options))))
    except UsageError as error:
        return str(error)


def test_a_status_that_is_not_documented_is_that_of_a_server_or_refused() -> None:
    sim = SimulatedCloud(CloudSettings(servers=20))
    accepts = " (--allow-unknown accepts it)"
    for slip, meant in (
        ("SHUTOF", "SHUTOFF"),
        ("off", "SHUTOFF"),
        ("ACTVE", "ACTIVE"),
        ("hard reboots", "HARD_REBOOT"),
    ):
        told = refusal(sim, status=["ACTIVE", slip])
        status = slip.upper().replace(" ", "_")
        assert told == f"--status {status}: no server has this status; did you mean {meant}?{accepts}"
    told = refusal(sim, status=["x"])
    documented = "ACTIVE, BUILD, ERROR, HARD_REBOOT, REBOOT, SHUTOFF"
    assert told == f"--status X: no server has this status; the documented ones are {documented}{accepts}"
    assert refusal(sim, status=["build"]) == Choice([], why_none="no server has status BUILD")
    rebuilt = listing({"id": "a", "status": "REBUILD"}, {"id": "b", "status": "ACTIVE"})
    assert refusal(rebuilt, status=["rebuild"]) == Choice(["a"])


@pytest.mark.parametrize(
    ("slip", "right", "told"),
    [
        ({"tag": ["rak-1"]}, {"tag": ["rack-1"]}, "--tag rak-1: no server has this tag; did you mean rack-1?"),
        ({"tag_any": ["Rack-1"]}, {"tag_any": ["rack-0", "rack-1"]}, "--tag-any Rack-1: no server has this tag; did"),
        ({"zone": ["az-sim"]}, {"zone": ["az-sim-1"]}, "--zone az-sim: no server is in this zone; did you mean az-sim"),
        ({"name": ["bms-1"]}, {"name": ["bms-000001"]}, "--name bms-1: no server has a name that it matches"),
        ({"flavor": ["physical.o2"]}, {}, "--flavor physical.o2: no server is of this flavor; did you mean physical."),
        ({"enterprise_project": "none"}, {}, "--enterprise-project none: no server is in this enterprise project"),
    ],
)  # fmt: skip
def test_a_word_that_no_server_has_is_said_and_one_that_servers_have_is_not(
    capsys: pytest.CaptureFixture[str], slip: dict[str, Any], right: dict[str, Any], told: str
) -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))
    nothing = refusal(sim, **slip)
    assert isinstance(nothing, Choice)
    assert not nothing.servers
    assert told in capsys.readouterr().err
    assert refusal(sim, **slip, allow_unknown=True) == nothing
    # No servers have both, and each has some: there is nothing to do.
    both = refusal(sim, **right, status=["BUILD"])
    assert isinstance(both, Choice)
    assert not both.servers
    assert capsys.readouterr().err == ""


def test_a_tag_that_no_server_has_leaves_none_out_and_so_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))
    told = "--not-tag rak-1: no server has this tag; did you mean rack-1? (--allow-unknown accepts it)"
    assert refusal(sim, not_tag=["rak-1"]) == told
    accepted = refusal(sim, not_tag=["rak-1"], allow_unknown=True)
    assert isinstance(accepted, Choice)
    assert len(accepted.servers) == 60
    left = refusal(sim, not_tag=["rack-1"])
    assert isinstance(left, Choice)
    assert 0 < len(left.servers) < 60
    none = refusal(sim, tag=["rack-1"], not_tag=["rack-1"])
    assert none == Choice([], why_none="there is no server with tag rack-1 and no tag rack-1")
    assert capsys.readouterr().err == ""


def test_words_that_servers_have_cost_no_call_and_others_few(capsys: pytest.CaptureFixture[str]) -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))
    refusal(sim, tag=["rack-0"], zone=["az-sim-1"], name=["bms-000001"])
    calls = len(sim.calls)
    assert calls == 1
    # One list of all servers, and one for what may be meant.
    refusal(sim, zone=["nowhere"])
    assert len(sim.calls) == calls + 2
    calls = len(sim.calls)
    # One list for the name, and one for what may be meant.
    refusal(sim, tag=["rack-1"], name=["nobody"])
    assert len(sim.calls) - calls <= 6
    capsys.readouterr()
    refusal(sim, tag_any=[f"rak-{number}" for number in range(30)])
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "bms: --tag-any rak-0: no server has this tag; did you mean rack-0?"
    assert said[-1] == "bms: and 25 more"
    assert len(sim.calls) < 20


def test_what_only_a_notice_hangs_on_is_not_asked_of_a_cloud_that_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))
    sim.faults.add("servers.list", Answer(status=403), nth=2, times=None)
    nothing = refusal(sim, tag=["rak-1"])
    assert isinstance(nothing, Choice)
    assert (nothing.servers, capsys.readouterr().err) == ([], "")


def test_servers_to_be_left_out_are_known_before_any_is_listed() -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))

    found: list[str] = []

    async def listed() -> None:
        async with sim.client() as bms:
            async for ids in find_ids(bms, typed(not_tag=["kep"])):
                found.extend(ids)

    with pytest.raises(UsageError, match="--not-tag kep: no server has this tag"):
        run_virtually(listed)
    # What lists into a pipe has printed nothing by then.
    assert found == []


@pytest.mark.parametrize("answer", [Answer(status=403), Delay(seconds=60.0)])
@pytest.mark.parametrize("options", [{"not_tag": ["rak-1"]}, {"status": ["SHUTOF"]}])
def test_a_list_that_fails_or_takes_too_long_is_no_proof_that_there_is_no_server(
    options: dict[str, Any], answer: Answer | Delay, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = SimulatedCloud(CloudSettings(servers=60))
    # What is read for what may be meant.
    sim.faults.add("servers.list", answer, nth=3 if "status" in options else 2, times=None)
    told = refusal(sim, **options)
    assert isinstance(told, str)
    assert told.endswith("(--allow-unknown accepts it)")
    assert "no server at all" not in told + capsys.readouterr().err


@pytest.mark.parametrize("options", [{"tag": ["rack-1"]}, {"not_tag": ["rack-1"]}, {"status": ["SHUTOF"]}])
def test_a_project_without_servers_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    nothing = refusal(SimulatedCloud(CloudSettings(servers=0)), **options)
    assert isinstance(nothing, Choice)
    assert not nothing.servers
    told = capsys.readouterr().err
    assert told.endswith(", and there is no server at all; `bms login` shows which cloud and project this is\n")
    assert "did you mean" not in told


@pytest.mark.parametrize("options", [{}, {"not_tag": ["rack-1"]}, {"status": ["SHUTOF"]}, {"tag": ["x"]}])
def test_an_enterprise_project_without_servers_is_not_said_to_be_the_whole_project(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    nothing = refusal(SimulatedCloud(CloudSettings(servers=60)), enterprise_project="none", **options)
    assert isinstance(nothing, Choice)
    *before, last = capsys.readouterr().err.splitlines()
    assert last == "bms: --enterprise-project none: no server is in this enterprise project"
    assert all(line.endswith(", and there is no server in the enterprise project none") for line in before)


def test_ids_that_the_cloud_does_not_have_are_known_before_anything_is_sent() -> None:
    sim = SimulatedCloud(CloudSettings(servers=40))
    for count in (3, 30):
        choice = run_virtually(lambda count=count: chosen(  # type: ignore[misc]
            sim, Selection(given=Given.of_ids([*sim.ids[:count], NOBODY]), filters=typed())
        ))  # fmt: skip
        assert choice.missing == [NOBODY]


def test_a_plan_counts_what_is_known_of_its_servers() -> None:
    async def main() -> None:
        sim = SimulatedCloud(CloudSettings(servers=13))
        sim.turn_off(sim.ids[4])
        async with sim.client() as bms:
            cloud = opened(bms)
            cloud.known.add_all([each async for each in bms.servers.list()])
            stop = await look_at(cloud, "stop", [*sim.ids, NOBODY], [NOBODY])
            reboot = await look_at(cloud, "reboot", sim.ids)
        status, zone, missing, first, *_, more = stop.lines
        assert status == "by status: 12 ACTIVE, 1 SHUTOFF, 1 unknown; 1 is SHUTOFF already: nothing to do for it"
        assert zone == "by zone: 13 az-sim-1, 1 unknown"
        assert missing == f"the cloud does not have 1 of these: {NOBODY}"
        assert first == f"  bms-000000 ({sim.ids[0]})   ACTIVE   az-sim-1"
        assert more == "  and 4 more"
        assert (stop.fields["already"], "already" in reboot.fields) == (1, False)

    run_virtually(main)
