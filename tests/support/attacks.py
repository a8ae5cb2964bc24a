"""Requests that two readers could take for two things: what each is made of, and its surroundings.

The kinds themselves are in `tests.support.attack_kinds`.
"""

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

NEVER = rb"(?!)"
CANARY = b"GET /canary HTTP/1.1\r\nHost: a.test\r\n\r\n"


class Attack(NamedTuple):
    """A request by its parts, with the statuses of which one refuses it; none: it is passed on.

    `never` matches what must not go on of it. `closes`: nothing behind it is read.
    """

    statuses: tuple[int, ...] = (400,)
    start: bytes = b"GET /p?q=1 HTTP/1.1"
    host: tuple[bytes, ...] = (b"Host: a.test",)
    lines: tuple[bytes, ...] = ()
    body: bytes = b""
    never: bytes = NEVER
    closes: bool = False


PASSES = Attack(statuses=())
POST = b"POST /p HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CODED = Attack(start=POST, body=CHUNKS)
SIZED = Attack(start=POST, body=b"hello")
HONEST = [
    b"Accept: */*", b"User-Agent: x/1 (a; b)", b"Cookie: a=b; c=d", b"Authorization: Basic eA==",
    b"Content-Type: text/plain", b"X-Trace:1", b"DNT: 1", b"Accept-Language: de, en;q=0.5", b"X-Empty:",
    b"Cache-Control: no-cache", b"Origin: null", b"X-Latin: \xe4", b"Connection: keep-alive",
]  # fmt: skip
CASES: list[Callable[[bytes], bytes]] = [bytes, bytes.lower, bytes.upper, bytes.swapcase]
BLANKS = st.sampled_from([b" ", b"\t", b"  ", b" \t"])
CONTROLS = [bytes([code]) for code in (*range(9), 11, 12, *range(14, 32), 127)]
TCHARS = b"!#$%&'*+-.^_`|~09azAZ"

cased = st.sampled_from(CASES)
honest = st.sampled_from(HONEST)


def one_of(*values: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(values)


@st.composite
def with_inserted(
    draw: st.DrawFn, text: st.SearchStrategy[bytes], what: st.SearchStrategy[bytes]
) -> bytes:
    """A text with something put in anywhere, its ends included."""
    raw = draw(text)
    at = draw(st.integers(0, len(raw)))
    return raw[:at] + draw(what) + raw[at:]


def field(name: bytes, value: bytes) -> st.SearchStrategy[bytes]:
    """One field line, its name in any case, with a blank before the value or none."""
    return st.builds(lambda case, colon: case(name) + colon + value, cased, one_of(b":", b": "))


def lines(
    *fields: st.SearchStrategy[bytes], like: Attack | None = None
) -> st.SearchStrategy[Attack]:
    """An attack by these lines; what else is odd is as in `like`."""
    return st.tuples(*fields).map(lambda found: (like or Attack())._replace(lines=found))


def starts(start: st.SearchStrategy[bytes], *statuses: int) -> st.SearchStrategy[Attack]:
    return start.map(lambda line: Attack(statuses=statuses or (400,), start=line))


def hosts(*values: bytes) -> st.SearchStrategy[Attack]:
    return one_of(*values).map(lambda value: Attack(host=(b"Host: " + value,)))


def bodies(body: st.SearchStrategy[bytes]) -> st.SearchStrategy[Attack]:
    """A body in chunks that are none."""
    return body.map(lambda body: Attack(start=POST, lines=(CHUNKED,), body=body))


def sized(size: bytes) -> bytes:
    return size + b"\r\nhello\r\n0\r\n\r\n"


def trailing(name: bytes, case: Callable[[bytes], bytes], passes: bool) -> Attack:
    body = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n" + case(name) + b": a\r\n\r\n"
    dropped = rb"\r\n0\r\n(?s:.*)%b:" % name
    attack = PASSES._replace(never=dropped) if passes else Attack()
    return attack._replace(start=POST, lines=(CHUNKED,), body=body)


trailing_lines = st.builds(
    lambda name, case: b"5\r\nhello\r\n0\r\n" + case(name) + b": a\r\n\r\n",
    one_of(b"Content-Length", b"Transfer-Encoding", b"Connection", b"Host"),
    cased,
)


def nominating(name: bytes, *, passes: bool) -> Attack:
    field_of_it = name + b": a" if name not in (b"host", b"content-length") else b"X-A: b"
    named = b"Connection: close, %b" % name
    if passes:
        gone = rb"\r\n%b:" % name
        return PASSES._replace(lines=(named, field_of_it), never=gone, closes=True)
    return Attack(lines=(named, field_of_it))


LENGTH = field(b"Content-Length", b"5")
NOT_A_LENGTH = st.one_of(
    one_of(
        b"+5", b"-5", b"0x5", b"5 5", b"5_0", b"5.0", b"5e1", b"", b"5;", b'"5"', b"five", b"\xd9\xa5", b"\xb2",
        b"5, 5", b"5,6", b",5", b"1" * 19, b"1" * 400, b"5\xa0",
    ),
    st.text("0123456789", min_size=19, max_size=40).map(str.encode),
    with_inserted(one_of(b"5", b"42"), one_of(b",", b"+", b"_", b"x", b"\x85", b";")),
)  # fmt: skip
NOT_CHUNKED = st.one_of(
    one_of(
        b"", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,", b",chunked",
        b"chunked;q=1", b'"chunked"', b"xchunked", b"chunkedx", b"chunk ed", b": chunked", b"chunked\xa0",
    ),
    with_inserted(one_of(b"chunked", b"Chunked"), one_of(b",", b".", b";", b"x", b"\x85", b"'", b"\xe7")),
)  # fmt: skip
BAD_SIZES = st.one_of(
    one_of(
        b"+5", b"-5", b" 5", b"5 ", b"\t5", b"0x5", b"0_5", b"5.0", b"", b"g", b"5\x00", b"5,", b"5;", b'5;a="',
        b"5;a=", b"5;=b", b"5;a b", b"5\r", b"5;a\rb", b"5;a\nb", b"5\n", b"\xd9\xa5", b"5h", b"5;\x7f",
    ),
    st.text("0123456789abcdefABCDEF", min_size=16, max_size=40).map(str.encode),
    st.just(b"0" * 20 + b"5"),
)  # fmt: skip
BAD_ENDS = one_of(b"\n", b"\r", b"", b"!", b"!!\r\n", b"\r\r\n", b"\n\r", b" \r\n", b"\0\r\n")
REFUSED_ODD_HOSTS = (
    b"", b"u@a.test", b"a.test/", b"a\\b", b'a".test', b"a b", b"a,b", b"a, b.test", b"a;b", b"a%2etest", b"a?b",
    b"a#b", b"<a>", b"..", b".a", b"a..b", b"a.test:99999", b"a.test:-1", b"a.test:8o", b"a.test:80:80", b":80",
    b"[::1", b"::1", b"[a.test]", b"[::1]x", b"[1.2.3.4]", b"\xe4.test", b"a\x85", b"a*", b"a'b", b"a=b",
)  # fmt: skip
ODD_TARGETS = (
    b"*", b"foo", b"?a", b"a.test:80", b"ftp://a.test/", b"//", b"@b.test/", b":80/", b"/a#b", b"/\xc3\xa9", b"\\",
    b"http:///x", b"http://u:p@a.test/", b"https://a.test/", b"http://a.test:99999/", b"http:/a", b"http:a",
    b"javascript:x", b"http://a.test#b",
)  # fmt: skip
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"DELETE", b"PROPFIND")


@st.composite
def stream_of(draw: st.DrawFn, attack: Attack) -> bytes:
    """The attack among honest lines, and an honest request behind it."""
    names = {line.partition(b":")[0].strip().lower() for line in attack.lines}
    others = draw(st.lists(honest, unique=True, max_size=4))
    kept = [line for line in others if line.partition(b":")[0].lower() not in names]
    all_lines = draw(st.permutations([*attack.host, *attack.lines, *kept]))
    return b"\r\n".join([attack.start, *all_lines, b"", attack.body]) + CANARY
