"""One suite of socket behaviour, written against the network seam only.

Every case runs on the kernel's loopback and on the memory network, and asserts the same results,
errnos and order on both.
"""

from tests.support.socket_bench import CASES, Bench, Case, attempt
from tests.support.socket_cases import (
    coded,
    connecting,
    edges,
    ending,
    keys,
    sending,
    vanishing,
    waiting,
)

__all__ = ["CASES", "Bench", "Case", "attempt"]

# Importing them fills CASES.
GROUPS = (connecting, edges, sending, ending, waiting, vanishing, coded, keys)
