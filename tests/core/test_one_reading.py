"""One reading only: every kind of odd message is refused or made canonical, by both ways alike."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.message import RequestHead
from balancer.core.replies import REASONS, Reply, reply_bytes
from tests.fuzz.edge import Passed, answers_passed, requests_judged
from tests.support.attack_kinds import KINDS
from tests.support.attacks import stream_of
from tests.support.head_readings import lines_of
from tests.support.odd_answers import ODD_ANSWERS, answer_of
from tests.support.strict_grammar import assert_answer, assert_request


def parts(message: Passed) -> object:
    """What must be the same whichever way it went: all but the order of the fields."""
    head, end, body = message.sent.partition(b"\r\n\r\n")
    return lines_of(head + end), body, message.came, message.start, message.body, message.closes


def judge_request(kind: str, data: st.DataObject) -> None:
    """Both ways are of one mind, which is that of the kind; what goes on is canonical."""
    attack = data.draw(KINDS[kind])
    stream = data.draw(stream_of(attack))
    passed, status = requests_judged(stream)
    general, status_there = requests_judged(stream, plainly=False)
    assert [parts(message) for message in passed] == [parts(message) for message in general]
    assert status == status_there
    if attack.statuses:
        assert not passed
        assert status in attack.statuses
        return
    assert status is None
    assert [message.start[1] for message in passed][1:] == ([] if attack.closes else [b"/canary"])
    for message in [*passed, *general]:
        assert_request(message.sent)
    for message in (passed[0], general[0]):
        assert not re.search(attack.never, message.sent, re.IGNORECASE)


def judge_answer(kind: str, data: st.DataObject) -> None:
    """The same, and nothing that stands behind an answer gets to a client."""
    answer = data.draw(ODD_ANSWERS[kind])
    stream = data.draw(answer_of(answer))
    passed = answers_passed(stream, answer.method)
    general = answers_passed(stream, answer.method, plainly=False)
    assert [parts(message) for message in passed] == [parts(message) for message in general]
    assert bool(passed) is answer.passes
    for message in [*passed, *general]:
        assert_answer(message.sent)
        assert b"evil" not in message.sent.lower()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_request_is_refused_and_the_connection_with_it_or_made_canonical(
    kind: str, data: st.DataObject
) -> None:
    judge_request(kind, data)


@pytest.mark.parametrize("kind", ODD_ANSWERS)
@given(data=st.data())
def test_an_answer_is_refused_or_made_canonical(kind: str, data: st.DataObject) -> None:
    judge_answer(kind, data)


# ---- what we say ourselves


SENTENCES = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ["a\r\nSet-Cookie: b", 'a"\\', "\r\n\r\nHTTP/1.1 200 OK", "\0\x1b[31m", "\u2028\x85"]
)


@given(
    status=st.sampled_from(sorted(REASONS)),
    sentence=SENTENCES,
    accept=st.sampled_from([b"*/*", b"application/json", b"text/html"]),
    close=st.booleans(),
)
def test_whatever_is_echoed_ends_no_line_of_our_own_replies(
    status: int, sentence: str, accept: bytes, close: bool
) -> None:
    fields = ((b"Host", b"a"), (b"Accept", accept))
    raw = reply_bytes(
        Reply(status=status, sentence=sentence, retry_after_s=1),
        request=RequestHead(method="GET", target="/", minor=1, fields=fields),
        request_id=b"0123",
        close=close,
        date=b"Mon, 15 Apr 2024 12:00:00 GMT",
    )
    assert_answer(raw)
    names = [name for name, _ in lines_of(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")[1]]
    assert set(names) <= {
        b"allow", b"cache-control", b"connection", b"content-length", b"content-type", b"date",
        b"proxy-status", b"retry-after", b"x-request-id",
    }  # fmt: skip
    assert len(names) == len(set(names))
