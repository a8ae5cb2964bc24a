"""How many clients a worker has places for, and what counts as one address.

Decides numbers; who is counted, and who waits until there is a place, is for `balancer.proxy.room`.
"""

from ipaddress import IPv6Address, ip_address

# Beside clients and connections to backends a worker has open: pipes (two descriptors each, 80 at
# most), its channel, its log files, the event sets, and some for whatever a library opens.
OTHER_DESCRIPTORS = 256
# Of few descriptors, no more than this share is kept for those.
OTHERS_SHARE_MAX = 0.75
# The network that one customer of a provider is given (RFC 6177), and so one address here.
IPV6_PREFIX_BITS = 64


def most_clients(descriptors: int, listening: int) -> int:
    """How many clients fit: each may need a connection to a backend, which is a descriptor more."""
    others = min(OTHER_DESCRIPTORS + listening, int(descriptors * OTHERS_SHARE_MAX))
    return max((descriptors - others) // 2, 1)


def share(most: int, workers: int) -> int:
    """Of a limit of the instance, what one of its workers may take; rounded up."""
    return -(-most // workers)


def address_of(client: str) -> str | None:
    """What is counted for a client; None: it has no address, or not one of its own."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        bits = 128 - IPV6_PREFIX_BITS
        return f"{IPv6Address(int(address) >> bits << bits)}/{IPV6_PREFIX_BITS}"
    return str(address)
