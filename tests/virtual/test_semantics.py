"""What RFC 9110 and 9112 ask of an intermediary, each with its section: both ways through the edge."""

import pytest
import trio
from trio.testing import MockClock

from tests.support.edge_client import Answer, EdgeClient
from tests.support.raw_backend import head_of, raw
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line
from tests.support.virtual_backend import answers, garbage

pytestmark = pytest.mark.usefixtures("either_way")

PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
EXPECTS = PUT + b"Expect: 100-continue\r\n\r\n"
FAST = 'timeouts = { response = "3s" }'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def last(play: Scene) -> bytes:
    return play.backends["a"].requests[-1].raw


async def says(client: EdgeClient, data: bytes, method: str = "GET") -> Answer:
    await client.send(data)
    with trio.fail_after(600):
        return await client.answer(method)


# ---- RFC 9110 10.1.1: Expect ---------------------------------------------------------------------


async def test_9110_10_1_1_the_backend_says_whether_to_go_on(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        client = await play.client()
        assert (await says(client, EXPECTS)).status == 100
        assert (await says(client, b"hello")).body == b"ok"
        assert b"\r\nExpect: 100-continue\r\n" in last(play)
        assert last(play).endswith(b"\r\n\r\nhello")
        assert (await client.get()).status == 200


async def test_9110_10_1_1_no_backend_no_100(autojump_clock: MockClock) -> None:
    """We keep no body for later, so we never say by ourselves that one is welcome."""
    seen: list[bytes] = []

    async def silent(line: Line) -> None:
        seen.append(await head_of(line))
        await trio.sleep_forever()

    async with scene({"a": answers(200)}, pool=FAST) as play:
        await raw(play, "a", silent)
        client = await play.client()
        assert (await says(client, EXPECTS)).status == 504
        assert len(seen) >= 1


@pytest.mark.parametrize("status", [200, 401, 417])
async def test_9110_10_1_1_a_final_answer_instead_is_the_answer(
    autojump_clock: MockClock, status: int
) -> None:
    """The body is not awaited: the client may send it or not, so the connection ends."""

    async def refuses(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nno" % status)
        await line.more()

    async with scene({"a": answers(200)}) as play:
        await raw(play, "a", refuses)
        client = await play.client()
        answer = await says(client, EXPECTS)
        assert (answer.status, answer.body) == (status, b"no")
        assert answer.header("connection") == "close"
        assert await client.at_end()
        await play.settled()
        assert play.at_rest()


async def test_9110_10_1_1_a_body_that_does_not_wait_is_sent_all_the_same(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        client = await play.client()
        answer = await says(client, EXPECTS + b"hello")
        while answer.status == 100:
            answer = await client.answer()
        assert answer.body == b"ok"
        assert last(play).endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x", b"y 100-continue"])
async def test_9110_10_1_1_other_expectations_are_417(
    autojump_clock: MockClock, value: bytes
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        answer = await says(client, PUT + b"Expect: %b\r\n\r\n" % value)
        assert answer.status == 417
        assert play.backends["a"].requests == []


@pytest.mark.parametrize(
    "request_",
    [
        b"PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: what?\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
    ],
)
async def test_9110_10_1_1_what_http_1_0_expects_or_who_has_no_body_is_ignored(
    autojump_clock: MockClock, request_: bytes
) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        answer = await says(await play.client(), request_)
        assert (answer.status, answer.body) == (200, b"ok")
        assert b"expect" not in last(play).lower()


async def test_9110_10_1_1_a_head_answer_behind_100_has_no_body(autojump_clock: MockClock) -> None:
    """What was asked must not be forgotten over the interim answer."""

    async def script(line: Line) -> None:
        for _ in range(2):
            await head_of(line)
            await line.send(CONTINUE)
            assert await line.holds(5)
            line.buffer = line.buffer[5:]
            await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")

    async with scene({"a": answers(200)}) as play:
        await raw(play, "a", script)
        client = await play.client()
        for _ in range(2):
            assert (await says(client, EXPECTS.replace(b"PUT", b"HEAD"), "HEAD")).status == 100
            answer = await says(client, b"hello", "HEAD")
            assert (answer.status, answer.header("content-length")) == (200, "99")


# ---- RFC 9110 15.2, RFC 8297 2: interim answers --------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\nConnection: x\r\nX: y\r\n\r\n"


async def test_9110_15_2_interim_answers_pass_before_the_final_one(
    autojump_clock: MockClock,
) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS + HINTS
    async with scene({"a": garbage(interim + OK, close=False)}) as play:
        client = await play.client()
        for _ in range(2):
            found = [await says(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
            found += [await client.answer() for _ in range(3)]
            assert [answer.status for answer in found] == [102, 103, 103, 200]
            assert found[1].header("link") == "</s.css>; rel=preload"
            assert found[1].header("x") is None
            assert found[3].body == b"ok"


async def test_9110_15_2_http_1_0_gets_no_interim_answer(autojump_clock: MockClock) -> None:
    async with scene({"a": garbage(HINTS + OK, close=False)}) as play:
        client = await play.client()
        assert (await says(client, b"GET / HTTP/1.0\r\n\r\n")).status == 200


# ---- RFC 9110 9.3.7, RFC 9112 3.2.4: OPTIONS -----------------------------------------------------


@pytest.mark.parametrize("target", [b"*", b"http://a", b"http://a:80"])
async def test_9112_3_2_4_options_of_the_whole_server_goes_on_as_an_asterisk(
    autojump_clock: MockClock, target: bytes
) -> None:
    allow = answers(204, headers=(("Allow", "GET, OPTIONS"),))
    async with scene({"a": allow}) as play:
        answer = await says(await play.client(), b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert (answer.status, answer.header("allow")) == (204, "GET, OPTIONS")
        assert last(play).startswith(b"OPTIONS * HTTP/1.1\r\n")


async def test_9112_3_2_4_an_asterisk_is_for_options_alone(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        answer = await says(await play.client(), b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.status == 400


# ---- RFC 9110 7.6.2: Max-Forwards ----------------------------------------------------------------


@pytest.mark.parametrize("target", [b"/", b"*"])
async def test_9110_7_6_2_at_zero_we_are_the_final_recipient(
    autojump_clock: MockClock, target: bytes
) -> None:
    async with scene({"a": answers(200, b"theirs")}) as play:
        client = await play.client()
        head = b"OPTIONS %b HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" % target
        answer = await says(client, head)
        assert answer.status == 200
        assert answer.header("allow") == "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"
        assert answer.header("proxy-status") is None
        assert play.backends["a"].requests == []
        assert (await client.get()).body == b"theirs"


async def test_9110_7_6_2_above_zero_it_goes_on_with_one_less(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        await says(client, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n")
        assert b"\r\nMax-Forwards: 2\r\n" in last(play)
        await client.get("/", "Max-Forwards: 3")
        assert b"\r\nMax-Forwards: 3\r\n" in last(play)


@pytest.mark.parametrize("forwards", ["0", "5"])
async def test_9110_9_3_8_trace_goes_nowhere(autojump_clock: MockClock, forwards: str) -> None:
    """It would show the backend's view of the request, with fields that no client should see."""
    async with scene({"a": answers(200)}) as play:
        head = f"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {forwards}\r\n\r\n"
        answer = await says(await play.client(), head.encode())
        assert answer.status == 405
        assert answer.header("allow") is not None
        assert play.backends["a"].requests == []


# ---- RFC 9110 10.1.4 and 6.5, RFC 9112 7.1.2: TE and trailers ------------------------------------


@pytest.mark.parametrize(
    ("te", "sent"),
    [("trailers", True), ("gzip;q=1, trailers", True), ("gzip", False), ("", False)],
)
async def test_9110_10_1_4_that_trailers_are_welcome_is_said_for_the_next_hop(
    autojump_clock: MockClock, te: str, sent: bool
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        assert (await client.get("/", f"TE: {te}", "Connection: TE")).status == 200
        assert (b"\r\nTE: trailers\r\nConnection: TE\r\n" in last(play)) is sent
        assert last(play).lower().count(b"\r\nte:") == sent


CHUNKS = b"5\r\nhello\r\n0\r\nX-Sum: 7\r\nContent-Type: no\r\nX_Sum: 8\r\n\r\n"


async def test_9110_6_5_trailers_of_an_answer_pass(autojump_clock: MockClock) -> None:
    """But for those that would change how the answer is understood (6.5.1)."""
    head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scene({"a": garbage(head + CHUNKS, close=False)}) as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while b"0\r\nX-Sum: 7\r\n\r\n" not in client.buffer:
            client.buffer += await client.receive()
        assert b"\r\nTrailer: X-Sum\r\n" in client.buffer
        assert client.buffer.endswith(b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n")


async def test_9110_6_5_http_1_0_gets_no_trailers(autojump_clock: MockClock) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scene({"a": garbage(head + CHUNKS, close=False)}) as play:
        answer = await says(await play.client(), b"GET / HTTP/1.0\r\n\r\n")
        assert answer.body == b"hello"


async def test_9110_6_5_trailers_of_a_request_pass(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await says(await play.client(), head + CHUNKS)).status == 200
        assert b"\r\nTrailer: X-Sum\r\n" in last(play)
        assert last(play).endswith(b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n")


# ---- RFC 9110 13 and 14: conditions and ranges ---------------------------------------------------

CONDITIONS = (
    'If-Match: "a", "b"',
    'If-None-Match: W/"c"',
    "If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT",
    "If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT",
    'If-Range: "d"',
    "Range: bytes=0-1, -3,5-",
)


async def test_9110_13_and_14_conditions_and_ranges_pass_as_they_came(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        await (await play.client()).get("/", *CONDITIONS)
        for line in CONDITIONS:
            assert f"\r\n{line}\r\n".encode() in last(play)


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (206, (("Content-Range", "bytes 0-1/9"), ("ETag", '"a"')), b"he"),
        (206, (("Content-Type", "multipart/byteranges; boundary=B"),), b"--B\r\n\r\nhe\r\n--B--"),
        (416, (("Content-Range", "bytes */9"),), b""),
        (304, (("ETag", 'W/"c"'), ("Last-Modified", "Sat, 29 Oct 1994 19:43:31 GMT")), b""),
        (412, (("ETag", '"e"'),), b"no"),
    ],
)
async def test_9110_15_3_7_parts_and_refusals_pass_as_they_came(
    autojump_clock: MockClock, status: int, fields: tuple[tuple[str, str], ...], body: bytes
) -> None:
    async with scene({"a": answers(status, body, headers=fields)}) as play:
        client = await play.client()
        for _ in range(2):
            answer = await client.get("/", *CONDITIONS)
            assert (answer.status, answer.body) == (status, body)
            assert [answer.header(name) for name, _ in fields] == [value for _, value in fields]


# ---- RFC 9110 4.2.3, RFC 9112 3.2: the target ----------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/%41%7e%7E%2f%2F%5c%00%ff", "/a//b///", "/;p=1;q=2/a;b", "/?", "/??a=%zz&%&b", "/a+b%20c?d+e%20f",
        "/:@!$&'()*+,;=", '/[]|^`{}"<>\\', "/a?b=/../c&d=//e?f", "/%e4%bd%a0", "/~-._",
    ],
)  # fmt: skip
async def test_9112_3_2_every_octet_of_a_target_goes_on_as_it_came(
    autojump_clock: MockClock, target: str
) -> None:
    """RFC 9110 4.2.3: who decodes or normalises decides for the origin what is the same."""
    async with scene({"a": answers(200)}) as play:
        assert (await (await play.client()).get(target)).status == 200
        assert last(play).startswith(b"GET %b HTTP/1.1\r\n" % target.encode())
        assert play.stage.access[0].target == target


# ---- RFC 9110 5.4: large fields ------------------------------------------------------------------

COOKIE = "Cookie: " + "c" * 16 * 1024


async def test_9110_5_4_large_fields_pass_both_ways(autojump_clock: MockClock) -> None:
    cookie = "s=" + "d" * 16 * 1024
    async with scene({"a": answers(200, b"ok", headers=(("Set-Cookie", cookie),))}) as play:
        client = await play.client()
        for _ in range(3):
            answer = await client.get("/", COOKIE)
            assert (answer.body, answer.header("set-cookie")) == (b"ok", cookie)
            assert f"\r\n{COOKIE}\r\n".encode() in last(play)


@pytest.mark.parametrize(("limit", "status"), [("16KiB", 431), ("17KiB", 200)])
async def test_6585_5_fields_larger_than_allowed_are_431(
    autojump_clock: MockClock, limit: str, status: int
) -> None:
    async with scene({"a": answers(200)}, top=f'client = {{ max_header = "{limit}" }}') as play:
        assert (await (await play.client()).get("/", COOKIE)).status == status
        assert len(play.backends["a"].requests) == (status == 200)
