"""The front's configuration (Varnish 7.3 or later), as files of one ConfigMap."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from rendering import registry
from settings.upstreams import folder
from settings.values import size_in_bytes

IN_POD = Path(__file__).resolve().parent.parent / "in_pod"

PORT = 8080
PROXIED_PORT = 8081
"""For what ends TLS in the same pod: by it the client's address comes along (PROXY protocol)."""
ENTRY_PORT = 8082
"""For clients from outside, where nothing ends TLS; the first one is for the cluster's own pods."""
PORTS = (PORT, PROXIED_PORT, ENTRY_PORT)
CREDENTIALS_PORT = 5005
HEALTH_PATH = "/healthz"
WORK = "/var/lib/varnish"
INSTANCE = f"{WORK}/front"
"""Where varnishd and its tools find each other; `front.sh` and the other scripts know it as their work folder's."""
HOT = "/var/lib/docker-cache-hot"
DRAINING_FILE = f"{WORK}/draining"
DRAINED = "drained"
"""What `drain.sh` leaves behind, in the work folder."""

START_SCRIPT, LOG_SCRIPT, DRAIN_SCRIPT = "front.sh", "log.sh", "drain.sh"
VCL, CREDENTIALS = "front.vcl", "credentials.yml"
"""`credentials.yml` is that of a registry that has no images: it knows valid credentials from others."""

OLDER_SECONDS = 30
"""How long a tag that could not be asked for is served from the older one until it is tried again."""
SHARE_OF_A_LAYER = 8
"""A layer of more than this part of the hot store is not kept there: what is being fetched can't make room for itself."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """What the front's configuration depends on; `backends` are the addresses of the registries by their upstreams' hosts."""

    backends: Mapping[str, str]
    hot_size: str
    tag_seconds: int
    has_htpasswd: bool
    allowed_cidrs: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Backend:
    name: str
    host: str
    address: str

    @property
    def in_path(self) -> str:
        return folder(self.host)


def files(front: Front) -> dict[str, str]:
    scripts = {name: (IN_POD / name).read_text(encoding="utf-8") for name in (START_SCRIPT, LOG_SCRIPT, DRAIN_SCRIPT)}
    credentials = {CREDENTIALS: registry.render(authenticator())} if front.has_htpasswd else {}
    return {VCL: vcl(front), **scripts, **credentials}


def vcl(front: Front) -> str:
    """Varnish's own language, from `in_pod/front.vcl.j2`."""
    # What is written is no HTML, and every value is checked before it comes here.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(IN_POD),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    known = backends(front.backends)
    return environment.get_template(f"{VCL}.j2").render(
        backends=known,
        plain_names="".join(f"|{backend.in_path}" for backend in known if "." not in backend.host),
        allowed_networks=[ipaddress.ip_network(cidr) for cidr in front.allowed_cidrs],
        registry_port=registry.PORT,
        asks_for_credentials=front.has_htpasswd,
        credentials_port=CREDENTIALS_PORT,
        realm=registry.REALM,
        stored_header=registry.STORED_HEADER,
        health_path=HEALTH_PATH,
        inside_port=PORT,
        draining_file=DRAINING_FILE,
        port=PORT,
        older_seconds=OLDER_SECONDS,
        tag_seconds=front.tag_seconds,
        largest_bytes=size_in_bytes(front.hot_size) // SHARE_OF_A_LAYER,
    )


def backends(addresses: Mapping[str, str]) -> list[Backend]:
    return [
        Backend(name="upstream_" + re.sub("[^a-z0-9]", "_", host), host=host, address=address)
        for host, address in addresses.items()
    ]


def authenticator() -> dict[str, object]:
    """Reached from the pod alone, and asked for `/v2/` alone."""
    path = f"{registry.HTPASSWD_FOLDER}/{registry.HTPASSWD_FILE}"
    return {
        "version": 0.1,
        "log": {"level": "warn", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"inmemory": {}, "maintenance": {"readonly": {"enabled": True}}},
        "http": {"addr": f"127.0.0.1:{CREDENTIALS_PORT}"},
        "auth": {"htpasswd": {"realm": registry.REALM, "path": path}},
    }
