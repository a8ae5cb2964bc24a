"""What each admin request does and answers, without a socket."""

import json

import pytest
import trio
import trio.testing

from balancer.admin.api import PATHS, answer
from balancer.admin.health import FIGURES_S, PublicSide
from balancer.admin.messages import AdminReply, AdminRequest
from balancer.admin.operations import OPERATIONS
from tests.support.fake_control import A, B, FakeControl, exchange

ONE = f"/v1/pools/web/backends/{A.replace(':', '%3A')}"
JSON = {"content-type": "application/json"}


async def answer_public(request: AdminRequest, control: FakeControl, *names: str) -> AdminReply:
    return await PublicSide(control, lambda: names).answer(request)


async def ask(
    control: FakeControl,
    method: str,
    target: str,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> AdminReply:
    path, _, query = target.partition("?")
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = AdminRequest(
        method=method,
        path=path,
        query=query,
        headers=JSON if headers is None else headers,
        body=raw,
    )
    return await answer(request, control)


def said(reply: AdminReply) -> dict[str, object]:
    value = json.loads(reply.body)
    assert isinstance(value, dict)
    return value


async def test_status_is_the_contract_json_of_all_pools_or_of_one() -> None:
    control = FakeControl()
    everything = await ask(control, "GET", "/v1/status")
    assert everything.status == 200
    assert said(everything) == control.status(None)
    assert said(await ask(control, "GET", "/v1/status?pool=web")) == control.status("web")


async def test_an_unknown_pool_is_a_conflict_with_a_hint() -> None:
    reply = await ask(FakeControl(), "GET", "/v1/status?pool=wbe")
    assert reply.status == 409
    assert said(reply) == {"error": "there is no pool 'wbe'; did you mean 'web'?"}


@pytest.mark.parametrize("state", ["drain", "ready", "maintenance"])
async def test_an_order_is_obeyed_once_and_is_no_error_twice(state: str) -> None:
    control = FakeControl()
    control.rows[A]["admin"] = "other"
    first, second = [await ask(control, "POST", f"{ONE}/{state}") for _ in range(2)]
    assert (first.status, said(first)["changed"]) == (200, True)
    assert (second.status, said(second)["changed"]) == (200, False)
    assert control.rows[A]["admin"] == {"drain": "draining"}.get(state, state)


async def test_a_backend_is_added_with_its_weight() -> None:
    control = FakeControl()
    fields = {"address": "unix:/run/x.sock", "weight": 3}
    reply = await ask(control, "POST", "/v1/pools/web/backends", fields)
    assert said(reply) == {"changed": True, "message": "added web unix:/run/x.sock"}
    assert control.rows["unix:/run/x.sock"]["weight"] == 3


async def test_an_address_with_slashes_fits_into_a_path() -> None:
    control = FakeControl()
    await ask(control, "POST", "/v1/pools/web/backends", {"address": "unix:/run/x.sock"})
    await ask(control, "POST", "/v1/pools/web/backends/unix%3A%2Frun%2Fx.sock/drain")
    assert control.rows["unix:/run/x.sock"]["admin"] == "draining"


async def test_another_spelling_of_an_address_is_the_same_backend() -> None:
    control = FakeControl()
    await ask(control, "POST", "/v1/pools/web/backends", {"address": "localhost:9003"})
    await ask(control, "POST", "/v1/pools/web/backends/LOCALHOST%3A9003/drain")
    assert control.rows["localhost:9003"]["admin"] == "draining"


@pytest.mark.parametrize("weight", [b"2", b"2.0", b"2e0", b"0.2e1"])
async def test_a_weight_may_be_written_as_json_writes_whole_numbers(weight: bytes) -> None:
    control = FakeControl()
    assert (await ask(control, "POST", f"{ONE}/weight", b'{"weight": %b}' % weight)).status == 200
    assert repr(control.rows[A]["weight"]) == "2"


async def test_a_weight_is_set() -> None:
    control = FakeControl()
    assert (await ask(control, "POST", f"{ONE}/weight", {"weight": 0})).status == 200
    assert control.rows[A]["weight"] == 0


async def test_removing_is_refused_with_what_would_be_cut_unless_forced() -> None:
    control = FakeControl()
    control.in_flight[A] = [exchange(1)]
    refused = await ask(control, "DELETE", ONE)
    assert refused.status == 409
    assert said(refused)["running"] == [exchange(1)]
    assert (await ask(control, "DELETE", f"{ONE}?force")).status == 200
    assert list(control.rows) == [B]


async def test_removing_what_is_unknown_is_refused_without_a_list() -> None:
    reply = await ask(FakeControl(), "DELETE", "/v1/pools/web/backends/nowhere")
    assert reply.status == 409
    assert said(reply)["running"] == []


async def test_what_runs_on_a_backend_is_told_with_what_the_operator_ordered() -> None:
    control = FakeControl()
    control.in_flight[A] = [exchange(1), exchange(2)]
    await control.drain("web", A)
    reply = said(await ask(control, "GET", f"{ONE}/running"))
    assert reply == {"running": [exchange(1), exchange(2)], "admin": "draining"}


async def test_a_change_that_some_workers_have_not_confirmed_is_accepted_and_names_them() -> None:
    control = FakeControl()
    control.laggards = ("worker 2",)
    reply = await ask(control, "POST", f"{ONE}/drain")
    assert reply.status == 202
    assert said(reply)["laggards"] == ["worker 2"]


async def test_a_change_that_could_not_be_saved_is_an_error() -> None:
    control = FakeControl()
    control.disk_full = True
    reply = await ask(control, "POST", f"{ONE}/drain")
    assert reply.status == 500
    assert "nothing was changed" in str(said(reply)["error"])


@pytest.mark.parametrize("what", ["reload", "upgrade"])
async def test_a_reload_and_an_upgrade_return_what_changed(what: str) -> None:
    reply = await ask(FakeControl(), "POST", f"/v1/{what}")
    assert (reply.status, said(reply)["changed"]) == (200, True)
    assert (await ask(FakeControl(), "GET", f"/v1/{what}")).status == 405
    assert (await ask(FakeControl(), "POST", f"/v1/{what}", {"now": True})).status == 400


async def test_a_file_with_errors_is_a_conflict_and_a_failed_upgrade_a_failure() -> None:
    control = FakeControl()
    control.wrong_with_file = "edge.toml is not valid; nothing was changed\nedge.toml:1: no"
    control.upgrade_fails = True
    refused, failed = [await ask(control, "POST", f"/v1/{w}") for w in ("reload", "upgrade")]
    assert (refused.status, said(refused)) == (409, {"error": control.wrong_with_file})
    assert failed.status == 500


@pytest.mark.parametrize(
    ("body", "now"), [(None, False), ({"now": False}, False), ({"now": True}, True)]
)
async def test_stop_is_begun_and_answered(body: object, now: bool) -> None:
    control = FakeControl()
    assert (await ask(control, "POST", "/v1/stop", body)).status == 202
    assert control.stopped is now


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/v1/pools/web/backends", b"{", "the body is not JSON"),
        ("/v1/pools/web/backends", [], "the body must be a JSON object"),
        ("/v1/pools/web/backends", b'{"address": "a:1", "address": "b:1"}', "given twice"),
        ("/v1/pools/web/backends", {}, "needs an 'address'"),
        ("/v1/pools/web/backends", {"address": 5}, "'address' must be a string, not 5"),
        ("/v1/pools/web/backends", {"address": "a:1", "weigth": 2}, "unknown key 'weigth'"),
        ("/v1/pools/web/backends", {"address": "a:1", "weight": True}, "not true"),
        ("/v1/pools/web/backends", {"address": "a:1", "weight": 1.5}, "a whole number, not 1.5"),
        ("/v1/pools/web/backends", {"address": "a:1", "weight": 1001}, "not from 0 to 1000"),
        (f"{ONE}/weight", {}, "needs a 'weight' from 0 to 1000"),
        (f"{ONE}/weight", {"weight": -1}, "not from 0 to 1000"),
        (f"{ONE}/weight", b'{"weight": 1e308}', "is not from 0 to 1000"),
        (f"{ONE}/weight", b'{"weight": 1e999}', "a whole number, not Infinity"),
        (f"{ONE}/weight", b'{"weight": NaN}', "a whole number, not NaN"),
        (f"{ONE}/drain", {"weight": 1}, "known here: none"),
        ("/v1/pools/web/backends", b"[" * 100_000, "the body is not JSON"),
    ],
)
async def test_a_wrong_body_changes_nothing_and_says_what_is_right(
    path: str, body: object, sentence: str
) -> None:
    control = FakeControl()
    before = {address: dict(row) for address, row in control.rows.items()}
    reply = await ask(control, "POST", path, body)
    assert reply.status == 400
    assert sentence in str(said(reply)["error"])
    assert control.rows == before


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("force=perhaps", "'force' must be true or false, not 'perhaps'"),
        ("farce=1", "unknown key 'farce'; known here: force"),
        ("force&force", "given twice"),
        ("force=%ff", "the query is not readable"),
        ("&".join("force" for _ in range(20)), "the query is not readable"),
    ],
)
async def test_a_wrong_query_changes_nothing_and_says_what_is_right(
    query: str, sentence: str
) -> None:
    control = FakeControl()
    reply = await ask(control, "DELETE", f"{ONE}?{query}")
    assert reply.status == 400
    assert sentence in str(said(reply)["error"])
    assert A in control.rows


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_must_say_that_it_is_json(headers: dict[str, str]) -> None:
    """A web page can post plain text to anywhere; it cannot post JSON."""
    reply = await ask(FakeControl(), "POST", f"{ONE}/weight", {"weight": 1}, headers)
    assert reply.status == 415


async def test_a_content_type_may_name_its_charset() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await ask(FakeControl(), "POST", f"{ONE}/weight", {"weight": 1}, headers)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/statu",
        "/v1/pools/web",
        f"{ONE}/explode",
        "/v2/status",
        "//v1/status",
        "/v1/status/",
        "x/v1/status",
        "http://x/v1/status",
        "*",
        "",
    ],
)
async def test_an_unknown_path_is_told_what_there_is(path: str) -> None:
    reply = await ask(FakeControl(), "GET", path)
    assert reply.status == 404
    assert said(reply)["paths"] == PATHS


@pytest.mark.parametrize("template", sorted(OPERATIONS))
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"])
async def test_no_read_changes_anything_and_no_other_method_does(
    template: str, method: str
) -> None:
    """Every path, every method that is not its own: 405 with what is allowed, nothing changed."""
    allowed = set(OPERATIONS[template]) | ({"HEAD"} if "GET" in OPERATIONS[template] else set())
    control = FakeControl()
    path = template.replace("{pool}", "web").replace("{address}", A)
    before = {address: dict(row) for address, row in control.rows.items()}
    reply = await ask(control, method, path)
    if method not in allowed:
        assert reply.status == 405
        assert set(reply.allow) == set(OPERATIONS[template])
    if method not in ("POST", "DELETE"):
        assert control.rows == before
        assert control.stopped is None


async def test_the_config_in_force_is_plain_text() -> None:
    reply = await ask(FakeControl(), "GET", "/v1/config")
    assert (reply.status, reply.body) == (200, b'workers = "auto"\n')


async def test_kept_changes_are_lines_and_since_leaves_the_known_ones_out() -> None:
    control = FakeControl()
    await control.drain("web", A)
    await control.ready("web", A)
    lines = (await ask(control, "GET", "/v1/events")).body.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["backend.draining", "backend.ready"]
    later = (await ask(control, "GET", "/v1/events?since=1")).body.splitlines()
    assert [json.loads(line)["seq"] for line in later] == [2]


async def test_a_follower_gets_each_change_and_is_told_what_it_missed() -> None:
    control = FakeControl()
    await control.drain("web", A)
    reply = await ask(control, "GET", "/v1/events?follow")
    assert reply.stream is not None
    pieces: list[bytes] = []

    async def read() -> None:
        assert reply.stream is not None
        pieces.append(await reply.stream.next_piece())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert pieces == []
        await control.ready("web", A)
    assert json.loads(pieces[0])["kind"] == "backend.ready"

    for _ in range(3000):
        await control.drain("web", A)
        await control.ready("web", A)
    missed, *kept = [json.loads(line) for line in (await reply.stream.next_piece()).splitlines()]
    assert missed == {"missed": 6000 - len(kept)}
    assert kept[-1]["seq"] == control.log.last


async def test_liveness_readiness_and_figures_are_on_both_sides() -> None:
    control = FakeControl()
    for path, status, start in [
        ("/livez", 200, b"ok\n"),
        ("/readyz", 200, b"ok\nweb: 2 available\n"),
        ("/metrics", 200, b"# HELP balancer_ready"),
    ]:
        request = AdminRequest(method="GET", path=path)
        for reply in (await answer(request, control), await answer_public(request, control)):
            assert reply.status == status
            assert reply.body.startswith(start)


async def test_not_ready_says_why_and_stays_alive() -> None:
    control = FakeControl()
    control.is_ready = False
    reply = await ask(control, "GET", "/readyz")
    assert (reply.status, reply.body) == (503, b"not ready\nstopping\n")
    assert (await ask(control, "GET", "/livez")).status == 200


@pytest.mark.parametrize("path", ["/v1/status", "/v1/stop", "/v1/events", "/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_public_side_has_nothing_else(path: str, method: str) -> None:
    control = FakeControl()
    reply = await answer_public(AdminRequest(method=method, path=path), control)
    assert reply.status == 404
    assert control.stopped is None


async def test_the_public_side_is_read_only() -> None:
    reply = await answer_public(AdminRequest(method="POST", path="/livez"), FakeControl())
    assert (reply.status, reply.allow) == (405, ("GET", "HEAD"))


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "10.0.0.5:8081"}, 200),
        ({"host": "balancer:8081"}, 200),
        ({"host": "lb.example.com"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8081"}, 421),
        ({"host": "127.0.0.1:8081", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:8081", "origin": "null"}, 403),
    ],
)
async def test_a_web_page_is_told_nothing_by_the_public_side(
    path: str, headers: dict[str, str], status: int
) -> None:
    """Neither by a name of its own that leads here, nor from another origin."""
    request = AdminRequest(method="GET", path=path, headers=headers)
    reply = await answer_public(request, FakeControl(), "lb.example.com")
    assert reply.status == status
    if status != 200:
        assert set(said(reply)) == {"error"}


async def test_strangers_who_ask_all_the_time_have_the_figures_written_now_and_then(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = FakeControl()
    written: list[bytes] = []

    def metrics() -> bytes:
        written.append(b"figures %d" % len(written))
        return written[-1]

    monkeypatch.setattr(control, "metrics", metrics)
    public = PublicSide(control, tuple)
    request = AdminRequest(method="GET", path="/metrics")
    bodies = set()
    for _ in range(1000):
        bodies.add((await public.answer(request)).body)
        await trio.sleep(FIGURES_S / 100)
    assert len(bodies) == len(written)
    assert 9 <= len(written) <= 11
    await trio.sleep(FIGURES_S)
    assert (await public.answer(request)).body not in bodies
    for _ in range(2):  # an operator is told what is so now
        assert (await answer(request, control)).body not in bodies
    assert len(written) >= 12


async def test_a_refused_name_is_told_the_setting_that_allows_it() -> None:
    request = AdminRequest(method="GET", path="/metrics", headers={"host": "lb.example.com"})
    assert "admin.health_hosts" in str(said(await answer_public(request, FakeControl()))["error"])


@pytest.mark.parametrize("segment", ["%ff", "%", "%zz", "a%f", "%ed%a0%80"])
async def test_a_path_that_can_be_read_two_ways_is_refused(segment: str) -> None:
    for path in (f"/v1/pools/{segment}/backends", f"/v1/pools/web/backends/{segment}/drain"):
        reply = await ask(FakeControl(), "POST", path)
        assert reply.status == 400
        assert "not percent-encoded UTF-8" in str(said(reply)["error"])


async def test_a_refusal_never_quotes_more_than_a_line() -> None:
    long = "x" * 60_000
    for target, body in [
        (f"/v1/{long}", None),
        (f"/v1/status?pool={long}", None),
        (f"/v1/status?{long}", None),
        (f"/v1/pools/{long}/backends", {"address": "a:1"}),
        ("/v1/pools/web/backends", {long: 1}),
        ("/v1/pools/web/backends", {"address": [long]}),
        ("/v1/pools/web/backends", {"address": "a:1", "weight": 10**4000}),
    ]:
        reply = await ask(FakeControl(), "POST" if body else "GET", target, body)
        assert 400 <= reply.status < 500
        assert len(reply.body) < 1000


# ---- the published document


async def test_the_document_has_every_operation_and_says_what_it_takes() -> None:
    reply = await ask(FakeControl(), "GET", "/v1/openapi.json")
    document = said(reply)
    assert (reply.status, document["openapi"]) == (200, "3.1.0")
    paths = document["paths"]
    assert isinstance(paths, dict)
    assert set(paths) == {*PATHS, "/livez", "/readyz", "/metrics"}
    for path, methods in OPERATIONS.items():
        for method, operation in methods.items():
            described = paths[path][method.lower()]
            places = {each["name"] for each in described["parameters"] if each["in"] == "path"}
            assert places == {name for name in ("pool", "address") if f"{{{name}}}" in path}
            query = {each["name"] for each in described["parameters"] if each["in"] == "query"}
            assert query == set(operation.query)
            assert ("requestBody" in described) == bool(operation.body)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_the_document_is_read_only(method: str) -> None:
    assert (await ask(FakeControl(), method, "/v1/openapi.json")).status == 405
