"""Certificates on disk: what `balancer check` says of them, and what an instance does about them."""

import datetime
import os
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from trustme import KeyType

from balancer.wire.certificate_facts import facts_of
from tests.support.certificates import authority, certificate, pem_of
from tests.support.real_balancer import free_port, running

DAY = datetime.timedelta(days=1)
STRANGE_KEY = (
    "the key does not belong to the first certificate of the file; name the key that this one was made"
    " with, and let those that vouch for it come behind it"
)


class Disk:
    """A config and its certificates in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("edge", *pem_of(certificate("a.test", "*.b.test")))
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority().cert_pem.bytes())

    def write(self, name: str, chain: bytes, key: bytes) -> None:
        (self.folder / f"{name}.pem").write_bytes(chain)
        path = self.folder / f"{name}.key"
        path.write_bytes(key)
        path.chmod(0o600)

    def issue(
        self,
        name: str,
        *hosts: str,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        kind: KeyType = KeyType.ECDSA,
    ) -> None:
        leaf = authority().issue_cert(
            *hosts, not_before=not_before, not_after=not_after, key_type=kind
        )
        self.write(name, *pem_of(leaf))

    def check(self, more: str = "", *, names: tuple[str, ...] = ("edge",), flag: str = "") -> str:
        """What is said, with the folder left out."""
        listed = ", ".join(
            f'{{ certificate = "{self.folder}/{name}.pem", key = "{self.folder}/{name}.key" }}'
            for name in names
        )
        text = f"""pools.web = {{ backends = ["127.0.0.1:1"], health = {{}} }}
[[listeners]]
bind = "127.0.0.1:1"
[listeners.tls]
certificates = [{listed}]
{more}
"""
        path = self.folder / "x.toml"
        path.write_text(text)
        ran = subprocess.run(
            [".venv/bin/balancer", "check", str(path), *([flag] if flag else [])],
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"{ran.returncode} {ran.stdout}{ran.stderr}"
        return said.replace(f"{self.folder}/", "")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_what_is_right_is_called_right(disk: Disk) -> None:
    said = disk.check(f'client_auth = "required"\nclient_ca = "{disk.ca}"')
    assert said.startswith("0 x.toml: valid")
    assert "warning" not in said


def test_every_mistake_has_its_line_and_its_reason(disk: Disk) -> None:
    for name in ("mixed", "empty", "secret", "swapped"):
        disk.issue(name, f"{name}.test")
    (disk.folder / "mixed.key").write_bytes(pem_of(certificate("a.test", "*.b.test"))[1])
    (disk.folder / "empty.pem").write_bytes(b"")
    (disk.folder / "secret.key").write_bytes(
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    key = disk.folder / "swapped.key"
    key.write_bytes((disk.folder / "swapped.pem").read_bytes())
    names = ("edge", "mixed", "empty", "secret", "swapped", "none")
    said = disk.check(names=names)
    place = "x.toml:5: listeners[0].tls.certificates"
    assert said.splitlines() == [
        f"1 {place}[1].key: mixed.key: {STRANGE_KEY}",
        f"{place}[2].certificate: empty.pem: holds no certificate in PEM,"
        " which begins with '-----BEGIN CERTIFICATE-----'",
        f"{place}[3].key: secret.key: the key is encrypted; store it decrypted, readable by us alone",
        f"{place}[4].key: swapped.key: holds no private key in PEM,"
        " which begins with '-----BEGIN PRIVATE KEY-----'",
        f"{place}[5].certificate: none.pem: cannot be read: No such file or directory",
        f"{place}[5].key: none.key: cannot be read: No such file or directory",
    ]
    assert disk.check(names=names, flag="--no-files").startswith("0 ")


def test_a_certificate_of_nobody_vouches_for_no_client(disk: Disk) -> None:
    said = disk.check(f'client_auth = "optional"\nclient_ca = "{disk.folder}/edge.pem"')
    assert "client_ca: edge.pem: none of its certificates is an authority's" in said


def test_a_file_that_is_none_is_not_waited_for(disk: Disk) -> None:
    (disk.folder / "edge.pem").unlink()
    os.mkfifo(disk.folder / "edge.pem")
    assert "edge.pem: cannot be read: it is no file" in disk.check()


def test_what_is_allowed_and_yet_seldom_meant_is_a_warning(disk: Disk) -> None:
    now, day = datetime.datetime.now(datetime.UTC), DAY
    disk.issue("old", "old.test", not_before=now - 90 * day, not_after=now - 3 * day)
    disk.issue("soon", "soon.test", not_before=now - day, not_after=now + 20.2 * day)
    disk.issue("late", "late.test", not_before=now + day, not_after=now + 90 * day)
    disk.issue("same", "a.test")
    (disk.folder / "same.key").chmod(0o644)
    said = disk.check(names=("edge", "old", "soon", "late", "same"))
    assert said.startswith("0 ")
    for words in (
        "certificates[1]: old.pem: expired 3 days ago",
        "certificates[2]: soon.pem: expires in 20 days",
        "certificates[3]: late.pem: is not valid yet",
        "certificates[4]: same.pem: its key can be read by everybody; chmod 600 it",
        "certificates[4]: same.pem: is never chosen; edge.pem has all of its names",
    ):
        assert words in said
    assert said.count("warning") == 5


def test_two_of_the_same_names_are_one_of_each_kind_and_no_second(disk: Disk) -> None:
    disk.issue("rsa", "*.B.test", "a.test", kind=KeyType.RSA)
    assert disk.check(names=("edge", "rsa")).startswith("0 x.toml: valid")
    assert "warning" not in disk.check(names=("edge", "rsa"))
    disk.issue("second", "*.b.test", "a.test", kind=KeyType.RSA)
    place = "x.toml:5: listeners[0].tls.certificates"
    assert disk.check(names=("edge", "rsa", "second")) == (
        f"1 {place}[2].certificate: second.pem: has the same names and the same kind of key (RSA) as"
        " another, so nobody would be shown it; keep one, or have one with an RSA key and one with an"
        " ECDSA key; the other is listeners[0].tls.certificates[1] (line 5)\n"
    )
    disk.issue("less", "a.test", kind=KeyType.RSA)
    assert (
        "certificates[1]: less.pem: is never chosen; edge.pem has all of its names; to be shown to who"
        " cannot use a key of ECDSA, it would need just the same\n"
    ) in disk.check(names=("edge", "less"))


def test_the_kind_of_a_key_is_told_by_the_certificate() -> None:
    for kind in KeyType:
        facts = facts_of(*pem_of(authority().issue_cert("a.test", key_type=kind)))
        assert facts.key == kind.name
    for key, name in (
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
    ):
        assert facts_of(*self_signed(key)).key == name


def self_signed(key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) -> tuple[bytes, bytes]:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n" * 64)] * 3)
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + DAY)
    names = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    certificate = made.add_extension(names, critical=False).sign(key, None)
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate.public_bytes(pem), key.private_bytes(pem, *private)


def test_chain_and_key_may_be_one_file(disk: Disk) -> None:
    leaf: trustme.LeafCert = certificate("one.test")
    (disk.folder / "one.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    (disk.folder / "one.key").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    assert disk.check(names=("one",)).startswith("0 ")


def test_check_start_and_reload_say_the_same_of_a_wrong_key(tmp_path: Path) -> None:
    disk, port = Disk(tmp_path), free_port()
    listener = f"""[[listeners]]
bind = "127.0.0.1:{port}"
[listeners.tls]
certificates = [
  {{ certificate = "{tmp_path}/edge.pem", key = "{tmp_path}/edge.key" }},
]
"""
    with running(tmp_path, 1, top=listener) as (balancer, _):
        disk.issue("other", "other.test")
        (disk.folder / "other.key").rename(disk.folder / "edge.key")
        line = balancer.config.read_text().splitlines().index(listener.splitlines()[4]) + 1
        config = str(balancer.config)
        wrong = f"{config}:{line}: listeners[0].tls.certificates[0].key: {tmp_path}/edge.key: {STRANGE_KEY}"
        assert balancer.cli("check", config).stderr == f"{wrong}\n"
        not_valid = f"balancer: {balancer.config.name} is not valid; nothing was changed\n{wrong}\n"
        assert balancer.cli("reload").stderr == not_valid
        assert balancer.readyz() == 200
    started = balancer.cli("run", config)
    assert started.returncode == 1
    assert started.stderr == f"balancer: {config} is not valid; nothing was started\n{wrong}\n"


def test_a_relative_path_is_told_with_the_folder_that_it_starts_from(disk: Disk) -> None:
    said = disk.check('client_auth = "required"\nclient_ca = "nowhere/ca.pem"')
    assert (
        "client_ca: nowhere/ca.pem: cannot be read: No such file or directory;"
        f" it is looked for from {os.getcwd()}, where balancer was started"
    ) in said
