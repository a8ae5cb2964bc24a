import pytest

from balancer.config.defaults import default_paths


@pytest.mark.parametrize(
    ("uid", "env", "socket", "state"),
    [
        (0, {}, "/run/balancer/admin.sock", "/var/lib/balancer/state.json"),
        (0, {"HOME": "/root"}, "/run/balancer/admin.sock", "/var/lib/balancer/state.json"),
        (
            7,
            {"HOME": "/home/ann", "XDG_RUNTIME_DIR": "/run/user/7"},
            "/run/user/7/balancer/admin.sock",
            "/home/ann/.local/state/balancer/state.json",
        ),
        (
            7,
            {"HOME": "/home/ann", "XDG_STATE_HOME": "/s", "TMPDIR": "/t"},
            "/t/balancer-7/admin.sock",
            "/s/balancer/state.json",
        ),
        (
            7,
            {"XDG_RUNTIME_DIR": "", "XDG_STATE_HOME": "relative", "HOME": "/h"},
            "/tmp/balancer-7/admin.sock",
            "/h/.local/state/balancer/state.json",
        ),
        (7, {}, "/tmp/balancer-7/admin.sock", "/tmp/balancer-7/state.json"),
    ],
)
def test_each_user_has_places_of_its_own(
    uid: int, env: dict[str, str], socket: str, state: str
) -> None:
    assert default_paths(env, uid) == (socket, state)
