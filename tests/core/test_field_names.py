"""Names of fields: whose word they are, and which of them nobody may send."""

import pytest

from balancer.core.field_names import (
    CLAIMS,
    OBEYED,
    REWRITTEN_UP,
    FieldRules,
    is_written_anew,
    may_trail,
    passes_anyway,
    pseudonym_of,
    read_as,
)

RULES = FieldRules()


@pytest.mark.parametrize(
    "name",
    [
        *sorted(CLAIMS), b"X-Forwarded-Port", b"X-Forwarded-Prefix", b"X-Forwarded-Server",
        b"X-Forwarded-Ssl", b"X-Forwarded-Scheme", b"X-FORWARDED-Path", b"x-forwarded-",
    ],
)  # fmt: skip
def test_claims_are_heard_of_trusted_proxies_only(name: bytes) -> None:
    assert not RULES.passes(name, trusted=False)
    assert RULES.passes(name, trusted=True)
    assert not may_trail(name)


@pytest.mark.parametrize(
    "name", [*sorted(OBEYED), b"a_b", b"X_Real_IP", b"X.Forwarded.For", b"_", b"a'b", b"PROXY"]
)
def test_what_backends_would_obey_passes_of_nobody(name: bytes) -> None:
    assert not RULES.passes(name, trusted=False)
    assert not RULES.passes(name, trusted=True)
    assert not may_trail(name)


@pytest.mark.parametrize(
    "name",
    [
        b"Cookie", b"Authorization", b"X-HTTP-Method-Override", b"X-Forward", b"X-Real", b"Via",
        b"Range", b"If-None-Match", b"X-Requested-With", b"CDN-Loop", b"Sec-CH-UA", b"traceparent",
    ],
)  # fmt: skip
def test_all_others_pass(name: bytes) -> None:
    assert RULES.passes(name, trusted=False)


@pytest.mark.parametrize("name", [b"api_key", b"X-Original-URL", b"True-Client-IP", b"x.y"])
def test_what_is_allowed_passes_in_any_case(name: bytes) -> None:
    rules = FieldRules(allowed=frozenset({name.lower()}))
    assert rules.passes(name, trusted=False)
    assert rules.passes(name.upper(), trusted=False)
    assert not RULES.passes(name, trusted=False)
    assert not rules.passes(b"other_name", trusted=True)


@pytest.mark.parametrize(
    "name", [*(each.decode() for each in REWRITTEN_UP), "X_Forwarded.For", "HOST"]
)
def test_what_we_write_ourselves_cannot_be_allowed(name: str) -> None:
    assert is_written_anew(name)


@pytest.mark.parametrize("name", ["api_key", "proxy", "forwarded", "x-forwarded-port", "hosts"])
def test_the_rest_can(name: str) -> None:
    assert not is_written_anew(name)
    assert passes_anyway(name) is (name == "hosts")


def test_a_name_as_cgi_reads_it() -> None:
    assert read_as("X_Real.IP") == "x-real-ip"


def test_instances_have_names_of_their_own() -> None:
    names = {pseudonym_of(f"host-{number}") for number in range(1000)}
    assert len(names) == 1000
    assert pseudonym_of("host-1") == pseudonym_of("host-1")
    assert all(name.startswith(b"balancer-") and len(name) == 17 for name in names)
