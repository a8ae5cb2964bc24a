"""Certificates on disk: what `balancer check` says of them, and what an instance does about them."""

import datetime
import os
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.support.certificates import authority, certificate, pem_of
from tests.support.real_balancer import free_port, running

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
    ) -> None:
        leaf = authority().issue_cert(*hosts, not_before=not_before, not_after=not_after)
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
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
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
