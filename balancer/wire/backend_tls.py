"""How we speak TLS with the backends of a pool: whom we believe, and as whom we come.

Decides versions and what is verified; which backend is dialled, and what a failure means, it does not.
"""

import ssl
from dataclasses import dataclass

from balancer.wire.tls_contexts import ALPN, Credentials, load_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTlsRules:
    """Contents of files, not their names; `authorities` None: the system's.

    `server_name`: asked for and verified instead of the host of a backend's address. `shown`: our own
    certificate.
    """

    authorities: bytes | None = None
    server_name: str | None = None
    verify: bool = True
    shown: Credentials | None = None

    def name_of(self, host: str) -> str:
        """Who a backend at `host` must prove to be; one on a unix socket has no host."""
        return self.server_name or host or "localhost"


def backend_context(rules: BackendTlsRules) -> ssl.SSLContext:
    """A client's context; ssl.SSLError for what was never looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not rules.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif rules.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cadata=rules.authorities.decode("ascii", "replace"))
    if rules.shown is not None:
        load_chain(context, rules.shown.chain, rules.shown.key)
    return context
