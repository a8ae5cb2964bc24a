"""A defect planted in any of the rules is found by the kind that the rule is for."""

import re
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from balancer.core.framing import NO_BODY, BodyKind, Framing
from balancer.core.message import RequestHead, ResponseHead
from tests.core.test_one_reading import judge_answer, judge_request

ANYTHING = re.compile(rb"(?s).*")
LINES = re.compile(rb"(?s)(?:[^\n]*\n)*?\r?\n\Z")


def first_length(head: RequestHead | ResponseHead, *_: str) -> Framing:
    """The first Content-Length, whatever else is said."""
    lengths = [value for value in head.values(b"content-length") if value.isdigit()]
    return Framing(BodyKind.LENGTH, int(lengths[0])) if lengths else NO_BODY


H11, RULES, FIELDS, NAMES = (
    "balancer.wire.h11_heads",
    "balancer.core.request_rules",
    "balancer.core.fields",
    "balancer.core.field_names",
)
# fmt: off
PLANTED: list[tuple[str, dict[str, object]]] = [
    ("a length beside chunks",             {f"{H11}.request_framing": first_length, "tests.fuzz.edge.request_framing": first_length}),
    ("a control byte",                     {"balancer.wire.streams._NEVER_IN_HEADS": re.compile(rb"(?!)"), f"{H11}._FIELD_LINES": LINES}),
    ("a folded line",                      {f"{H11}._FIELD_LINES": LINES}),
    ("a method in lower case",             {f"{RULES}._METHOD": re.compile("[A-Za-z]+")}),
    ("tunnels and echoes",                 {f"{RULES}.TUNNELS": frozenset()}),
    ("an escape that is none",             {f"{RULES}._BAD_ESCAPE": re.compile("(?!)")}),
    ("an odd Host",                        {f"{RULES}._check_host": lambda host: None}),
    ("absolute form and another Host",     {f"{RULES}._plain": lambda host, default: ""}),
    ("Connection names what is for everybody", {f"{RULES}.FOR_ALL_RECIPIENTS": frozenset()}),
    ("Connection names what is for this hop", {f"{FIELDS}._ends_here": lambda fields: frozenset()}),
    ("names that CGI folds",               {f"{NAMES}._SAFE_NAME": ANYTHING}),
    ("who asks, said twice",               {f"{RULES}.SENT_ONCE": frozenset()}),
    ("an upgrade to h2c",                  {f"{FIELDS}.REWRITTEN_UP": frozenset({b"host", b"connection"}), f"{FIELDS}._ends_here": lambda fields: frozenset()}),
    ("a chunk size that is none",          {"balancer.wire.chunks._SIZE_LINE": re.compile(rb"(\s*[0-9A-Fa-f]{1,15}\s*)((?:;.*)?)\Z")}),
    ("trailers that frame or route",       {"balancer.wire.chunks.REFUSED_IN_TRAILERS": frozenset()}),
    ("trailers of others' business",       {f"{NAMES}._NOT_IN_TRAILERS": frozenset()}),
]
PLANTED_DOWN: list[tuple[str, dict[str, object]]] = [
    ("a length beside chunks",             {f"{H11}.response_framing": first_length, "tests.fuzz.edge.response_framing": first_length}),
    ("an interim answer with a body",      {"balancer.core.framing.announces_body": lambda head: False}),
    ("a folded line",                      {f"{H11}._FIELD_LINES": LINES}),
    ("a flood of interim answers",         {"tests.fuzz.edge.INTERIM_MAX": 100}),
    ("bytes behind a head without a body", {"balancer.core.framing.BODILESS": frozenset()}),
    ("fields of the other hop",            {f"{FIELDS}.REWRITTEN_DOWN": frozenset({b"content-length"})}),
    ("trailers that frame or route",       {"balancer.wire.chunks.REFUSED_IN_TRAILERS": frozenset()}),
]
# fmt: on


def some(judge: Callable[[str, st.DataObject], None], kind: str) -> None:
    @seed(1)
    @settings(max_examples=60, database=None, phases=[Phase.generate])
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        judge(kind, data)

    run()


def plant(patch: pytest.MonkeyPatch, defects: dict[str, object]) -> None:
    for where, defect in defects.items():
        patch.setattr(where, defect)


@pytest.mark.parametrize(("kind", "defects"), PLANTED)
def test_of_requests(
    monkeypatch: pytest.MonkeyPatch, kind: str, defects: dict[str, object]
) -> None:
    some(judge_request, kind)
    plant(monkeypatch, defects)
    with pytest.raises(AssertionError):
        some(judge_request, kind)


@pytest.mark.parametrize(("kind", "defects"), PLANTED_DOWN)
def test_of_answers(monkeypatch: pytest.MonkeyPatch, kind: str, defects: dict[str, object]) -> None:
    some(judge_answer, kind)
    plant(monkeypatch, defects)
    with pytest.raises(AssertionError):
        some(judge_answer, kind)
