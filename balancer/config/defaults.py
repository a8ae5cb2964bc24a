"""Where the admin socket and the state file are when the config does not say.

By user, so that nobody needs rights: root gets the system's places, others their own. Pure, and
free of heavy imports, because every command of the CLI asks it for the socket.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple


class DefaultPaths(NamedTuple):
    socket: str
    state: str


def default_paths(env: Mapping[str, str], uid: int) -> DefaultPaths:
    """The places for this user. The folder of the socket is to be made with mode 0700."""
    if uid == 0:
        return DefaultPaths("/run/balancer/admin.sock", "/var/lib/balancer/state.json")
    runtime = _absolute(env.get("XDG_RUNTIME_DIR"))
    if runtime is not None:
        socket = runtime / "balancer" / "admin.sock"
    else:
        temp = _absolute(env.get("TMPDIR")) or PurePosixPath("/tmp")  # noqa: S108
        socket = temp / f"balancer-{uid}" / "admin.sock"
    home = _absolute(env.get("HOME"))
    state_home = _absolute(env.get("XDG_STATE_HOME")) or (home and home / ".local" / "state")
    # Without a home the state goes where the socket is, rather than to a place by chance.
    state = state_home / "balancer" if state_home else socket.parent
    return DefaultPaths(str(socket), str(state / "state.json"))


def _absolute(folder: str | None) -> PurePosixPath | None:
    """The XDG rules: a folder that is empty or not absolute counts as not set."""
    return PurePosixPath(folder) if folder and folder.startswith("/") else None
