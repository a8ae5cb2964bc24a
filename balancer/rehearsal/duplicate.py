"""A second descriptor of a listening socket: waits and accepts for itself, closes for itself.

The kernel goes on listening until the last descriptor is closed; so does this.
"""

from balancer.rehearsal.descriptor import MemorySock
from balancer.rehearsal.tcp_socket import TcpSock
from balancer.rehearsal.unix_socket import UnixSock


class Duplicate(MemorySock):
    """Another handle of `original`, as another process would hold it."""

    def __init__(self, original: TcpSock | UnixSock) -> None:
        super().__init__(original.host, original.family)
        self._original = original
        self.open = True
        self._original.duplicates.append(self)

    @property
    def is_listening(self) -> bool:
        return self._original.is_listening

    def accept(self) -> "tuple[MemorySock, object]":
        self.need_open()
        return self._original.accept()

    def getsockname(self) -> object:
        self.need_open()
        return self._original.getsockname()

    def is_readable(self) -> bool:
        return self._original.is_readable()

    def is_writable(self) -> bool:
        return self._original.is_writable()

    def has_left(self) -> bool:
        return self._original.has_left()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._original.duplicates.remove(self)
            if self._original.closing and not self._original.duplicates:
                self._original.closing = False
                self._original.close()

    def lose_power(self) -> None:
        self.open = False
