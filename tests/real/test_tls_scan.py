"""A scanner's verdict on a listener: Mozilla's intermediate profile, and no known weakness."""

import datetime
import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import trustme

from tests.support.certificates import authority, pem_of
from tests.support.real_balancer import Backend, Balancer, free_port

# What is about the certificate of the test, whose authority nobody knows.
OF_THE_CERTIFICATE = {"certificate_path_validation", "maximum_certificate_lifespan"}


@pytest.fixture(scope="module")
def sslyze(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The scanner: the one on PATH, else one of a venv of its own."""
    if found := shutil.which("sslyze"):
        return found
    folder = tmp_path_factory.mktemp("sslyze")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "sslyze>=6"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        assert not os.environ.get("CI"), done.stderr
        pytest.skip("sslyze is not installed, and cannot be")
    return str(folder / "bin" / "sslyze")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_a_scanner_finds_mozillas_intermediate_profile(
    tmp_path: Path, sslyze: str, kind: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    leaf = authority().issue_cert(
        "a.test",
        "127.0.0.1",
        key_type=trustme.KeyType[kind],
        not_before=now - datetime.timedelta(days=1),
        not_after=now + datetime.timedelta(days=90),
    )
    chain, key = pem_of(leaf)
    (tmp_path / "edge.pem").write_bytes(chain + key)
    port = free_port()
    backend = Backend()
    top = f"""
[[listeners]]
bind = "127.0.0.1:{port}"
tls = {{ certificates = [{{ certificate = "{tmp_path}/edge.pem" }}] }}
"""
    balancer = Balancer(tmp_path, [backend], top=top)
    try:
        said = tmp_path / "said.json"
        command = [sslyze, "--mozilla_config=intermediate", f"--json_out={said}"]
        ran = subprocess.run(
            [*command, f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        balancer.end()
        backend.kill()
    verdict = ran.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert verdict, ran.stdout + ran.stderr
    found = {
        line.strip("* ").partition(":")[0].strip()
        for line in verdict.splitlines()
        if line.strip().startswith("* ")
    }
    assert found <= OF_THE_CERTIFICATE, verdict
    (scan,) = json.loads(said.read_text())["server_scan_results"]
    results = scan["scan_result"]
    assert results["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] is False
    assert results["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")
    assert (
        results["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"]
        is False
    )
    assert results["tls_compression"]["result"]["supports_compression"] is False
    assert results["tls_fallback_scsv"]["result"]["supports_fallback_scsv"] is True
