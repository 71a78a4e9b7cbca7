"""The mirror's address, and whether it answers this node."""

import contextlib
import glob
import http.client
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from typing import List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from on_node.errors import Trouble
from on_node.places import Places

CERTIFICATE_FILE = "docker-cache.crt"
HUB = "docker.io"
Entry = NamedTuple(
    "Entry",
    [
        ("url", str),
        ("hostport", str),
        ("insecure", bool),
        ("verified", bool),
        ("certificate", Optional[str]),
        ("authorization", Optional[str]),
    ],
)

Mirror = NamedTuple("Mirror", [("entries", List[Entry]), ("upstreams", List[str])])
"""The entries of one cache, which engines try in turn, and the registries whose images it has: Docker Hub, and perhaps others."""


def parse_mirror(entry: Entry, also: Optional[str], upstreams: Optional[str]) -> Mirror:
    """A cache with further hosts, at which everything else is the same, and further registries; both with commas between."""
    scheme, tail = entry.url.partition("://")[0], re.sub(r"^.*?(?=(:\d+)?$)", "", entry.hostport)
    others = ["{}://{}{}".format(scheme, host, tail) for host in (also.split(",") if also else [])]
    entries = [entry] + [
        parse_entry(url, entry.certificate, entry.authorization, insecure=not entry.verified) for url in others
    ]
    return Mirror(entries, [HUB] + (upstreams.split(",") if upstreams else []))


def parse_entry(
    text: str, certificate: Optional[str] = None, authorization: Optional[str] = None, *, insecure: bool = False
) -> Entry:
    """The mirror's address in docker's terms, how its certificate is verified, and the header that it asks for."""
    shape = "the mirror's address must look like http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Trouble(shape) from None
    if parts.username is not None or parts.password is not None:
        raise Trouble("the mirror's address holds a user name: docker refuses such mirrors; take it out")
    clean = parts.path in ("", "/") and not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not clean or re.search(r"\s", text):
        raise Trouble("{}, got {!r}".format(shape, text))
    host = "[{}]".format(parts.hostname) if ":" in parts.hostname else parts.hostname
    hostport = host if port is None else "{}:{}".format(host, port)
    plain = parts.scheme == "http"
    return Entry(
        "{}://{}".format(parts.scheme, hostport), hostport, plain or insecure, not insecure, certificate, authorization
    )


def check_cache(places: Places, mirror: Mirror) -> List[str]:
    """Why the mirror can't be used from this node: nothing where one of its entries answers, else the problem of each."""
    found = []  # type: List[str]
    for entry in mirror.entries:
        problems = check_entry(places, entry)
        if not problems:
            return []
        found += problems
    return found


def check_entry(places: Places, entry: Entry) -> List[str]:
    """Why an entry can't be used from this node: nothing, or one problem."""
    url, deadline = entry.url + "/v2/", time.monotonic() + 10
    while True:
        reason, final = probe(url, os.path.join(places.certificates, entry.hostport), entry)
        if reason is None:
            return []
        if final or time.monotonic() > deadline:
            return [
                "the mirror does not answer this node at {}: {}; mend that first, the engines are as they were".format(
                    url, reason
                )
            ]
        time.sleep(2)


def probe(url: str, folder: str, entry: Entry) -> Tuple[Optional[str], bool]:
    """One try: None or the reason why not, and whether another try is pointless."""
    try:
        opener = opener_for(folder, entry)
        opener.addheaders += [("Authorization", entry.authorization)] if entry.authorization else []
        with contextlib.closing(opener.open(url, timeout=10)) as answer:
            status, headers = answer.getcode(), answer.headers
    except urllib.error.HTTPError as error:
        status, headers = error.code, error.headers
    # Until Python 3.7 a certificate for another host is a ValueError.
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, (ssl.SSLError, ssl.CertificateError)):
            return (
                "its certificate can't be verified ({}); give its CA as docker_cache_entry_ca".format(
                    getattr(cause, "reason", None) or "TLS error"
                )
            ), True
        return ("no answer in 10 s" if isinstance(cause, socket.timeout) else str(cause) or type(cause).__name__), False
    if status == 401 and entry.authorization:
        return "it refuses docker_cache_entry_username with its password", True
    if status not in (200, 401):
        return "HTTP status {}".format(status), status < 500
    if headers.get("Docker-Distribution-Api-Version", "").strip().lower() != "registry/2.0":
        return "HTTP status {}, but what answers is no registry".format(status), True
    return None, True


def opener_for(folder: str, entry: Entry) -> urllib.request.OpenerDirector:
    """What asks the mirror as docker does: by no proxy, and verifying it with the certificates in its folder. Raises OSError."""
    trust = ssl.create_default_context(cadata=entry.certificate)
    trust.load_default_certs()
    # As docker verifies: what is given is a root even if another signed it (X509_V_FLAG_PARTIAL_CHAIN), and need not be as
    # strict as Python 3.13 wants it.
    trust.verify_flags = trust.verify_flags & ~ssl.VERIFY_X509_STRICT | 0x80000
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.crt"))):
        # Ours counts as it will be, not as it is there now; docker skips what is no certificate.
        if os.path.basename(path) != CERTIFICATE_FILE:
            with contextlib.suppress(ssl.SSLError):
                trust.load_verify_locations(path)
    if not entry.verified:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    return urllib.request.build_opener(*handlers)


def fetch(places: Places, entry: Entry, path: str, types: Sequence[str]) -> Tuple[int, bytes]:
    """What the mirror answers to one that has no credentials: status and body; status 0 where it answers nothing."""
    try:
        opener = opener_for(os.path.join(places.certificates, entry.hostport), entry)
        opener.addheaders += [("Accept", ", ".join(types))]
        with contextlib.closing(opener.open(entry.url + path, timeout=30)) as answer:
            return answer.getcode(), answer.read(1 << 22)
    except urllib.error.HTTPError as error:
        return error.code, b""
    except (OSError, ValueError, http.client.HTTPException):
        return 0, b""
