"""`balancer check` and `balancer config`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from balancer.cli.main import main
from balancer.config.load import load_file, load_text
from balancer.config.schema import schema_text
from balancer.config.show import effective_toml
from tests.support.admin_instance import admin_instance

FOLDER = Path(__file__).parents[2] / "configs"
EDGE = str(FOLDER / "edge.toml")
BAD = '[[listeners]]\nbind = "127.0.0.1:80"\n[pools.web]\nbackends = ["a:1"]\noops = 1\n'


def balancer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    return path


def test_a_valid_config_is_summed_up() -> None:
    result = balancer("check", EDGE)
    assert result.exit_code == 0
    first, *timings = result.stdout.splitlines()
    assert first == f"{EDGE}: valid: 2 listeners, 3 pools, 6 backends"
    assert [line.split(":")[0] for line in timings] == ["  pool web", "  pool api", "  pool static"]
    assert result.stderr == ""


def test_errors_go_to_stderr_and_exit_1(bad: Path) -> None:
    result = balancer("check", str(bad))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{bad}:5: pools.web: unknown key 'oops'; ")


def test_errors_as_json_are_a_list(bad: Path) -> None:
    result = balancer("check", "--json", str(bad))
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    (error,) = answer["errors"]
    assert (error["file"], error["line"], error["path"]) == (str(bad), 5, "pools.web")
    assert error["message"].startswith("unknown key 'oops'")


def test_warnings_change_nothing(bad: Path) -> None:
    bad.write_text(BAD.replace("oops = 1\n", ""))
    result = balancer("check", str(bad))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{bad}:3: warning: pools.web: has no active checks")
    answer = json.loads(balancer("check", "--json", str(bad)).stdout)
    assert answer["valid"] is True
    assert len(answer["warnings"]) == 1


def test_a_file_that_is_not_there_is_no_usage_error() -> None:
    result = balancer("check", "/nowhere/x.toml")
    assert (result.exit_code, result.stderr) == (1, "/nowhere/x.toml: there is no such file\n")


def test_the_schema_is_printed_as_it_is_shipped() -> None:
    result = balancer("config", "schema")
    assert (result.exit_code, result.stdout) == (0, schema_text())


def test_a_config_is_shown_whole_as_one_that_loads_again() -> None:
    result = balancer("config", "show", EDGE)
    assert result.exit_code == 0
    assert load_text(result.stdout, "shown", {}) == load_file(Path(EDGE), {})


def test_a_config_is_shown_as_json() -> None:
    whole = json.loads(balancer("config", "show", EDGE, "--json").stdout)
    assert whole["shutdown_timeout"] == 30.0


def test_a_config_with_errors_is_not_shown(bad: Path) -> None:
    result = balancer("config", "show", str(bad))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{bad}:5: pools.web: unknown key 'oops'" in result.stderr


def test_without_a_file_the_running_instance_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_file(Path(EDGE), {})
    with admin_instance(tmp_path / "a.sock") as instance:
        monkeypatch.setattr(instance.control, "config", lambda: effective_toml(settings))
        as_toml = balancer("config", "show", "--admin", str(instance.path))
        as_json = balancer("config", "show", "--json", "--admin", str(instance.path))
    assert load_text(as_toml.stdout, "shown", {}) == settings
    assert json.loads(as_json.stdout)["readiness_delay"] == 5.0


def test_without_a_file_and_an_instance_the_socket_is_named(tmp_path: Path) -> None:
    result = balancer("--admin", str(tmp_path / "none.sock"), "config", "show")
    assert result.exit_code == 3
    assert f"no instance at {tmp_path}/none.sock" in result.stderr


def test_checking_a_config_starts_no_event_loop() -> None:
    """Light to load: what serves traffic is not imported to judge a file."""
    code = (
        "import sys; from balancer.cli.main import main\n"
        f"main(['check', {EDGE!r}], standalone_mode=False)\n"
        "print(sorted({'trio', 'httpx', 'h11', 'structlog', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
