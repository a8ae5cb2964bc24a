"""A reverse proxy as one writes it by hand with aiohttp on uvloop: the comparison, not the product.

    python bench_asyncio_proxy.py PORT BACKENDS_FILE ACCESS_LOG

It takes the backends in turn, keeps connections, passes bodies on as they come, sets the forwarding
fields and writes an access line for each request. It does not retry, probe or judge.
"""

import asyncio
import itertools
import sys
import time
import uuid
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
SMALL_BYTES = 65536


def end_to_end(fields: "aiohttp.typedefs.LooseHeaders") -> CIMultiDict[str]:
    kept = CIMultiDict(fields)
    for name in HOP_BY_HOP:
        kept.popall(name, None)
    return kept


async def serve(port: int, backends: list[str], access_log: Path) -> None:
    turn = itertools.cycle([f"http://{address}" for address in backends])
    log = access_log.open("a", buffering=SMALL_BYTES)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=120),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=1, sock_read=60),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        start = time.perf_counter()
        fields = end_to_end(request.headers)
        fields["X-Forwarded-For"] = fields["X-Real-IP"] = request.remote or ""
        fields["X-Forwarded-Proto"] = "http"
        fields["X-Request-ID"] = uuid.uuid4().hex
        url = URL(next(turn) + request.raw_path, encoded=True)
        body = request.content if request.body_exists else None
        async with session.request(
            request.method, url, headers=fields, data=body, allow_redirects=False
        ) as answer:
            answer_fields = end_to_end(answer.headers)
            response: web.StreamResponse
            if (answer.content_length or SMALL_BYTES) < SMALL_BYTES:
                response = web.Response(
                    status=answer.status, headers=answer_fields, body=await answer.read()
                )
            else:
                response = web.StreamResponse(status=answer.status, headers=answer_fields)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
        took_ms = (time.perf_counter() - start) * 1e3
        log.write(
            f'{request.remote} {time.time():.3f} "{request.method} {request.raw_path}" '
            f"{response.status} {response.body_length} {url.authority} {took_ms:.3f}\n"
        )
        return response

    runner = web.ServerRunner(web.Server(forward, access_log=None, keepalive_timeout=600))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text(encoding="ascii").split()
    uvloop.run(serve(int(sys.argv[1]), lines, Path(sys.argv[3])))
