"""Certificates for tests, made once a run, and contexts that hold them."""

import ssl
from functools import cache

import trustme

from balancer.rehearsal.memory_files import MemoryFiles


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def certificate(*names: str) -> trustme.LeafCert:
    return authority().issue_cert(*names)


def both_in_one(*names: str) -> bytes:
    """A certificate and its key, as one file."""
    return certificate(*(names or ("edge.test",))).private_key_and_cert_chain_pem.bytes()


def server_context(*names: str) -> ssl.SSLContext:
    """A server's, with one certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*(names or ("edge.test",))).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """A client's, that believes our authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def pem_of(leaf: trustme.LeafCert) -> tuple[bytes, bytes]:
    """The chain and the key, as files hold them."""
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return chain, leaf.private_key_pem.bytes()


def files_for(**names: str) -> MemoryFiles:
    """Files `/NAME.pem` and `/NAME.key` for each, with certificates for names parted by blanks."""
    contents = {"/ca.pem": authority().cert_pem.bytes()}
    for name, hosts in names.items():
        chain, key = pem_of(certificate(*hosts.split()))
        contents |= {f"/{name}.pem": chain, f"/{name}.key": key}
    return MemoryFiles(contents)


def with_client_certificate(context: ssl.SSLContext, who: str = "alice@a.test") -> ssl.SSLContext:
    certificate(who).configure_cert(context)
    return context
