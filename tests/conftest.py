"""What holds for every test: loopback only, hypothesis profiles, and long tests only when asked for."""

import ipaddress
import os
import signal
import sys
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,  # a shared machine has slow moments
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("night", max_examples=5000, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, also where the suite runs in the background.

    A shell starts background jobs with SIGINT ignored, and every child would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long` too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out unless --long or a -m expression of one's own asks for them."""
    if config.getoption("--long") or config.getoption("-m"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


# ---- loopback only -----------------------------------------------------------------------------

GUARDED = ("socket.connect", "socket.sendto", "socket.sendmsg")


class LeftTheMachine(Exception):
    """A test tried to reach an address that is not this machine's loopback interface."""


def is_loopback(address: object) -> bool:
    """Unix paths, loopback addresses and names of this machine are fine; nothing else is.

    Port 0 and the unspecified address are this machine, too.
    """
    if not isinstance(address, Sequence) or isinstance(address, str | bytes):
        return True
    host = str(address[0]).partition("%")[0]
    if host in {"", "localhost"}:
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback or ip.is_unspecified


def loopback_only(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: it sees every connect and send of the interpreter, whatever library makes it."""
    if event in GUARDED and not is_loopback(arguments[1]):
        raise LeftTheMachine(f"{event} to {arguments[1]!r}: tests talk to the loopback only")


sys.addaudithook(loopback_only)
