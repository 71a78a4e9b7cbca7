"""Stands for a public registry, which the sandbox cannot reach: for Docker Hub, quay.io and others, each by a process of its own.

What it serves lies in one real registry, each one's repositories below a prefix. `--limit` gives it Hub's own rule for anonymous
users: 100 manifest GETs per client address (HEADs are free); past it 429 with `toomanyrequests`, and `ratelimit-*` headers on
every manifest answer. With `--credentials` (a file: `user:password`) it asks for a token, which `/token` gives that user alone.
The control port, on 127.0.0.1, tells and resets the counters, and `/rate/N` lets each layer come by N bytes a second (0: as
fast as it can).
"""

import argparse
import asyncio
import base64
import collections
import pathlib
import re
import secrets
import ssl

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

LIMIT = 100
WINDOW_SECONDS = 6 * 3600
REGISTRY = "http://127.0.0.1:5001"
TOKEN = secrets.token_urlsafe()
CONTENT = re.compile(r"^/v2/.+/(?P<kind>manifests|blobs)/[^/]+$")
COUNTERS = ("manifest_gets", "manifest_heads", "blob_gets", "blob_bytes", "rejected")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}

options = argparse.Namespace()
counters: "collections.Counter[str]" = collections.Counter()
spent: "collections.Counter[str]" = collections.Counter()
pace = {"bytes_per_second": 0}
CHUNK = 1 << 18


def rate_limit_headers(address: str) -> "dict[str, str]":
    left = max(0, LIMIT - spent[address])
    return {"ratelimit-limit": f"{LIMIT};w={WINDOW_SECONDS}", "ratelimit-remaining": f"{left};w={WINDOW_SECONDS}"}


def admit(request: web.Request, kind: "str | None") -> "web.Response | None":
    """Count the request; an answer means that it is refused."""
    if options.credentials and request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return challenge(request)
    address = request.remote or ""
    if kind == "blobs" and request.method == "GET":
        counters["blob_gets"] += 1
    if kind != "manifests":
        return None
    if request.method == "HEAD":
        counters["manifest_heads"] += 1
        return None
    if options.limit and spent[address] >= LIMIT:
        counters["rejected"] += 1
        message = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading."
        body = {"errors": [{"code": "TOOMANYREQUESTS", "message": f"toomanyrequests: {message}"}]}
        return web.json_response(body, status=429, headers=rate_limit_headers(address))
    spent[address] += 1
    counters["manifest_gets"] += 1
    return None


def challenge(request: web.Request) -> web.Response:
    realm = f'Bearer realm="https://{request.host}/token",service="{request.host}"'
    body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
    return web.json_response(body, status=401, headers={"WWW-Authenticate": realm})


def basic_authorization() -> str:
    known = pathlib.Path(options.credentials).read_bytes() if options.credentials else b""
    return f"Basic {base64.b64encode(known).decode()}"


async def token(request: web.Request) -> web.Response:
    if request.headers.get("Authorization") != basic_authorization():
        counters["rejected"] += 1
        return web.json_response({"details": "incorrect username or password"}, status=401)
    return web.json_response({"token": TOKEN, "expires_in": 300})


def stored_path(path: str) -> str:
    """Where the registry behind has it; `/v2/` itself has no repository."""
    return f"/v2/{options.prefix}/{path[4:]}" if options.prefix and path.startswith("/v2/") and path[4:] else path


async def forward(request: web.Request) -> web.StreamResponse:
    match = CONTENT.match(request.path)
    kind = match["kind"] if match else None
    refused = admit(request, kind)
    if refused is not None:
        return refused
    # The token is for this front. What is accepted comes in many headers of one name.
    kept = [pair for pair in request.headers.items() if pair[0].lower() not in HOP_BY_HOP | {"authorization"}]
    session: aiohttp.ClientSession = request.app["session"]
    async with session.request(
        request.method, REGISTRY + stored_path(request.path_qs), headers=CIMultiDict(kept), allow_redirects=False
    ) as source:
        answer = web.StreamResponse(status=source.status)
        for name, value in source.headers.items():
            if name.lower() not in HOP_BY_HOP:
                answer.headers.add(name, value)
        if kind == "manifests" and options.limit:
            answer.headers.update(rate_limit_headers(request.remote or ""))
        await answer.prepare(request)
        async for chunk in source.content.iter_chunked(CHUNK):
            await answer.write(chunk)
            if kind == "blobs":
                counters["blob_bytes"] += len(chunk)
                if pace["bytes_per_second"]:
                    await asyncio.sleep(len(chunk) / pace["bytes_per_second"])
        await answer.write_eof()
        return answer


async def stats(_: web.Request) -> web.Response:
    return web.json_response({name: counters[name] for name in COUNTERS})


async def rate(request: web.Request) -> web.Response:
    pace["bytes_per_second"] = int(request.match_info["bytes"])
    return web.Response(status=204)


async def reset(_: web.Request) -> web.Response:
    counters.clear()
    spent.clear()
    return web.Response(status=204)


async def serve() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/etc/hub/hub.crt", "/etc/hub/hub.key")
    hub = web.Application(client_max_size=1 << 30)
    hub.router.add_get("/token", token)
    hub.router.add_route("*", "/{path:.*}", forward)
    control = web.Application()
    control.router.add_get("/stats", stats)
    control.router.add_post("/reset", reset)
    control.router.add_post("/rate/{bytes}", rate)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        hub["session"] = session
        for app, host, port, tls in (
            (hub, options.address, options.port, context),
            (control, "127.0.0.1", options.control, None),
        ):
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A public registry's face.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--limit", action="store_true")
    parser.add_argument("--credentials")
    parser.parse_args(namespace=options)
    asyncio.run(serve())


if __name__ == "__main__":
    main()
