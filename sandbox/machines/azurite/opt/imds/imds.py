"""Stands for Azure's instance metadata service, which gives a virtual machine the tokens of its managed identity.

It knows one identity, and answers a request for another one as Azure does. Its tokens have the form that Azurite's basic check
wants; nothing signs them, and Azurite asks for no role.
"""

import base64
import json
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ADDRESS = "169.254.169.254"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
PRINCIPAL_ID = "11111111-1111-1111-1111-111111111111"
TENANT_ID = "33333333-3333-3333-3333-333333333333"
PATH = "/metadata/identity/oauth2/token"
SECONDS = 3600


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def token(resource: str, now: int) -> str:
    claims: "dict[str, object]" = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{TENANT_ID}/",
        "iat": now,
        "nbf": now - 300,
        "exp": now + SECONDS,
        "appid": CLIENT_ID,
        "oid": PRINCIPAL_ID,
        "tid": TENANT_ID,
        "jti": uuid.uuid4().hex,
    }
    parts = (json.dumps({"alg": "RS256", "typ": "JWT"}), json.dumps(claims), "unsigned")
    return ".".join(encoded(part.encode()) for part in parts)


def refused(code: str, description: str) -> "tuple[int, dict[str, object]]":
    return 400, {"error": code, "error_description": description}


def answer(path: str, query: "dict[str, list[str]]", header: "str | None") -> "tuple[int, dict[str, object]]":
    if path != PATH:
        return 404, {"error": "Not found"}
    if header != "true":
        return refused("invalid_request", "Required metadata header not specified")
    if "resource" not in query:
        return refused("invalid_request", "Required query variable 'resource' is missing")
    if query.get("client_id", [CLIENT_ID])[0] != CLIENT_ID:
        return refused("invalid_request", "Identity not found")
    now = int(time.time())
    return 200, {
        "access_token": token(query["resource"][0], now),
        "client_id": CLIENT_ID,
        "expires_in": str(SECONDS),
        "expires_on": str(now + SECONDS),
        "not_before": str(now - 300),
        "resource": query["resource"][0],
        "token_type": "Bearer",
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        status, document = answer(url.path, parse_qs(url.query), self.headers.get("Metadata"))
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer((ADDRESS, 80), Handler).serve_forever()
