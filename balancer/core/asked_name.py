"""Whether the Host of a request may be one that a stranger's web page made up.

A page can have its own name resolve to an address inside (DNS rebinding), and then reads whatever
answers there. What is asked by IP address, or by a name that nobody can register, is asked by somebody
who knows the place; every other name must be known. Pure.
"""

import ipaddress
import re
from collections.abc import Iterable

# RFC 6761, 6762 and 8375, and what ICANN has set aside: no public name ends so.
PRIVATE_ENDS = ("localhost", "local", "internal", "home.arpa", "test", "invalid")
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


def may_be_asked(host: str, known: Iterable[str]) -> bool:
    """Whether `host`, as a Host field has it, is an IP address, a private name or a known one.

    A known name such as `*.example.com` covers all below it.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower().removesuffix(".")
    if _is_ip(name) or "." not in name or _ends_so(name, PRIVATE_ENDS):
        return True
    return any(
        _ends_so(name, [each[2:]]) if each.startswith("*.") else name == each for each in known
    )


def _ends_so(name: str, ends: Iterable[str]) -> bool:
    return any(name.endswith(f".{end}") for end in ends)


def _is_ip(name: str) -> bool:
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
