"""Whose word counts: whether an address is in one of the networks that an operator trusts.

Decides nothing about what is said.
"""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

# Who comes over a unix socket has no address; the name of both such clients and their trust.
UNIX = "unix"
UNIX_NETWORK = "unix:"


@lru_cache(maxsize=64)
def trusting(networks: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a client, by its address, is in `networks`; `unix:` is all who come by unix sockets."""
    known = [ip_network(text, strict=False) for text in networks if text != UNIX_NETWORK]
    unix = UNIX_NETWORK in networks

    @lru_cache(maxsize=4096)
    def trusts(client: str) -> bool:
        if client == UNIX:
            return unix
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return any((mapped or address) in network for network in known)

    return trusts if networks else lambda _client: False
