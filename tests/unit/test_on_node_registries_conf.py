"""Where our mirror goes in containers' registries.conf(.d), and that every byte of the administrator's stays."""

import importlib
import tomllib
from typing import Any, NamedTuple

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from on_node import owned, registries_conf
from on_node.address import HUB, Entry, Mirror, parse_entry
from on_node.errors import Trouble
from on_node.registries_conf import Plan, Source, plan
from tests.unit.messages import remember

PLAIN = parse_entry("http://10.0.0.1:30500")
SECURE = parse_entry("https://cache:5000")
MAIN, DROP_IN = "/etc/containers/registries.conf", "/etc/containers/registries.conf.d/000-docker-cache.conf"
LATER = "/etc/containers/registries.conf.d/50-own.conf"
OURS = {"location": "10.0.0.1:30500", "insecure": True}


class Planned(NamedTuple):
    """A plan for one file at the most."""

    path: str
    raw: bytes | None
    said: list[str]


def planned(*texts: str | bytes, entry: Entry = PLAIN) -> Planned:
    """What is planned for the main file and drop-ins behind it, where Docker Hub alone is mirrored."""
    found = planned_for([HUB], [entry], *texts)
    ((path, raw),) = found.files.items() or [("", None)]
    return Planned(path, raw, found.said)


def planned_for(upstreams: list[str], entries: list[Entry], *texts: str | bytes) -> Plan:
    raws = [text.encode() if isinstance(text, str) else text for text in texts]
    sources = [Source(path, raw) for path, raw in zip((MAIN, LATER), raws, strict=False)]
    return plan(sources, DROP_IN, Mirror(entries, upstreams))


def refused(*texts: str | bytes) -> list[str]:
    with pytest.raises(Trouble) as caught:
        planned(*texts)
    remember(caught.value.problems)
    return caught.value.problems


def registries(raw: bytes | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((raw or b"").decode())["registry"]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        '# [[registry]]\n# location = "docker.io"\n',
        'unqualified-search-registries = ["docker.io"]\n',
        '[registries.search]\nregistries = ["docker.io"]\n',
        '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "docker.io"\n',
        '[[registry]]\nprefix = "hub"\nlocation = "docker.io"\n',
        '[[registry]]\nprefix = "docker.io/team"\nlocation = "registry.example/team"\n',
        'x = """\n[[registry]]\nlocation = "docker.io"\n"""\n',
        "x = '''\n[[registry]]\nlocation = \"docker.io\"\n'''\n",
        '[aliases]\n"docker.io" = "docker.io"\n"location" = "docker.io"\n',
    ],
)
def test_where_nobody_defines_docker_io_a_file_of_ours_does(text: str) -> None:
    found = planned(text)
    assert found.path == DROP_IN
    assert registries(found.raw) == [{"prefix": "docker.io", "location": "docker.io", "mirror": [OURS]}]


def test_an_https_entry_is_verified_unless_asked_otherwise() -> None:
    assert registries(planned("", entry=SECURE).raw)[0]["mirror"] == [{"location": "cache:5000"}]
    unverified = parse_entry("https://cache:5000", insecure=True)
    assert registries(planned("", entry=unverified).raw)[0]["mirror"] == [{"location": "cache:5000", "insecure": True}]


@pytest.mark.parametrize(
    "text",
    [
        '[[registry]]\nlocation = "docker.io"\n',
        '[[registry]]\nlocation = "docker.io"',
        "[[registry]]\r\nlocation = 'docker.io'\r\n",
        '[[ registry ]] # hub\n  "location"="docker.io" # all of it\n',
        '[[registry]]\nprefix = "docker.io/"\nlocation = "docker.io"\n',
        '\ufeff[[registry]]\nlocation = "docker.io"\n',
        '[[registry]]\nlocation = """docker.io"""\n',
        '[[registry]]\nlocation = "docker\\u002eio"\n',
        '[[registry]]\nlocation = "docker.io"\nx = [ # mine\n  "a", "[[registry]]",\n]\ny = {a = 1}\n\n[aliases]\na = "b"\n',
        '[[registry]]\nlocation = "docker.io"\nblocked = false\n# his\n[[registry.mirror]]\nlocation = "own:1"\n',
        '[[registry]]\nlocation = "docker.io"\n[aliases]\na = "b"\n[[registry.mirror]]\nlocation = "own:1"\n',
        '[[registry]]\nlocation = "quay.io"\n[[registry]]\nlocation = "docker.io"\ninsecure = false\n[[registry]]\nlocation = "x"\n',
    ],
)
def test_where_the_administrator_defines_it_our_mirror_goes_before_his(text: str) -> None:
    found = planned(text)
    assert found.path == MAIN, "a file of ours would hide his"
    assert (found.raw or b"").startswith(text.encode()[:10]), "what stands there stays there"
    assert owned.without_block(found.raw) in (text.encode(), text.encode() + b"\n"), "every byte of his is kept"
    before = tomllib.loads(text.removeprefix("\ufeff"))
    for registry in before["registry"]:
        if "docker.io" in (registry["location"].rstrip("/"), registry.get("prefix", "").rstrip("/")):
            registry["mirror"] = [OURS, *registry.get("mirror", [])]
    assert tomllib.loads((found.raw or b"").decode().removeprefix("\ufeff")) == before


def test_names_of_keys_are_taken_in_any_case_as_the_engines_do() -> None:
    assert planned('[[registry]]\nLocation = "docker.io"\n').path == MAIN


def test_of_several_files_the_last_counts_and_in_a_file_the_first() -> None:
    text = '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{}:1"\n'
    assert planned(text.format("a"), text.format("b")).path == LATER
    twice = registries(planned(text.format("a") + text.format("b")).raw)
    assert [[mirror["location"] for mirror in registry["mirror"]] for registry in twice] == [
        ["10.0.0.1:30500", "a:1"],
        ["b:1"],
    ]


def test_what_the_administrator_wrote_himself_is_used_and_not_ours() -> None:
    own = '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "10.0.0.1:30500"\n{}'
    assert planned(own.format("insecure = true\n")) == Planned("", None, []), "nothing to write"
    assert planned(own.format("")).raw is not None, "his does not allow plain http, and would not work"
    assert planned(own.format('insecure = true\npull-from-mirror = "digest-only"\n')).raw is not None, (
        "his would serve some pulls"
    )


def test_what_goes_its_own_way_is_told() -> None:
    own = '[[registry]]\nprefix = "docker.io/team"\nlocation = "registry.example/team"\n'
    assert planned(own).said == [f"docker.io/team goes its own way in {MAIN}"]
    moved = '[[registry]]\nprefix = "docker.io"\nlocation = "hub.example"\n'
    assert planned(moved).said == [f"docker.io leads to hub.example in {MAIN}, asked after us"]


def test_each_registry_is_asked_for_by_its_path_and_each_entry_in_turn() -> None:
    second = parse_entry("http://10.0.0.2:30500")
    found = planned_for([HUB, "ghcr.io", "lab.example:5000"], [PLAIN, second], "")
    assert list(found.files) == [DROP_IN]
    assert {
        each["prefix"]: [mirror["location"] for mirror in each["mirror"]] for each in registries(found.files[DROP_IN])
    } == {
        "docker.io": ["10.0.0.1:30500", "10.0.0.2:30500"],
        "ghcr.io": ["10.0.0.1:30500/ghcr.io", "10.0.0.2:30500/ghcr.io"],
        "lab.example:5000": ["10.0.0.1:30500/lab.example-5000", "10.0.0.2:30500/lab.example-5000"],
    }


def test_each_registry_goes_where_the_administrator_has_it() -> None:
    his = (
        '[[registry]]\nlocation = "ghcr.io"\n[[registry.mirror]]\nlocation = "own:1"\n'
        '[[registry]]\nlocation = "other"\n[[registry]]\nprefix = "quay.io"\nlocation = "quay.example"\n'
    )
    found = planned_for([HUB, "ghcr.io", "quay.io"], [PLAIN], his, '[[registry]]\nlocation = "docker.io"\n')
    assert {
        path: {
            each.get("prefix", each["location"]): [mirror["location"] for mirror in each.get("mirror", [])]
            for each in registries(raw)
        }
        for path, raw in found.files.items()
    } == {
        MAIN: {"ghcr.io": ["10.0.0.1:30500/ghcr.io", "own:1"], "other": [], "quay.io": ["10.0.0.1:30500/quay.io"]},
        LATER: {"docker.io": ["10.0.0.1:30500"]},
    }
    assert found.said == [f"quay.io leads to quay.example in {MAIN}, asked after us"]
    assert owned.without_block(found.files[MAIN]) == his.encode(), "every byte is kept"


def test_of_several_entries_those_that_the_administrator_has_are_not_written_again() -> None:
    own = '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "10.0.0.1:30500"\ninsecure = true\n'
    found = planned_for([HUB], [PLAIN, parse_entry("http://10.0.0.2:30500")], own)
    assert [each["location"] for each in registries(found.files[MAIN])[0]["mirror"]] == [
        "10.0.0.2:30500",
        "10.0.0.1:30500",
    ]


def test_what_somebody_wrote_into_our_file_stays_there() -> None:
    text = b'[[registry]]\nlocation = "quay.io"'
    found = plan([Source(DROP_IN, text)], DROP_IN, Mirror([PLAIN], [HUB, "quay.io"]))
    assert [each["location"] for each in registries(found.files[DROP_IN])] == ["quay.io", "docker.io"]
    assert registries(found.files[DROP_IN])[0]["mirror"] == [{"location": "10.0.0.1:30500/quay.io", "insecure": True}]


def test_another_registrys_narrower_prefix_and_old_format_are_told_too() -> None:
    own = '[[registry]]\nprefix = "ghcr.io/team"\nlocation = "registry.example/team"\n'
    assert planned_for([HUB, "ghcr.io"], [PLAIN], own).said == [f"ghcr.io/team goes its own way in {MAIN}"]
    with pytest.raises(Trouble, match=r"blocks ghcr\.io"):
        planned_for([HUB, "ghcr.io"], [PLAIN], '[registries.block]\nregistries = ["ghcr.io"]\n')
    assert planned('[registries.block]\nregistries = ["ghcr.io"]\n').raw, "it is none of ours"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x\n", 1),
        ("\n\nx =\n", 3),
        ("x = # nothing\n", 1),
        ('x = "a\n', 1),
        ("[[registry]\n", 1),
        ("x = [1,\n2\n", 1),
        ("x = 'a' \"b\n", 1),
        ('[[registry]] location = "docker.io"\n', 1),
    ],
)
def test_what_is_no_toml_is_named_by_its_line(text: str, line: int) -> None:
    assert refused(text) == [f"{MAIN} is no valid TOML, line {line}; mend it, the engines would not read it either"]


def test_all_files_in_disorder_are_named_at_once() -> None:
    assert refused(b"\xff", "x\n") == [
        f"{MAIN} is not UTF-8; mend it, the engines would not read it either",
        f"{LATER} is no valid TOML, line 1; mend it, the engines would not read it either",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[registries.block]\nregistries = ["docker.io"]\n',
        "[registries.insecure]\nregistries = ['quay.io', 'docker.io']\n",
        '[registries]\ninsecure.registries = ["docker.io"]\n',
        'registries.block.registries = ["docker.io"]\n',
        'registries = {block = {registries = ["docker.io"]}}\n',
    ],
)
def test_docker_io_in_the_old_format_is_refused(text: str) -> None:
    assert "in the old format (version 1)" in refused(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        'registry = [{location = "docker.io"}]\n',
        '[[registry]]\nlocation = "docker.io"\nmirror = [{location = "own:1"}]\n',
        '[[registry]]\nlocation = "docker.io"\n[registry.mirror]\nlocation = "own:1"\n',
        '[registry]\nlocation = "docker.io"\n',
        '[[Registry]]\nlocation = "docker.io"\n',
        '[[registry]]\nlocation = "docker.io"\n[[registry.Mirror]]\nlocation = "own:1"\n',
    ],
)
def test_a_form_that_takes_no_further_table_is_refused(text: str) -> None:
    assert "in a form that our mirror can't be put beside" in refused(text)[0]


def test_mirrors_for_digests_alone_are_refused_with_what_to_write() -> None:
    assert "mirror-by-digest-only" in refused('[[registry]]\nlocation = "docker.io"\nmirror-by-digest-only = true\n')[0]


def test_a_result_that_a_real_reader_sees_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries_conf, "mirror_lines", lambda *_: ["[[registry.mirror]]", 'location = "other:1"'])
    assert "in a form" in refused('[[registry]]\nlocation = "docker.io"\n')[0]


def test_a_node_without_a_reader_of_its_own_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "own:1"\n'
    with_reader = planned(text)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert planned(text) == with_reader


NAMES = st.sampled_from(["docker.io", "docker.io/", "quay.io", "docker.io/team", "ghcr.io", "*.example.com"])
STRINGS = st.sampled_from(["a", "own:5000", "[[registry]]", "# no comment", "docker.io", "]", 'say \\"so\\"', ""])
SPACES = st.sampled_from(["", " ", "\t", "  "])
ENDS = st.sampled_from(["\n", "\r\n", " # comment [[registry]]\n", "\n\n", "\n# location = 'docker.io'\n"])


@st.composite
def values(draw: st.DrawFn) -> str:
    """A value of any form."""
    text = draw(STRINGS)
    return draw(
        st.sampled_from(
            [
                f'"{text}"',
                "true",
                "12",
                f'["{text}", "b"]',
                f'[\n  "{text}", # [[registry]]\n  [1, 2],\n]',
                f'{{a = "{text}", b = [1]}}',
                f'"""\n{text}\nlocation = "docker.io"\n"""',
                f"'''{text}\n[[registry.mirror]]'''",
                "1979-05-27T07:32:00Z",
            ]
        )
    )


@st.composite
def definitions(draw: st.DrawFn, number: int) -> str:
    """A registry, with mirrors or without, and perhaps another table behind it."""
    quote = draw(st.sampled_from(['"', "'"]))
    keys = draw(st.sampled_from([["location"], ["prefix", "location"], ["location", "prefix"]]))
    own = [
        f"{draw(SPACES)}{key}{draw(SPACES)}={draw(SPACES)}{quote}{draw(NAMES)}{quote}{draw(ENDS)}" for key in keys
    ] + [f"extra{extra} = {draw(values())}{draw(ENDS)}" for extra in range(draw(st.integers(0, 2)))]
    mirrors = [
        f"{draw(SPACES)}[[registry.mirror]]{draw(ENDS)}location = {quote}own:5000{quote}{draw(ENDS)}"
        for _ in range(draw(st.integers(0, 2)))
    ]
    table = f"[table{number}]{draw(ENDS)}key = {draw(values())}{draw(ENDS)}" if draw(st.booleans()) else ""
    return "".join([f"{draw(SPACES)}[[registry]]{draw(ENDS)}", *own, *mirrors, table])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A registries.conf as people write them, and worse."""
    head = draw(st.sampled_from(["", "\n", "# head\n"]))
    pairs = [
        f"key{number}{draw(SPACES)}={draw(SPACES)}{draw(values())}{draw(ENDS)}"
        for number in range(draw(st.integers(0, 2)))
    ]
    text = "".join([head, *pairs, *[draw(definitions(number)) for number in range(draw(st.integers(0, 4)))]])
    return text.rstrip("\r\n") if draw(st.booleans()) else text


@given(documents())
def test_any_valid_file_gets_our_mirror_first_and_gives_it_back(text: str) -> None:
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        reject()
    found = planned(text)
    his = [
        registry
        for registry in before.get("registry", [])
        if (registry.get("prefix") or registry["location"]).rstrip("/") == "docker.io"
    ]
    assert (found.path == MAIN) is bool(his), "his file where he defines it, else one of ours"
    if his:
        his[0]["mirror"] = [OURS, *his[0].get("mirror", [])]
        assert tomllib.loads((found.raw or b"").decode()) == before, "nothing else changed"
        assert (owned.without_block(found.raw) or b"").rstrip(b"\n") == text.encode().rstrip(b"\n"), (
            "every byte is kept"
        )
        assert planned(text) == found, "twice is once"
    else:
        assert registries(found.raw)[0]["mirror"] == [OURS]
