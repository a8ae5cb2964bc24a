"""Requests that two readers could take for two things, kind by kind.

Each kind is a strategy for `Attack`: what of a request is odd, and what must become of it.
"""

from collections.abc import Mapping

from hypothesis import strategies as st

from balancer.core.field_names import FOR_ALL_RECIPIENTS, REFUSED_IN_TRAILERS
from balancer.core.request_rules import SENT_ONCE
from tests.support.attacks import (
    BAD_ENDS,
    BAD_SIZES,
    BLANKS,
    CHUNKED,
    CODED,
    CONTROLS,
    LENGTH,
    METHODS,
    NOT_A_LENGTH,
    NOT_CHUNKED,
    ODD_TARGETS,
    PASSES,
    POST,
    REFUSED_ODD_HOSTS,
    SIZED,
    Attack,
    bodies,
    cased,
    field,
    honest,
    hosts,
    lines,
    nominating,
    one_of,
    sized,
    starts,
    trailing,
    with_inserted,
)

# What is refused or made canonical, by the words of the operators' table.
KINDS: Mapping[str, st.SearchStrategy[Attack]] = {
    "a length beside chunks": st.one_of(
        lines(LENGTH, field(b"Transfer-Encoding", b"chunked"), like=CODED),
        lines(LENGTH, field(b"Transfer-Encoding", b"chunked"), like=SIZED),
    ),
    "a length said twice": st.one_of(
        lines(LENGTH, LENGTH, like=SIZED),
        lines(LENGTH, field(b"Content-Length", b"6"), like=SIZED),
    ),
    "a length that is none": NOT_A_LENGTH.flatmap(
        lambda value: lines(field(b"Content-Length", value), like=SIZED)
    ),
    "a coding that is not exactly chunked": NOT_CHUNKED.flatmap(
        lambda value: lines(
            field(b"Transfer-Encoding", value), like=CODED._replace(statuses=(400, 501))
        )
    ),
    "an odd coding beside a length": NOT_CHUNKED.flatmap(
        lambda value: lines(LENGTH, field(b"Transfer-Encoding", value), like=CODED)
    ),
    "codings in two lines": NOT_CHUNKED.flatmap(
        lambda value: lines(
            field(b"Transfer-Encoding", b"chunked"),
            field(b"Transfer-Encoding", value),
            like=CODED._replace(statuses=(400, 501)),
        )
    ),
    "chunks in HTTP/1.0": lines(
        field(b"Transfer-Encoding", b"chunked"), like=CODED._replace(start=b"POST /p HTTP/1.0")
    ),
    "a bare line end": lines(
        with_inserted(honest, one_of(b"\r", b"\n", b"\r\r", b"\n\n", b"\n\r"))
    ),
    "a bare line end in the first line": starts(
        with_inserted(st.just(b"GET / HTTP/1.1"), one_of(b"\r", b"\n", b"\n\n"))
    ),
    "a folded line": lines(
        st.builds(
            lambda line, blank, more: line + b"\r\n" + blank + more,
            honest,
            BLANKS,
            one_of(b"", b"a", b"Host: b"),
        )
    ),
    "a control byte": lines(with_inserted(honest, st.sampled_from(CONTROLS))),
    "a control byte in the first line": starts(
        with_inserted(st.just(b"GET /p HTTP/1.1"), st.sampled_from([*CONTROLS, b"\t"]))
    ),
    "a blank before the colon": st.sampled_from(
        [b"Content-Length", b"Host", b"Transfer-Encoding", b"X-A"]
    ).flatmap(
        lambda name: lines(
            st.builds(lambda case, blank: case(name) + blank + b": 5", cased, BLANKS)
        )
    ),
    "a name that is none": lines(
        st.one_of(
            with_inserted(
                one_of(b"Content-Length", b"X-A"),
                one_of(*(bytes([c]) for c in b'"(),/;<=>?@[\\]{} \t\xe7\x80')),
            ).map(lambda name: name + b": 5"),
            one_of(b": 5", b"no colon", b"Host", b"\xff: a"),
        )
    ),
    "a chunk size that is none": bodies(BAD_SIZES.map(sized)),
    "chunk data that does not end": bodies(
        BAD_ENDS.map(lambda end: b"5\r\nhello" + end + b"0\r\n\r\n")
    ),
    "a last chunk that is none": bodies(
        one_of(
            b"0\n\n",
            b"0\r\n\n",
            b"0\r\n \r\n",
            b"0\r\nA\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA: b\r\n c\r\n\r\n",
        )
    ),
    "chunk extensions": one_of(b";a", b";a=b", b' ; a = "b;c\\""', b";a=b;c=d").map(
        lambda ext: PASSES._replace(
            start=POST, lines=(CHUNKED,), body=sized(b"5" + ext), never=rb"\r\n0*5[^\r]"
        )
    ),
    "trailers that frame or route": st.builds(
        trailing, st.sampled_from(sorted(REFUSED_IN_TRAILERS)), cased, st.just(False)
    ),
    "trailers of others' business": st.builds(
        trailing,
        one_of(
            b"Authorization",
            b"Cookie",
            b"X-Forwarded-For",
            b"X-Forwarded-Port",
            b"X-Real-IP",
            b"Content-Type",
            b"Upgrade",
            b"TE",
            b"X_A",
        ),
        cased,
        st.just(True),
    ),
    "no Host": st.just(Attack(host=())),
    "two Hosts": one_of(b"Host: a.test", b"host:b.test", b"HOST: a.test").map(
        lambda line: Attack(host=(b"Host: a.test", line))
    ),
    "an odd Host": hosts(*REFUSED_ODD_HOSTS),
    "absolute form and another Host": starts(
        one_of(
            b"GET http://b.test/ HTTP/1.1",
            b"GET HTTP://a.test:81/ HTTP/1.1",
            b"GET http://a.test.:80 HTTP/1.1",
        )
    ),
    "absolute form": one_of(
        b"GET http://a.test/x HTTP/1.1",
        b"GET HTTP://A.test:80 HTTP/1.1",
        b"OPTIONS http://a.test HTTP/1.1",
    ).map(lambda start: PASSES._replace(start=start, never=rb"\A[^\r]*://")),
    "another version": starts(
        st.sampled_from([b"0.9", b"1.2", b"2.0", b"3.0", b"9.9"]).map(lambda v: b"GET / HTTP/" + v),
        505,
    ),
    "no version": starts(
        one_of(
            *(
                b"GET /" + end
                for end in (
                    b"",
                    b" ",
                    b" HTTP/1",
                    b" HTTP/1.10",
                    b" HTTP/01.1",
                    b" http/1.1",
                    b" ICY/1.1",
                    b" HTTP/1.1 HTTP/1.1",
                    b" HTTP/1.1abc",
                    b" HTTP/\xb9.1",
                )
            )
        )
    ),
    "another blank in the request line": starts(
        with_inserted(one_of(b"GET /p HTTP/1.1", b"POST /p HTTP/1.1"), BLANKS)
    ),
    "a method in lower case": starts(
        st.builds(
            lambda name, case: case(name) + b" / HTTP/1.1",
            one_of(*METHODS),
            st.sampled_from([bytes.lower, bytes.title, bytes.capitalize]),
        )
    ),
    "tunnels and echoes": starts(
        one_of(
            b"CONNECT a.test:443 HTTP/1.1",
            b"CONNECT / HTTP/1.1",
            b"TRACE / HTTP/1.1",
            b"TRACE * HTTP/1.0",
        ),
        405,
    ),
    "a target of no form": starts(
        one_of(*(b"GET " + target + b" HTTP/1.1" for target in ODD_TARGETS if target != b"//"))
    ),
    "an escape that is none": starts(
        one_of(b"/%", b"/%2", b"/%zz", b"/%u002e/", b"/%%20", b"/a%2\xe4").map(
            lambda path: b"GET " + path + b" HTTP/1.1"
        )
    ),
    "Connection names what is for everybody": st.sampled_from(
        sorted(FOR_ALL_RECIPIENTS - {b"set-cookie"})
    ).map(lambda name: nominating(name, passes=False)),
    "Connection names what is for this hop": one_of(
        b"X-Hop", b"Keep-Alive", b"X-Internal-User"
    ).map(lambda name: nominating(name, passes=True)),
    "an upgrade to h2c": st.just(
        PASSES._replace(
            lines=(
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMA",
            ),
            never=rb"h2c|http2-settings",
        )
    ),
    "settings of h2c alone": st.just(
        PASSES._replace(lines=(b"HTTP2-Settings: AAMA",), never=rb"http2-settings")
    ),
    "empty lines in front": st.integers(1, 4).map(
        lambda count: PASSES._replace(start=b"\r\n" * count + b"GET / HTTP/1.1")
    ),
    "bare line ends in front": starts(
        one_of(b"\n", b"\r\r\n", b"\r\n\n").map(lambda before: before + b"GET / HTTP/1.1")
    ),
    "bytes behind a close": one_of(
        b"Connection: close", b"connection:CLOSE", b"Connection: x, close"
    ).map(lambda line: PASSES._replace(lines=(line,), closes=True)),
    "bytes behind HTTP/1.0": st.just(
        PASSES._replace(
            start=b"GET / HTTP/1.0", lines=(b"Connection: x",), closes=True, never=rb"HTTP/1\.0"
        )
    ),
    "names that CGI folds": one_of(
        b"X_Real_IP", b"Content_Length", b"X.Real.IP", b"Transfer_Encoding", b"X'A", b"~", b"Host_"
    ).map(
        lambda name: PASSES._replace(
            lines=(name + b": 9",), never=rb"\r\n[^:\r]*[^0-9A-Za-z:\r\n-][^:\r]*:"
        )
    ),
    "who asks, said twice": st.sampled_from(sorted(SENT_ONCE)).flatmap(
        lambda name: lines(field(name, b"a"), field(name, b"b"))
    ),
    "a length with zeros in front": one_of(b"05", b"0005").map(
        lambda value: PASSES._replace(
            start=POST, lines=(b"Content-Length: " + value,), body=b"hello", never=rb"Length: ?0"
        )
    ),
}
