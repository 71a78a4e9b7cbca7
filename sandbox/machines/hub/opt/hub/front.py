"""Stands for Docker Hub, which the sandbox cannot reach: a front with Hub's rate limit before a real registry.

The rule is Hub's own for anonymous users: 100 manifest GETs per client address (HEADs are free); past it 429 with
`toomanyrequests`, and `ratelimit-*` headers on every manifest answer. Port 443 is Hub's face; 127.0.0.1:9000 tells and
resets the counters.
"""

import asyncio
import collections
import re
import ssl

import aiohttp
from aiohttp import web

LIMIT = 100
WINDOW_SECONDS = 6 * 3600
REGISTRY = "http://127.0.0.1:5001"
CONTENT = re.compile(r"^/v2/.+/(?P<kind>manifests|blobs)/[^/]+$")
COUNTERS = ("manifest_gets", "manifest_heads", "blob_gets", "blob_bytes", "rejected")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}

counters: "collections.Counter[str]" = collections.Counter()
spent: "collections.Counter[str]" = collections.Counter()


def rate_limit_headers(address: str) -> "dict[str, str]":
    left = max(0, LIMIT - spent[address])
    return {"ratelimit-limit": f"{LIMIT};w={WINDOW_SECONDS}", "ratelimit-remaining": f"{left};w={WINDOW_SECONDS}"}


def admit(request: web.Request, kind: "str | None") -> "web.Response | None":
    """Count the request; an answer means that it is refused."""
    address = request.remote or ""
    if kind == "blobs" and request.method == "GET":
        counters["blob_gets"] += 1
    if kind != "manifests":
        return None
    if request.method == "HEAD":
        counters["manifest_heads"] += 1
        return None
    if spent[address] >= LIMIT:
        counters["rejected"] += 1
        message = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading."
        body = {"errors": [{"code": "TOOMANYREQUESTS", "message": f"toomanyrequests: {message}"}]}
        return web.json_response(body, status=429, headers=rate_limit_headers(address))
    spent[address] += 1
    counters["manifest_gets"] += 1
    return None


async def forward(request: web.Request) -> web.StreamResponse:
    match = CONTENT.match(request.path)
    kind = match["kind"] if match else None
    refused = admit(request, kind)
    if refused is not None:
        return refused
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    session: aiohttp.ClientSession = request.app["session"]
    async with session.request(
        request.method, REGISTRY + request.path_qs, headers=headers, allow_redirects=False
    ) as source:
        answer = web.StreamResponse(status=source.status)
        for name, value in source.headers.items():
            if name.lower() not in HOP_BY_HOP:
                answer.headers.add(name, value)
        if kind == "manifests":
            answer.headers.update(rate_limit_headers(request.remote or ""))
        await answer.prepare(request)
        async for chunk in source.content.iter_chunked(1 << 20):
            await answer.write(chunk)
            if kind == "blobs":
                counters["blob_bytes"] += len(chunk)
        await answer.write_eof()
        return answer


async def stats(_: web.Request) -> web.Response:
    return web.json_response({name: counters[name] for name in COUNTERS})


async def reset(_: web.Request) -> web.Response:
    counters.clear()
    spent.clear()
    return web.Response(status=204)


async def serve() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/etc/hub/hub.crt", "/etc/hub/hub.key")
    hub = web.Application(client_max_size=1 << 30)
    hub.router.add_route("*", "/{path:.*}", forward)
    control = web.Application()
    control.router.add_get("/stats", stats)
    control.router.add_post("/reset", reset)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        hub["session"] = session
        for app, host, port, tls in ((hub, "0.0.0.0", 443, context), (control, "127.0.0.1", 9000, None)):
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
