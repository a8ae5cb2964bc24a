"""Where a body ends, and what is refused because two readers could end it differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.framing import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    BodyKind,
    Framing,
    announces_body,
    downstream_framing,
    request_framing,
    response_framing,
    wants_keep_alive,
)
from balancer.core.message import BadMessage, Fields, RequestHead, ResponseHead, tokens


def request(*fields: tuple[bytes, bytes], minor: int = 1) -> RequestHead:
    return RequestHead(method="POST", target="/", minor=minor, fields=fields)


def response(*fields: tuple[bytes, bytes], status: int = 200, minor: int = 1) -> ResponseHead:
    return ResponseHead(status=status, reason=b"", minor=minor, fields=fields)


def length(value: bytes) -> tuple[bytes, bytes]:
    return b"Content-Length", value


def coding(value: bytes) -> tuple[bytes, bytes]:
    return b"Transfer-Encoding", value


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        ((), NO_BODY),
        ((length(b"0"),), Framing(BodyKind.LENGTH, 0)),
        ((length(b"007"),), Framing(BodyKind.LENGTH, 7)),
        (((b"content-LENGTH", b"12"),), Framing(BodyKind.LENGTH, 12)),
        ((length(b"9" * 18),), Framing(BodyKind.LENGTH, 10**18 - 1)),
        ((coding(b"chunked"),), CHUNKED),
        ((coding(b"CHUNKED"),), CHUNKED),
    ],
)
def test_plain_bodies_are_framed(fields: Fields, framing: Framing) -> None:
    assert request_framing(request(*fields)) == framing
    expected = framing if fields else UNTIL_CLOSE
    assert response_framing(response(*fields), "GET") == expected


NOT_PLAIN: list[tuple[Fields, int]] = [
    ((length(b""),), 400),
    ((length(b"+5"),), 400),
    ((length(b"-5"),), 400),
    ((length(b"5 5"),), 400),
    ((length(b"5, 5"),), 400),
    ((length(b"0x5"),), 400),
    ((length(b"5_0"),), 400),
    ((length("\N{ARABIC-INDIC DIGIT FIVE}".encode()),), 400),
    ((length(b"\xb2"),), 400),
    ((length(b"1" * 19),), 400),
    ((length(b"5"), length(b"5")), 400),
    ((length(b"5"), coding(b"chunked")), 400),
    ((coding(b"chunked"), length(b"5")), 400),
    ((length(b"5"), coding(b"")), 400),
    ((coding(b""),), 400),
    ((coding(b"gzip"),), 400),
    ((coding(b"identity"),), 400),
    ((coding(b"xchunked"),), 400),
    ((coding(b"chunked;q=1"),), 400),
    ((coding(b'"chunked"'),), 400),
    ((coding(b"chunked ,"),), 400),
    ((coding(b", chunked"),), 400),
    ((coding(b"chunk ed"),), 400),
    ((coding(b"chunked\xa0"),), 400),
    ((coding(b"chunked, gzip"),), 400),
    ((coding(b"chunked, chunked"),), 400),
    ((coding(b"Chunked;a, chunked"),), 400),
    ((coding(b"gzip, , chunked"),), 400),
    ((coding(b"g zip, chunked"),), 400),
    ((coding(b"chunked"), coding(b"chunked")), 400),
    ((coding(b"chunked"), coding(b"identity")), 400),
    ((coding(b"gzip, chunked"),), 501),
    ((coding(b"x-a;b=c ;d, br,\tCHUNKED"),), 501),
    ((coding(b"gzip"), coding(b"chunked")), 501),
]


@pytest.mark.parametrize(("fields", "status"), NOT_PLAIN, ids=repr)
def test_what_could_be_read_two_ways_is_refused(fields: Fields, status: int) -> None:
    with pytest.raises(BadMessage) as refused:
        request_framing(request(*fields))
    assert refused.value.status == status
    with pytest.raises(BadMessage) as refused:
        response_framing(response(*fields), "GET")
    assert refused.value.status == 502


def test_http_1_0_has_no_transfer_codings() -> None:
    with pytest.raises(BadMessage, match=r"HTTP/1\.0"):
        request_framing(request(coding(b"chunked"), minor=0))
    with pytest.raises(BadMessage, match=r"HTTP/1\.0"):
        response_framing(response(coding(b"chunked"), minor=0), "GET")


@pytest.mark.parametrize(
    ("status", "method"),
    [(204, "GET"), (304, "GET"), (200, "HEAD"), (404, "HEAD")],
)
@pytest.mark.parametrize("fields", [(), (length(b"9"),), (coding(b"chunked"),)], ids=repr)
def test_some_answers_have_no_body_whatever_they_say(
    status: int, method: str, fields: Fields
) -> None:
    assert response_framing(response(*fields, status=status), method) == NO_BODY


@pytest.mark.parametrize("status", [100, 102, 103])
@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ((), True),
        ((length(b"0"),), True),
        ((length(b"00"),), True),
        ((length(b"9"),), False),
        ((coding(b"chunked"),), False),
    ],
)
def test_an_interim_answer_that_announces_a_body_is_refused(
    status: int, fields: Fields, passes: bool
) -> None:
    """What follows on that connection would be a body to some, and the next answer to others."""
    interim = response(*fields, status=status)
    if passes:
        assert response_framing(interim, "GET") == NO_BODY
    else:
        with pytest.raises(BadMessage, match="interim"):
            response_framing(interim, "GET")


@pytest.mark.parametrize(
    ("status", "fields", "announces"),
    [
        (204, (), False),
        (204, (length(b"0"),), False),
        (204, (length(b"9"),), True),
        (204, (coding(b"chunked"),), True),
        (103, (length(b"9"),), True),
        (304, (length(b"9"),), False),
        (200, (length(b"9"),), False),
    ],
)
def test_a_body_announced_where_none_may_be(status: int, fields: Fields, announces: bool) -> None:
    assert announces_body(response(*fields, status=status)) is announces


def test_an_answer_without_a_body_must_not_contradict_itself_either() -> None:
    with pytest.raises(BadMessage, match="both"):
        response_framing(response(length(b"9"), coding(b"chunked"), status=304), "GET")


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=30))))
def test_framing_is_total(fields: list[tuple[bytes, bytes]]) -> None:
    """Any fields are framed or refused with a status that can be answered."""
    refusals = []
    for frame in (
        lambda: request_framing(request(*fields)),
        lambda: response_framing(response(*fields), "GET"),
    ):
        try:
            frame()
        except BadMessage as exc:
            refusals.append(exc)
    assert all(refused.status in (400, 501, 502) and refused.sentence for refused in refusals)


@pytest.mark.parametrize(
    ("minor", "value", "keeps"),
    [
        (1, None, True),
        (1, b"close", False),
        (1, b"Keep-Alive", True),
        (1, b"keep-alive, CLOSE", False),
        (1, b"upgrade", True),
        (0, None, False),
        (0, b"keep-alive", True),
        (0, b"Keep-Alive, x", True),
        (0, b"keep-alive, close", False),
        (0, b"x", False),
    ],
)
def test_who_lets_the_connection_live(minor: int, value: bytes | None, keeps: bool) -> None:
    fields = () if value is None else ((b"Connection", value),)
    assert wants_keep_alive(minor, fields) is keeps


def test_close_counts_in_any_of_several_lines() -> None:
    assert not wants_keep_alive(1, ((b"connection", b"x"), (b"CONNECTION", b"close")))


@pytest.mark.parametrize(
    ("framing", "to_1_1", "to_1_0"),
    [
        (NO_BODY, NO_BODY, NO_BODY),
        (Framing(BodyKind.LENGTH, 3), Framing(BodyKind.LENGTH, 3), Framing(BodyKind.LENGTH, 3)),
        (CHUNKED, CHUNKED, UNTIL_CLOSE),
        (UNTIL_CLOSE, CHUNKED, UNTIL_CLOSE),
    ],
)
def test_the_framing_that_the_client_gets(
    framing: Framing, to_1_1: Framing, to_1_0: Framing
) -> None:
    assert downstream_framing(framing, 1) == to_1_1
    assert downstream_framing(framing, 0) == to_1_0


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([], []),
        ([b""], []),
        ([b" , ,"], []),
        ([b"A, b\t,C"], [b"a", b"b", b"c"]),
        ([b"a", b"b"], [b"a", b"b"]),
    ],
)
def test_members_of_list_fields(values: list[bytes], members: list[bytes]) -> None:
    assert tokens(values) == members


def test_a_head_finds_its_values_whatever_their_case() -> None:
    head = request((b"Accept", b"a"), (b"x", b"y"), (b"ACCEPT", b"b"))
    assert head.values(b"accept") == [b"a", b"b"]
    assert head.values(b"other") == []
    assert response((b"DATE", b"now")).values(b"date") == [b"now"]


def test_interim_and_switching_answers() -> None:
    facts = {status: (response(status=status).interim, response(status=status).switches)
             for status in (100, 101, 103, 200, 599)}  # fmt: skip
    assert facts == {
        100: (True, False),
        101: (True, True),
        103: (True, False),
        200: (False, False),
        599: (False, False),
    }
