"""The admin socket's place in the file system: a private folder, a private socket, never stolen.

Replaces a socket file that nobody listens on, refuses one that somebody does, and removes on the
way out only what it made itself or was given, and has not given away.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from balancer.admin.private_place import not_private
from balancer.wire.network import Network, Sock

# sun_path holds 108 bytes with the zero at the end (unix(7)).
PATH_BYTES_MAX = 107
# Whoever finds it full is refused at once by a socket that does not wait.
BACKLOG = 1024
# A listener whose backlog is full lets connect() wait; that is an answer too.
ASK_S = 1.0


class SocketPlaceTaken(Exception):
    """The path cannot be used; str() is a sentence for the operator."""


class SocketFile:
    """A listening socket and its file, which `close` removes if it is ours and still that one."""

    def __init__(self, sock: Sock, path: Path, *, ours: bool = True) -> None:
        self.sock = sock
        self.path = path
        self.ours = ours
        self._made = _identity(path)

    def move(self, path: Path) -> None:
        """Have the file at `path`, in one step, whatever is there. OSError."""
        self.path.replace(path)
        self.path = path

    def close(self) -> None:
        """Close our handle; where another process has one, it goes on listening."""
        if self.ours and _identity(self.path) == self._made:
            self.path.unlink(missing_ok=True)
        self.sock.close()


def open_socket_file(network: Network, path: Path) -> SocketFile:
    """A listening socket at `path`, mode 0600 from its first moment.

    Raises SocketPlaceTaken, or OSError when the folder cannot be made or written.
    """
    prepare_place(path)
    sock = network.socket(socket.AF_UNIX)
    try:
        # The umask holds while bind() makes the file, so it is never open to others; a chmod
        # afterwards would leave a moment in between.
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        file = SocketFile(sock, path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return file


@contextmanager
def unix_listener(network: Network, path: Path) -> Iterator[Sock]:
    """A listening socket at `path` for the time of the block; as `open_socket_file`."""
    with closing(open_socket_file(network, path)) as file:
        yield file.sock


def prepare_place(path: Path) -> None:
    """Make the folder (0700) and clear a dead socket away; refuse whatever else is there.

    Refuses a folder in which others could replace the socket, too.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise SocketPlaceTaken(
            f"{path}: a unix socket's path has at most {PATH_BYTES_MAX} bytes; choose a shorter one"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    why = not_private(path.parent)
    if why is not None:
        raise SocketPlaceTaken(f"{path} is no safe place for a socket: {why}")
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SocketPlaceTaken(f"{path} is there and is no socket; it was not touched")
    listener = who_listens(path)
    if listener is not None:
        raise SocketPlaceTaken(f"{path} is in use by {listener}; it was not touched")
    path.unlink(missing_ok=True)


def who_listens(path: Path) -> str | None:
    """Who accepts connections at `path`, in words; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ASK_S)
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError as error:  # a full backlog, or a socket that is another user's
            return f"a program that could not be asked ({error.strerror or error})"
        pid = _peer_pid(sock)
        return f"process {pid}" if pid else "another program"


def _peer_pid(sock: socket.socket) -> int:
    """The process that listens at the other end; 0 where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, option, 12))[0]
    return pid


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
