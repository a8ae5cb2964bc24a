"""Every target on what is kept for it, and on so much of what can be made of that."""

import random
import re

import h11
import pytest

from balancer.config.errors import ConfigErrors
from balancer.core.framing import NO_BODY, BodyKind, Framing
from balancer.core.message import RequestHead, ResponseHead
from tests.fuzz.bending import bent
from tests.fuzz.corpus import FOLDER, kept
from tests.fuzz.edge import answers_passed, requests_passed
from tests.fuzz.targets import TARGETS

BENT, BENT_LONG = 2000, 200_000


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_what_is_kept(name: str) -> None:
    for data in kept(name):
        TARGETS[name](data)


def some_bent(name: str, count: int) -> None:
    rng = random.Random(f"{name} {count}")
    inputs = kept(name)
    for _ in range(count):
        data = rng.choice(inputs)
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = bent(data, inputs, rng)
        try:
            TARGETS[name](data)
        except Exception as exc:
            exc.add_note(f"the input: {data!r}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_what_is_bent(name: str) -> None:
    some_bent(name, BENT // 10 if name == "config" else BENT)


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_much_that_is_bent(name: str) -> None:
    some_bent(name, BENT_LONG // 10 if name == "config" else BENT_LONG)


def test_each_target_has_a_corpus_and_each_corpus_a_target() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(TARGETS)
    assert all(len(kept(name)) > 20 for name in TARGETS)


# ---- whether anything would be found


def test_enough_of_what_is_bent_is_passed_on() -> None:
    """Otherwise the targets would say something of nothing."""
    rng = random.Random(1)
    requests, answers = kept("requests"), kept("answers")
    passed = sum(
        bool(requests_passed(bent(rng.choice(requests), requests, rng))) for _ in range(1000)
    )
    assert passed > 150
    passed = sum(
        bool(answers_passed(bent(rng.choice(answers), answers, rng)[1:], "GET"))
        for _ in range(1000)
    )
    assert passed > 150


def lenient_length(head: RequestHead | ResponseHead, *_: str) -> Framing:
    """The first Content-Length, whatever Transfer-Encoding says."""
    lengths = head.values(b"content-length")
    return Framing(BodyKind.LENGTH, int(lengths[0])) if lengths else NO_BODY


PLANTED: list[tuple[str, str, object]] = [
    ("requests", "tests.fuzz.edge.request_framing", lenient_length),
    ("requests", "balancer.wire.h11_heads._FIELD_LINES", re.compile(rb"(?:[^\n]*\n)*?\r?\n")),
    ("requests", "tests.fuzz.edge.trailer_bytes", lambda _: b"0\r\nHost: b\r\n\r\n\r\n"),
    ("answers", "tests.fuzz.edge.response_framing", lenient_length),
    ("answers", "tests.fuzz.edge.downstream_framing", lambda framing, _: framing),
    ("chunks", "balancer.wire.chunks._SIZE_LINE", re.compile(rb"(\s*[0-9A-Fa-f]{1,15}\s*)((?:;.*)?)\Z")),
    ("chunks", "balancer.wire.chunks.parse_trailer_line", lambda _: (b"a", b"b")),
    (
        "proxy_headers",
        "balancer.wire.proxy_protocol._V1",
        re.compile(rb"PROXY (?:(TCP4|TCP6) (\S+) (\S+) (\S+) (\S+)|UNKNOWN.*)\r?\n"),
    ),
    ("config", "tests.core.test_config_fuzz.effective_toml", lambda _: "workers = 2"),
]  # fmt: skip


# What a target raises for what it finds: its own doubt, that of a reader beside it, or a crash.
FINDINGS = (AssertionError, h11.RemoteProtocolError, ConfigErrors, ValueError)


def run_all(target: str) -> None:
    for data in kept(target):
        TARGETS[target](data)
    some_bent(target, BENT)


@pytest.mark.parametrize(("target", "where", "defect"), PLANTED, ids=[each[1] for each in PLANTED])
def test_a_planted_defect_is_found(
    monkeypatch: pytest.MonkeyPatch, target: str, where: str, defect: object
) -> None:
    monkeypatch.setattr(where, defect)
    with pytest.raises(FINDINGS):
        run_all(target)
