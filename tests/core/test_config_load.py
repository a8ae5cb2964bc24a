from pathlib import Path

import pytest

from balancer.config.errors import ConfigErrors
from balancer.config.load import from_targets, load_file, load_text
from balancer.config.pool_settings import Backend
from balancer.config.settings import Settings

GOOD = """\
[[listeners]]
bind = "127.0.0.1:8080"
[pools.web]
backends = ["10.0.0.1:80"]
"""
REQUIRED = GOOD + '[[listeners]]\nbind = "[::1]:1"\nproxy_protocol = "required"\n'


def load(text: str, **env: str) -> Settings:
    return load_text(text, "edge.toml", env)


def errors_of(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigErrors) as refusal:
        load(text, **env)
    lines = str(refusal.value).split("\n")
    assert len(lines) == len(refusal.value.errors), "one line each"
    return lines


def test_what_the_file_says_becomes_typed_settings() -> None:
    settings = load(
        """
        shutdown_timeout = "1m30s"
        [[listeners]]
        bind = "[0:0::1]:8080"
        [client]
        max_header = "16KiB"
        [pools.web]
        backends = ["10.0.0.1:80", { address = "EXAMPLE.com:80", weight = 2 }]
        [pools.web.health]
        interval = 5
        status = ["200-299", 404]
        """
    )
    assert settings.shutdown_timeout == 90.0
    assert settings.listeners[0].bind == "[::1]:8080"
    assert settings.client.max_header == 16 * 1024
    pool = settings.pools["web"]
    assert pool.backends == (
        Backend(address="10.0.0.1:80", weight=1),
        Backend(address="example.com:80", weight=2),
    )
    assert pool.health is not None
    assert (pool.health.interval, pool.health.transition_pace) == (5.0, 1.0)
    assert pool.health.status == ("200-299", "404")


def test_backends_as_tables_mean_the_same_as_the_list() -> None:
    head = '[[listeners]]\nbind = "127.0.0.1:1"\n'
    listed = '[pools.web]\nbackends = ["a:1", { address = "b:1", weight = 3 }]\n'
    tables = (
        '[[pools.web.backends]]\naddress = "a:1"\n'
        '[[pools.web.backends]]\naddress = "b:1"\nweight = 3\n'
    )
    assert load(head + listed) == load(head + tables)


def test_settings_cannot_be_changed() -> None:
    settings = load(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 3


def test_all_errors_are_told_together_in_the_order_of_the_file() -> None:
    assert errors_of(
        """\
workers = 0

[[listeners]]
bind = ":8080"

[pools.web]
policy = "least-connection"
backends = [
  "10.0.0.1:80",
  "10.0.0.2",
  { address = "10.0.0.1:80", weigth = 3 },
]

[[routes]]
pool = "wbe"
"""
    ) == [
        'edge.toml:1: workers: expected "auto" or a whole number from 1 to 64, got 0',
        "edge.toml:4: listeners[0].bind: ':8080' does not say on which address;"
        ' write "0.0.0.0:8080" (IPv4) or "[::]:8080" (IPv6)',
        "edge.toml:7: pools.web.policy: expected 'least-connections' or 'weighted-round-robin',"
        " got 'least-connection'; did you mean 'least-connections'?",
        "edge.toml:10: pools.web.backends[1]: '10.0.0.2': a port is missing; write 10.0.0.2:8080",
        "edge.toml:11: pools.web.backends[2]: unknown key 'weigth'; did you mean 'weight'?",
        "edge.toml:11: pools.web.backends[2].address: '10.0.0.1:80' is there twice;"
        " pools.web.backends[0] has it already (line 9)",
        "edge.toml:15: routes[0].pool: there is no pool 'wbe'; did you mean 'web'?",
    ]


TOP = "edge.toml:1: "
HEALTH = "[pools.web.health]\n"  # its keys are on line 6 of a text that begins with GOOD

GOOD_LISTENER = """pools.web.backends = []
[[listeners]]
bind = "127.0.0.1:1"
"""
TLS = (
    GOOD_LISTENER
    + """[listeners.tls]
certificates = [{ certificate = "/c" }]
"""
)

WRONG = [
    # ---- what must be there ----
    ("", "missing [[listeners]]"),
    ("", "missing [pools.NAME]"),
    ("listeners = []\npools = {}", "edge.toml:1: listeners: is empty"),
    ("listeners = []\npools = {}", "edge.toml:2: pools: is empty"),
    (GOOD + "[[routes]]\npath = '/'", "edge.toml:5: routes[0]: missing 'pool'"),
    (GOOD + "[pools.b]", "edge.toml:5: pools.b: there are 2 pools and no [[routes]]"),
    # ---- TLS ----
    (GOOD_LISTENER + "[listeners.tls]", "listeners[0].tls: missing 'certificates'"),
    (
        GOOD_LISTENER + "[listeners.tls]\ncertificates = []",
        "listeners[0].tls.certificates: is empty",
    ),
    (
        GOOD_LISTENER + "[listeners.tls]\ncertificates = [{ key = '/k' }]",
        "listeners[0].tls.certificates[0]: missing 'certificate'",
    ),
    (TLS + "client_auth = 'required'", "name the file of its authorities in 'client_ca'"),
    (TLS + "client_auth = 'yes'", "expected 'off', 'optional' or 'required', got 'yes'"),
    (TLS + "minimum_version = '1.1'", "expected '1.2' or '1.3', got '1.1'"),
    (TLS + "hsts_subdomains = true", "means nothing without 'hsts'"),
    (TLS + "cert = '/c'", "unknown key 'cert'"),
    (GOOD_LISTENER + "https_redirect = 70000", "listeners[0].https_redirect"),
    # ---- keys ----
    ("wrokers = 1\n" + GOOD, "edge.toml:1: unknown key 'wrokers'; did you mean 'workers'?"),
    ("interval = 1\n" + GOOD, "it belongs in [pools.NAME.health]"),
    ("bind = 1\n" + GOOD, "it belongs in [[listeners]]"),
    ("weight = 1\n" + GOOD, "it belongs in [[pools.NAME.backends]]"),
    (GOOD + "workers = 1", "it belongs at the top of the file"),
    (GOOD + "rise = 1", "'passes' belongs in [pools.NAME.health]"),
    (
        GOOD + HEALTH + "fall = 1",
        "edge.toml:6: pools.web.health: unknown key 'fall'; did you mean 'fails'?",
    ),
    (GOOD + "zzz = 1", "known here: policy, panic_below, backends"),
    (GOOD + '["\\u001b[31m"]', "unknown key '\\x1b[31m'"),
    # ---- types ----
    (GOOD + HEALTH + 'fails = "3"', "expected a whole number, got '3'; leave out the quotes"),
    (GOOD + HEALTH + "fails = 3.0", "expected a whole number, got 3.0"),
    (GOOD + HEALTH + "fails = true", "expected a whole number, got true"),
    (GOOD + HEALTH + "fails = 1979-05-27", "expected a whole number, got a date"),
    (GOOD + HEALTH + "tls = 1", "expected true or false, got 1"),
    (GOOD + HEALTH + 'tls = "yes"', "got 'yes'; write true"),
    (GOOD + HEALTH + 'tls = "false"', "leave out the quotes"),
    (GOOD + HEALTH + "jitter = true", "expected a number, got true"),
    (GOOD + HEALTH + "jitter = nan", "expected an ordinary number"),
    (GOOD + HEALTH + "path = 1", 'expected text in quotes ("…"), got 1'),
    (GOOD + HEALTH + 'status = "200"', "expected a list, got '200'; write it in brackets: […]"),
    (GOOD + "health = 1", "expected a table, got 1"),
    (GOOD + "[[pools.web.health]]", "write [pools.web.health] in single brackets"),
    (GOOD + "[routes]\npool = 'web'", "write [[routes]] in double brackets"),
    (GOOD.replace('["10.0.0.1:80"]', "[1]"), "expected an address in quotes or a table"),
    ("pools = 1", "edge.toml:1: pools: expected a table, got 1"),
    # ---- ranges ----
    (GOOD + HEALTH + "fails = 0", "expected 1 or more, got 0"),
    (GOOD + HEALTH + "jitter = 0.6", "expected 0.5 or less, got 0.6"),
    (GOOD + HEALTH + "port = 65536", "expected 65535 or less"),
    (GOOD + HEALTH + "port = " + "9" * 99, "got a number of too many digits"),
    (GOOD + HEALTH + 'interval = "0s"', "expected a duration from 10ms to 1h, got '0s'"),
    (GOOD + HEALTH + 'timeout = "6m"', "expected a duration from 1ms to 5m, got '6m'"),
    (GOOD + HEALTH + "timeout = -1", "from 0 up"),
    (GOOD + HEALTH + "body_limit = 0", "expected a size from 1B to 16MiB, got 0"),
    (GOOD + "panic_below = 1.5", "expected 1 or less"),
    (GOOD + "[[pools.web.backends]]", "not valid TOML"),
    (GOOD.replace('"10.0.0.1:80"', '{address = "a:1", weight = 1001}'), "1000 or less, got 1001"),
    (GOOD.replace('"10.0.0.1:80"', "{}"), "pools.web.backends[0]: missing 'address'"),
    # ---- values ----
    (GOOD + HEALTH + 'status = ["2xx"]', """did you mean "200-299"?"""),
    (GOOD + HEALTH + 'status = ["299-200"]', """runs backwards; did you mean "200-299"?"""),
    (GOOD + HEALTH + 'status = ["600"]', "within 100 to 599"),
    (GOOD + HEALTH + "status = [99]", "within 100 to 599, got 99"),
    (GOOD + HEALTH + "status = []", "pools.web.health.status: is empty"),
    (GOOD + HEALTH + 'body_matches = "("', "is no valid regular expression"),
    (GOOD + HEALTH + 'body_matches = "a{99999999999}"', "is no valid regular expression"),
    (GOOD + HEALTH + 'body_contains = ""', "cannot be empty"),
    (GOOD + HEALTH + 'path = "health"', 'expected a path that starts with "/"'),
    (GOOD + HEALTH + 'path = "/a b"', "percent-encoded"),
    (GOOD + HEALTH + 'method = "get"', "did you mean 'GET'?"),
    (GOOD + HEALTH + 'method = "CONNECT"', "expected an HTTP method"),
    (GOOD + HEALTH + 'host = "a b"', "expected a host such as"),
    (GOOD + HEALTH + 'headers = { "a b" = "x" }', "'a b' is no header name"),
    (GOOD + HEALTH + 'headers = { a = "x\\r\\ny" }', "cannot hold line breaks"),
    (GOOD + HEALTH + "headers = { a = 1 }", "pools.web.health.headers.a: expected text"),
    (GOOD + 'tunnels.protocols = ["h2c"]', "'h2c' is never tunnelled"),
    (GOOD + 'tunnels.protocols = ["HTTP/2.0"]', "'HTTP/2.0' is never tunnelled"),
    (GOOD + 'tunnels.protocols = ["a b"]', "expected the name of a protocol"),
    (GOOD + 'tunnels.protocols = ["echo/"]', "expected the name of a protocol"),
    (GOOD + 'tunnels.idle_timeout = "8d"', "expected a duration from 1ms to 7d"),
    (GOOD + '[pools."a b"]', "a pool's name begins with a letter or digit"),
    (GOOD + '[[routes]]\npool = "web"\nhost = "a.com:80"', 'only the name counts here: "a.com"'),
    (GOOD + '[[routes]]\npool = "web"\nhost = "http://a.com/"', '"a.com"'),
    (GOOD + '[[routes]]\npool = "web"\nhost = "a b"', "expected a host name"),
    (GOOD + '[[routes]]\npool = "web"\npath = "/a?b"', "routes look at the path only"),
    ('trusted_proxies = ["10.0.0.1/8"]\n' + GOOD, 'did you mean "10.0.0.0/8"?'),
    ('trusted_proxies = ["me"]\n' + GOOD, "expected a network such as"),
    (REQUIRED + 'proxy_protocol_from = ["unix"]', "expected a network such as"),
    (REQUIRED.replace("required", "v2"), "'off' or 'required'"),
    (GOOD.replace("127.0.0.1:8080", "localhost:8080"), '"127.0.0.1:8080", got the name'),
    (GOOD.replace("127.0.0.1:8080", "*:8080"), 'write "0.0.0.0:8080"'),
    (GOOD.replace("127.0.0.1:8080", "8080"), 'write "0.0.0.0:8080"'),
    (GOOD.replace("127.0.0.1:8080", "\\u001b"), "expected an address such as"),
    (GOOD + '[admin]\nsocket = ""', "expected the path of a file"),
    (GOOD + '[admin]\nsocket = "0.0.0.0:9900"', "only the path of a unix socket"),
    (GOOD + '[admin]\nsocket = "127.0.0.1:9900"', "only the path of a unix socket"),
    (GOOD + f'[admin]\nsocket = "/{"x" * 107}"', "at most 107 bytes, this one has 108"),
    (GOOD + '[admin]\nhealth = "unix:/x"', "expected an IP address and port"),
    (GOOD + '[log]\naccess = ""', "expected the path of a file"),
    (GOOD + '[client]\nallow_fields = ["X_Real-IP"]', "backends take it for 'x-real-ip'"),
    (GOOD + '[client]\nallow_fields = ["Cookie"]', "'Cookie' is never dropped"),
    (GOOD + '[client]\nallow_fields = ["a b"]', "is no header name"),
    # ---- contradictions ----
    (REQUIRED, "nobody may send them"),
    (REQUIRED + "proxy_protocol_from = []", "nobody may send them"),
    (GOOD + '[[listeners]]\nbind = "127.0.0.1:8080"', "listeners[0].bind has it already (line 2)"),
    (GOOD + '[admin]\nhealth = "127.0.0.1:8080"', "listeners[0].bind has it already (line 2)"),
    (
        GOOD.replace("127.0.0.1:8080", "unix:/x") + '[admin]\nsocket = "/x"',
        "listeners[0].bind has it already (line 2)",
    ),
    (
        GOOD.replace('["10.0.0.1:80"]', '["[::1]:80", "[0::1]:80"]'),
        "pools.web.backends[0] has it already (line 4)",
    ),
    (
        GOOD + HEALTH + 'type = "tcp"\npath = "/"',
        "edge.toml:7: pools.web.health.path: 'path' means",
    ),
    (
        GOOD + HEALTH + 'body_contains = "a"\nbody_matches = "a"',
        "'body_contains' and 'body_matches' exclude each other; keep one of them (line 6)",
    ),
    (GOOD + HEALTH + 'body_contains = "a"\nmethod = "HEAD"', "an answer to HEAD has no body"),
    (
        GOOD + '[pools.web.passive]\nbase_ejection = "2m"\nmax_ejection = "1m"',
        "'max_ejection' is shorter than 'base_ejection'",
    ),
    (GOOD + '[[routes]]\npool = "x"', "there is no pool 'x'; the pools are 'web'"),
    # ---- variables ----
    (GOOD.replace("10.0.0.1", "${NOPE}"), "edge.toml:4: pools.web.backends[0]: the environment"),
    (GOOD.replace("10.0.0.1", "${NOPE"), "a literal '${' is written '$${'"),
    # ---- TOML ----
    ("a = ", "edge.toml:1: not valid TOML: expected a value here; text needs quotes"),
    ("\n\na = 1 b", "edge.toml:3: not valid TOML: expected the line to end here (column 7)"),
    ("a = 1\na = 2\n", "edge.toml:2: not valid TOML: this key is given twice"),
    ("[a]\n[b]\n[a]", "edge.toml:3: not valid TOML: the table 'a' is declared twice"),
    ("\na = [1,\n2", "edge.toml:2: not valid TOML: unclosed array: what begins on this line"),
    ("\na = '''\n\n", "edge.toml:2: not valid TOML"),
    ("a = " + "[" * 9999, "nested too deeply"),
    ("a" + ".a" * 9999 + " = 1", "edge.toml:1: a: nested too deeply"),
    ("a = " + "9" * 9999, "too many digits"),
    ("\ufeff" + GOOD, "edge.toml:1: begins with a byte order mark"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_is_wrong_is_told_with_what_would_be_right(text: str, says: str) -> None:
    lines = errors_of(text)
    assert any(says in line for line in lines), lines
    assert all(line.startswith("edge.toml:") and line.isprintable() for line in lines)


def test_of_two_words_that_are_equally_near_none_is_suggested() -> None:
    with pytest.raises(ConfigErrors) as refused:
        load_text(TLS + "minimum_version = '1.1'", "x", {})
    assert str(refused.value).endswith("expected '1.2' or '1.3', got '1.1'")


def test_a_missing_variable_is_the_only_error_of_its_place() -> None:
    """That an empty address has no port follows from it and would only distract."""
    (line,) = errors_of(GOOD.replace("10.0.0.1:80", "${NOPE}"))
    assert "NOPE is not set; set it, or give a default: '${NOPE:-…}'" in line


def test_variables_are_filled_in() -> None:
    text = GOOD.replace("10.0.0.1", "${HOST}").replace(":8080", ":${PORT:-81}")
    settings = load(text, HOST="h")
    assert settings.pools["web"].backends[0].address == "h:80"
    assert settings.listeners[0].bind == "127.0.0.1:81"


def test_bytes_of_the_environment_that_are_no_text_are_refused() -> None:
    (line,) = errors_of(GOOD.replace("10.0.0.1", "${HOST}"), HOST="\udcff")
    assert "no UTF-8" in line


def test_a_header_value_is_never_shown() -> None:
    text = GOOD + HEALTH + 'headers = { Authorization = "${TOKEN}" }'
    assert "secret" not in "".join(errors_of(text, TOKEN="secret\n"))


def test_a_listener_may_ask_for_any_free_port_and_more_than_once() -> None:
    free = '[[listeners]]\nbind = "127.0.0.1:0"\n'
    settings = load(free + free + "[pools.web]\n")
    assert [listener.bind for listener in settings.listeners] == ["127.0.0.1:0"] * 2


def test_a_first_line_may_name_the_schema() -> None:
    assert load("#:schema ./schema.json\n" + GOOD) == load(GOOD)


def test_no_state_is_kept_where_the_path_is_empty() -> None:
    assert load(GOOD + '[admin]\nstate = ""').admin.state is None
    assert load(GOOD, HOME="/h").admin.state is not None


# ---- files -------------------------------------------------------------------------------------


def file_error(path: Path) -> str:
    with pytest.raises(ConfigErrors) as refusal:
        load_file(path, {})
    return str(refusal.value)


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    assert file_error(tmp_path / "x.toml") == f"{tmp_path}/x.toml: there is no such file"
    assert "this is a folder" in file_error(tmp_path)
    assert "cannot be read" in file_error(tmp_path / "\0")
    assert "\x1b" not in file_error(tmp_path / "\x1b[31m")


def test_a_file_that_is_no_utf8_is_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = 1\nb = '\xe9'\n")
    assert file_error(path) == f"{path}:2: byte 0xe9 is no UTF-8; save the file as UTF-8"


def test_a_file_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"#" * (5 * 1024 * 1024))
    assert "is larger than 4 MiB" in file_error(path)


def test_a_file_may_have_the_line_ends_of_any_system(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes((GOOD + "oops = 1\n").replace("\n", "\r\n").encode())
    assert file_error(path).startswith(f"{path}:5: pools.web: unknown key 'oops'")


# ---- without a file ----------------------------------------------------------------------------


def test_two_options_make_a_config() -> None:
    settings = from_targets("127.0.0.1:8080", ["127.0.0.1:9001", "unix:/a"], {})
    assert settings.listeners[0].bind == "127.0.0.1:8080"
    assert [each.address for each in settings.pools["web"].backends] == [
        "127.0.0.1:9001",
        "unix:/a",
    ]
    assert settings.admin.state is None


def test_errors_of_options_name_the_option() -> None:
    with pytest.raises(ConfigErrors) as refusal:
        from_targets(":80", ["a:1", "b", "A:1"], {})
    listen, missing, twice = str(refusal.value).split("\n")
    assert listen.startswith("--listen: ':80' does not say on which address")
    assert missing == "--to: 'b': a port is missing; write b:8080"
    assert twice.startswith("--to: 'a:1' is there twice")


def test_protocols_of_tunnels_are_kept_in_lower_case_as_they_are_compared() -> None:
    settings = load_text(GOOD + 'tunnels.protocols = ["WebSocket", "SPDY/3.1"]', "edge.toml", {})
    assert settings.pools["web"].tunnels.protocols == ("websocket", "spdy/3.1")
    assert load_text(GOOD, "edge.toml", {}).pools["web"].tunnels.protocols == ("websocket",)
