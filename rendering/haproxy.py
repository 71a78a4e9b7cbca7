"""The configuration of what ends TLS before the cache's front (HAProxy 3), as files of one ConfigMap."""

from pathlib import Path

IN_POD = Path(__file__).resolve().parent.parent / "in_pod"

PORT = 8443
CERTIFICATES = "/etc/docker-cache-tls"
"""The folder with tls.crt and tls.key, as a Secret of type kubernetes.io/tls names them."""
CONFIGURATION_FILE = "haproxy.cfg"
SCRIPT = "tls.sh"


def files(front_port: int) -> dict[str, str]:
    return {
        CONFIGURATION_FILE: configuration(front_port),
        SCRIPT: (IN_POD / SCRIPT).read_text(encoding="utf-8"),
    }


def configuration(front_port: int) -> str:
    """It looks into no request: what it takes goes to the front as it is, with the client's address before it.

    Memory is reserved for as many files as may be open, which without the limit is a million on many machines. A pull may stand
    still for as long as the front waits for an upstream; `hard-stop-after` ends what a reload has left behind, when nothing else
    does.
    """
    return f"""\
global
    log stdout format raw local0 info
    fd-hard-limit 20000
    hard-stop-after 2h
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    # tls.key beside tls.crt, not tls.crt.key
    ssl-load-extra-del-ext

defaults
    mode tcp
    log global
    option tcplog
    # Of connections that go well, the front's access log tells.
    option dontlog-normal
    option dontlognull
    timeout connect 5s
    timeout client-hs 10s
    timeout client 15m
    timeout server 15m

frontend entry
    bind :{PORT} ssl crt {CERTIFICATES}/tls.crt alpn http/1.1
    default_backend front

backend front
    server front 127.0.0.1:{front_port} send-proxy-v2
"""
