"""Nobody else reaches the admin socket: its modes from the first moment, and the way that leads there."""

import json
import os
import select
import shutil
import signal
import socket
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balancer.admin import private_place
from balancer.admin.socket_file import SocketPlaceTaken, open_socket_file, prepare_place
from balancer.wire.network import KernelNetwork, SockAddr, _KernelSocket

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


def knock_until_told(path: Path, told: int) -> Counter[str]:
    """Connect again and again; how often which error came."""
    seen: Counter[str] = Counter()
    while not select.select([told], [], [], 0)[0]:
        with socket.socket(socket.AF_UNIX) as sock:
            error = sock.connect_ex(str(path))
        seen[os.strerror(error) if error else "connected"] += 1
    return seen


@contextmanager
def knocking(path: Path) -> Iterator[Callable[[], dict[str, int]]]:
    """Another user who knocks at `path` until what is yielded is called, which tells of it."""
    (told, tell), (heard, say) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(say, json.dumps(knock_until_told(path, told)).encode())
        finally:
            os._exit(0)

    def result() -> dict[str, int]:
        os.write(tell, b"!")
        said: dict[str, int] = json.loads(os.read(heard, 4096))
        return said

    try:
        yield result
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in (told, tell, heard, say):
            os.close(descriptor)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter and look into, under a path that everybody may go."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def no_umask() -> Iterator[None]:
    """As careless a umask as there can be."""
    before = os.umask(0)
    yield
    os.umask(before)


class _Watched(_KernelSocket):
    modes: list[int]

    def bind(self, address: SockAddr, /) -> None:  # type: ignore[override]
        super().bind(address)
        self.modes.append(stat.S_IMODE(os.stat(str(address)).st_mode))


class _WatchedNetwork(KernelNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.modes: list[int] = []

    def socket(self, family: int) -> _Watched:
        sock = _Watched(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.modes = self.modes
        return sock


def test_the_socket_is_private_in_the_moment_in_which_it_appears(
    tmp_path: Path, no_umask: None
) -> None:
    network = _WatchedNetwork()
    open_socket_file(network, tmp_path / "run" / "admin.sock").close()
    assert network.modes == [0o600]


def test_every_folder_that_is_made_is_private(tmp_path: Path, no_umask: None) -> None:
    open_socket_file(KernelNetwork(), tmp_path / "run" / "admin.sock").close()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@as_root
def test_another_user_who_knocks_all_the_time_is_never_let_in(
    open_folder: Path, no_umask: None
) -> None:
    """Also between the moments in which the file appears and somebody listens."""
    path = open_folder / "admin.sock"
    with knocking(path) as result:
        network = KernelNetwork()
        for _ in range(3000):
            open_socket_file(network, path).close()
        seen = result()
    print(seen)
    assert seen.get("Permission denied", 0) > 0, "it never met the socket"
    assert set(seen) <= {"Permission denied", "No such file or directory"}


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "his"
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(SocketPlaceTaken, match="belongs to user 65534, who can replace"):
        prepare_place(folder / "admin.sock")


@as_root
def test_a_link_of_another_user_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "ours")
    prepare_place(link / "admin.sock")  # a link of our own is fine
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    for place in (link / "admin.sock", link / "below" / "admin.sock"):
        with pytest.raises(SocketPlaceTaken, match="symbolic link of user 65534"):
            prepare_place(place)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o702, 0o2775])
def test_a_folder_to_which_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SocketPlaceTaken, match=r"others may write to .*; chmod go-w"):
        prepare_place(folder / "admin.sock")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o711, 0o1777])
def test_a_folder_in_which_only_we_may_replace_a_file_will_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    file = open_socket_file(KernelNetwork(), folder / "admin.sock")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.close()


def test_a_folder_of_root_will_do_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert private_place.not_private(Path("/")) is None
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    monkeypatch.setattr(private_place, "ROOT", tmp_path.stat().st_uid)
    assert private_place.not_private(tmp_path) is None


@pytest.mark.parametrize("leads_to", ["nowhere", "file", "live"])
def test_a_link_in_place_of_the_socket_is_not_followed(tmp_path: Path, leads_to: str) -> None:
    target = tmp_path / "target"
    live = socket.socket(socket.AF_UNIX)
    with live:
        if leads_to == "file":
            target.write_text("precious")
        elif leads_to == "live":
            live.bind(str(target))
            live.listen()
        link = tmp_path / "admin.sock"
        link.symlink_to(target)
        with pytest.raises(SocketPlaceTaken, match="is no socket; it was not touched"):
            prepare_place(link)
        assert link.is_symlink()
        assert target.exists() == (leads_to != "nowhere")
