"""The files in configs/, and what is printed as a config."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from balancer.config.advice import expectations, warnings_about
from balancer.config.defaults import default_paths
from balancer.config.durations import parse_duration, parse_size
from balancer.config.errors import Place
from balancer.config.load import load_file, load_text
from balancer.config.pool_settings import Health
from balancer.config.schema import schema, schema_text
from balancer.config.settings import Admin, Settings
from balancer.config.show import as_json, effective_toml, written
from balancer.config.tables import TABLES, shape_of

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(FOLDER.glob("*.toml"))
EVERY_OPTION = (FOLDER / "every_option.toml").read_text(encoding="utf-8")
# `# key = value  # comment`: an option that is not set by default.
UNSET = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)
# These have no default: what stands in the file is an example.
EXAMPLES = {
    ("listeners", "*", "bind"),
    ("listeners", "*", "tls", "certificates", "*", "certificate"),
    ("pools", "*", "backends", "*", "address"),
    ("routes", "*", "pool"),
}


def in_every_table() -> Iterator[tuple[tuple[str, ...], str, type[BaseModel]]]:
    """Every setting that has a value of its own, with the table that it is in."""
    for shape, model in TABLES.items():
        tables_below = {each[len(shape)] for each in TABLES if each[: len(shape)] == shape != each}
        for name in model.model_fields:
            if name not in tables_below:
                yield shape, name, model


def leaves(value: object, path: Place = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for at, each in enumerate(value):
            yield from leaves(each, (*path, at))
    else:
        yield shape_of(path), value


# ---- the files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_is_valid_and_gives_no_cause_for_warnings(path: Path) -> None:
    settings = load_file(path, {})
    assert list(warnings_about(settings)) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_names_its_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#:schema ./schema.json\n")


def test_the_minimal_config_is_the_well_known_block() -> None:
    settings = load_file(FOLDER / "minimal.toml", {})
    (pool,) = settings.pools.values()
    assert [each.bind for each in settings.listeners] == ["0.0.0.0:8080"]
    assert [(each.host, each.path, each.pool) for each in settings.routes] == [
        ("example.com", "/", "backend")
    ]
    assert [each.address for each in pool.backends] == [f"127.0.0.1:900{n}" for n in (1, 2, 3)]
    assert pool.health is not None
    assert (pool.health.interval, pool.health.fails, pool.health.passes) == (10.0, 3, 2)
    assert pool.health.transition_pace == 10.0


def test_the_demo_keeps_to_one_folder() -> None:
    """It must not meet a real instance, nor need rights."""
    admin = load_file(FOLDER / "demo.toml", {"BALANCER_DEMO_DIR": "/d"}).admin
    assert (admin.socket, admin.state) == ("/d/admin.sock", "/d/state.json")
    assert load_file(FOLDER / "demo.toml", {}).admin.socket == "/tmp/balancer-demo/admin.sock"


# ---- every option ------------------------------------------------------------------------------


def test_every_option_is_in_the_file_and_nothing_else() -> None:
    uncommented = tomllib.loads(UNSET.sub("", EVERY_OPTION))
    there = [shape for shape, _ in leaves(uncommented)]
    expected = {(*shape, name) for shape, name, _ in in_every_table()}
    assert set(there) == expected
    assert len(there) == len(expected)


def test_every_option_has_its_default() -> None:
    there = dict(leaves(tomllib.loads(EVERY_OPTION)))
    paths = default_paths({}, 0)
    for shape, name, model in in_every_table():
        field, place = model.model_fields[name], (*shape, name)
        default = written(field, field.default)
        if model is Admin and name in ("socket", "state"):
            assert there[place] == getattr(paths, name)
        elif place in EXAMPLES:
            assert place in there
        elif default is None:
            assert place not in there, "shown as a comment"
        else:
            assert there[place] == (list(default) if isinstance(default, tuple) else default)


def test_every_option_has_a_comment_of_one_line() -> None:
    for line in EVERY_OPTION.splitlines():
        if re.match(r"(# )?[a-z_]+ = ", line):
            assert re.search(r"  ?# \S.*\.$", line), line


# What is of no use alone, and what it needs.
NEEDS = {"key": "certificate"}


@pytest.mark.parametrize("at", range(len(UNSET.findall(EVERY_OPTION))))
def test_each_option_that_is_not_set_can_be(at: int) -> None:
    found = list(UNSET.finditer(EVERY_OPTION))[at]
    text = EVERY_OPTION[: found.start()] + EVERY_OPTION[found.end() :]
    needed = NEEDS.get(text[found.start() :].partition(" ")[0])
    if needed:
        before, _, after = text.rpartition(f"# {needed} = ")
        text = f"{before}{needed} = {after}"
    assert load_text(text, "x", {}) != load_text(EVERY_OPTION, "x", {})


def test_every_setting_is_described() -> None:
    for model in TABLES.values():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith("."), f"{model.__name__}.{name}"


# ---- the schema --------------------------------------------------------------------------------


def test_the_shipped_schema_is_fresh() -> None:
    """If not: balancer config schema > configs/schema.json"""
    assert (FOLDER / "schema.json").read_text(encoding="utf-8") == schema_text()


def parts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from parts(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each)


def test_the_schema_keeps_to_what_old_validators_know() -> None:
    text = schema_text()
    assert not re.search(r"\$defs|prefixItems|unevaluated|\"const\"|\"null\"", text)
    for part in parts(schema()):
        if "$ref" in part:
            assert list(part) == ["$ref"], "siblings of $ref are ignored"
            assert part["$ref"].split("/")[-1] in schema()["definitions"]


def test_the_schema_knows_exactly_our_settings() -> None:
    whole = schema()
    for model in TABLES.values():
        described = whole if model is Settings else whole["definitions"][model.__name__]
        assert set(described["properties"]) == set(model.model_fields)
        assert described["additionalProperties"] is False


KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def fits(value: object, rule: dict[str, Any]) -> bool:
    """As much of a validator as our schema needs."""
    if "$ref" in rule:
        return fits(value, schema()["definitions"][rule["$ref"].split("/")[-1]])
    return (
        ("type" not in rule or isinstance(value, KINDS[rule["type"]]))
        and ("enum" not in rule or value in rule["enum"])
        and ("pattern" not in rule or bool(re.search(rule["pattern"], str(value))))
        and (not isinstance(value, int | float) or value >= rule.get("minimum", value))
        and all(fits(value, each) for each in rule.get("allOf", []))
        and ("anyOf" not in rule or any(fits(value, each) for each in rule["anyOf"]))
        and (not isinstance(value, list) or all(fits(v, rule.get("items", {})) for v in value))
        and (not isinstance(value, dict) or object_fits(value, rule))
    )


def object_fits(value: dict[str, object], rule: dict[str, Any]) -> bool:
    if not set(rule.get("required", [])) <= set(value):
        return False
    for key, each in value.items():
        rules = [rule["properties"][key]] if key in rule.get("properties", {}) else []
        rules += [r for p, r in rule.get("patternProperties", {}).items() if re.search(p, key)]
        if not rules and rule.get("additionalProperties") is False:
            return False
        if not all(fits(each, one) for one in rules):
            return False
    return True


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_fits_the_schema(path: Path) -> None:
    assert fits(tomllib.loads(path.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize(
    "wrong",
    ['workers = "4"', "oops = 1", 'shutdown_timeout = "10"', "[client]\nmax_header = '1KB'"],
)
def test_a_slip_does_not_fit_the_schema(wrong: str) -> None:
    good = '[[listeners]]\nbind = "127.0.0.1:1"\n[pools.web]\n'
    assert fits(tomllib.loads(good), schema())
    assert not fits(tomllib.loads(f"{wrong}\n{good}"), schema())


@given(st.integers(0, 10**7).map(lambda ms: ms / 1000), st.integers(0, 2**24))
def test_what_we_write_fits_the_schema(seconds: float, octets: int) -> None:
    definitions = schema()["definitions"]
    duration = written(Health.model_fields["interval"], seconds)
    assert parse_duration(duration) == seconds
    assert fits(duration, definitions["Health"]["properties"]["interval"])
    size = written(Health.model_fields["body_limit"], octets)
    assert parse_size(size) == octets
    assert fits(size, definitions["Health"]["properties"]["body_limit"])


# ---- printed as a config -----------------------------------------------------------------------

ODD = """
workers = 3
shutdown_timeout = 0.0123
trusted_proxies = ["10.0.0.0/8", "fd00::/8", "192.168.0.0/16", "127.0.0.1"]
[[listeners]]
bind = "unix:/run/$${x}"
proxy_protocol = "required"
proxy_protocol_from = ["unix:", "10.0.0.0/8"]
[admin]
state = ""
socket = "/tmp/s"
health = "[::1]:80"
[log]
access = "/a \\"b\\\\ é"
[pools."a.b"]
panic_below = 0.1
[pools.c]
backends = [{ address = "A:1", weight = 0 }, "b:1", "c:1", "unix:/x"]
[pools.c.health]
type = "tcp"
port = 7
transition_interval = "33ms"
[pools.d.health]
headers = { "X-A" = "\\"v\\" $${x}", b = "" }
body_matches = "\\\\d+\\u007f"
status = [200, "300-400"]
[[routes]]
pool = "a.b"
host = "*.Example.com."
[[routes]]
pool = "d"
"""


@pytest.mark.parametrize("text", [*(path.read_text(encoding="utf-8") for path in CONFIGS), ODD])
@pytest.mark.parametrize("home", ["/h", "/h$${"])
def test_a_config_that_is_printed_loads_again_as_the_same(text: str, home: str) -> None:
    settings = load_text(text, "x", {"HOME": home, "XDG_RUNTIME_DIR": home})
    shown = effective_toml(settings)
    assert load_text(shown, "shown", {}) == settings
    assert effective_toml(load_text(shown, "shown", {})) == shown


def test_as_json_a_config_is_whole_too() -> None:
    whole = json.loads(as_json(load_text(ODD, "x", {})))
    assert whole["shutdown_timeout"] == 0.0123
    assert whole["pools"]["c"]["backends"][0] == {"address": "a:1", "weight": 0}


# ---- advice ------------------------------------------------------------------------------------

GOOD = '[[listeners]]\nbind = "127.0.0.1:1"\n[pools.web]\nbackends = ["a:1"]\n'
HEALTH = "[pools.web.health]\n"
HOSTS = '[[routes]]\npool = "web"\nhost = "{}"\npath = "{}"\n'


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (GOOD, ("pools", "web"), "only failing requests show that a backend is down"),
        (
            GOOD + "[pools.web.passive]\nenabled = false",
            ("pools", "web"),
            "nothing shows that a backend is down",
        ),
        (GOOD.replace('"a:1"', "") + HEALTH, ("pools", "web"), "answered 503"),
        (
            GOOD.replace('"a:1"', '{ address = "a:1", weight = 0 }') + HEALTH,
            ("pools", "web"),
            "every backend has weight 0",
        ),
        (GOOD + HEALTH + "interval = 1", ("pools", "web", "health", "timeout"), "longer than"),
        (
            GOOD + HEALTH + "transition_interval = 11",
            ("pools", "web", "health", "transition_interval"),
            "meant to be shorter",
        ),
        (GOOD + HEALTH + "verify = false", ("pools", "web", "health", "verify"), "without tls"),
        (
            "[[listeners]]\nbind = '[::]:1'\nproxy_protocol_from = ['::1']\n" + GOOD + HEALTH,
            ("listeners", 0, "proxy_protocol_from"),
            "means nothing while 'proxy_protocol' is \"off\"",
        ),
        (
            GOOD.replace("[pools", "https_redirect = 1\n[pools") + HEALTH,
            ("listeners", 0, "https_redirect"),
            "is the port of this listener",
        ),
        (
            GOOD + HEALTH + "[pools.b.health]\n[[pools.b.backends]]\naddress = 'a:1'\n"
            "[[routes]]\npool = 'web'",
            ("pools", "b"),
            "no route leads to this pool",
        ),
        (
            GOOD + HEALTH + HOSTS.format("a.com", "/api") + HOSTS.format("a.com", "/api/x"),
            ("routes", 1),
            "is never reached; routes[0] takes all it matches",
        ),
        (
            GOOD + HEALTH + HOSTS.format("*.a.com", "/") + HOSTS.format("b.a.com", "/x"),
            ("routes", 1),
            "is never reached",
        ),
    ],
)
def test_what_is_seldom_meant_is_warned_about(text: str, place: Place, says: str) -> None:
    (finding,) = warnings_about(load_text(text, "x", {}))
    assert finding.path == place
    assert says in finding.message


@pytest.mark.parametrize(
    "routes",
    [
        HOSTS.format("a.com", "/api") + HOSTS.format("a.com", "/apix"),
        HOSTS.format("a.com", "/") + HOSTS.format("*.a.com", "/"),
        HOSTS.format("*.a.com", "/") + HOSTS.format("a.com", "/"),
    ],
)
def test_routes_that_can_be_reached_are_not_warned_about(routes: str) -> None:
    assert list(warnings_about(load_text(GOOD + HEALTH + routes, "x", {}))) == []


def test_it_is_told_how_soon_a_dead_backend_is_noticed() -> None:
    (line,) = expectations(load_text(GOOD + HEALTH + "transition_interval = 10", "x", {}))
    assert line == (
        "pool web: probes take a dead backend out after 20 to 30 s (up to 2 s more if it hangs),"
        " and bring it back after 10 to 20 s"
    )
