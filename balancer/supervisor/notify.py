"""Tells the service manager how the instance is: the datagrams of sd_notify(3), and nothing else.

Own code rather than a library: the protocol is one datagram of lines to a socket named in the
environment, the pure library for it knows neither reloads nor watchdogs, and the complete one
needs a compiler. Without a service manager every call does nothing.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from balancer.admin.control import Done, NotApplied
from balancer.core.ledger import Refused

# A manager that does not read its socket must not hold the loop; what it misses then is a word.
SEND_S_MAX = 0.2
# These were meant for the process that the manager started, not for those that it starts.
_OURS_ALONE = ("WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Notifier:
    """Speaks to the manager behind NOTIFY_SOCKET, if there is one.

    `watchdog_s`: the manager wants `alive` at least this often; None: it does not watch.
    """

    def __init__(self, env: Mapping[str, str], *, pid: int) -> None:
        self._address = _address_of(env.get("NOTIFY_SOCKET", ""))
        self._pid = pid
        self._reloads = 0
        self._leaving = False
        self.watchdog_s = _watchdog_of(env, pid)

    def ready(self, status: str, *, took_over: bool = False) -> None:
        """Up; `took_over`: this is the process now."""
        self._send("READY=1", _status(status), *([f"MAINPID={self._pid}"] if took_over else []))

    async def tell_of(self, reload: Callable[[], Awaitable[Done]]) -> Done:
        """Have a reload carried out, and tell that it begins and how it ends, whoever asked for it."""
        self._reloading()
        outcome = "a reload was given up"
        try:
            done = await reload()
            outcome = done.message
            return done
        except (NotApplied, Refused) as exc:
            outcome = f"reload refused: {exc}"
            raise
        finally:
            self._reloaded(f"serving; {outcome}")

    def _reloading(self) -> None:
        self._reloads += 1
        if self._leaving:
            return
        # The manager compares this with the time of its own request, by the same clock.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", _status("reloading"))

    def _reloaded(self, status: str) -> None:
        self._reloads -= 1
        # With several under way, the manager would take the end of one for that of its own.
        if not (self._reloads or self._leaving):
            self._send("READY=1", _status(status))

    def stopping(self, status: str) -> None:
        """The end begins; how long it may take is in the unit (TimeoutStopSec)."""
        self._leaving = True
        self._send("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(status))

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on, and tells what there is to tell."""
        self._leaving = True
        self._send(f"MAINPID={pid}")

    def failed(self, status: str) -> None:
        """The main process has ended, and the manager, which is not its parent, cannot know."""
        self._send("WATCHDOG=trigger", _status(status))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SEND_S_MAX)
            sock.sendto("\n".join(lines).encode(), self._address)


def environment_for_successor(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what named this very process."""
    return {name: value for name, value in env.items() if name not in _OURS_ALONE}


def _address_of(name: str) -> str | None:
    """A path, or an abstract name (`@…`); other kinds are for virtual machines."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if os.path.isabs(name) else None


def _watchdog_of(env: Mapping[str, str], pid: int) -> float | None:
    """Half of what the manager allows, as sd_watchdog_enabled(3) advises."""
    text, whose = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", str(pid))
    if not (text.isascii() and text.isdigit() and int(text)) or whose != str(pid):
        return None
    return int(text) / 2_000_000


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())
