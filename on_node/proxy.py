"""Whether an engine would ask the mirror through a proxy, going by Go's rules (golang.org/x/net/http/httpproxy)."""

import ipaddress
import re
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from on_node.address import Entry

Proxies = NamedTuple("Proxies", [("http", str), ("https", str), ("exceptions", str)])
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
PORTS = {"http": 80, "https": 443}


def proxies_of(environment: Mapping[str, str]) -> Proxies:
    """Those that a program with this environment uses."""

    def first(name: str) -> str:
        return environment.get(name.upper()) or environment.get(name) or ""

    return Proxies(first("http_proxy"), first("https_proxy"), first("no_proxy"))


def proxy_problems(entries: Sequence[Entry], proxies: Proxies, engine: str) -> List[str]:
    """The problem of each entry that would be asked through the engine's proxy."""
    return [problem for entry in entries for problem in proxy_problem(entry, proxies, engine)]


def proxy_problem(entry: Entry, proxies: Proxies, engine: str) -> List[str]:
    """The problem of an entry that would be asked through the engine's proxy: nothing, or one."""
    parts = urlsplit(entry.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    proxy = proxies.https if parts.scheme == "https" else proxies.http
    if not proxy or is_excepted(host, port, proxies.exceptions):
        return []
    return [
        "{0} would ask the mirror through its proxy, since {1} is not in its NO_PROXY; add {1} to NO_PROXY where {0}'s proxy "
        "is set (`systemctl cat {0}`, or its own file) and restart {0} when it suits".format(engine, host)
    ]


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether Go asks this host without a proxy; its name is in lower case."""
    address = as_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    words = [word.strip().lower() for word in exceptions.split(",")]
    return "*" in words or any(matches(word, host, port, address) for word in words if word)


def matches(word: str, host: str, port: int, address: Optional[Address]) -> bool:
    """Whether one word of NO_PROXY speaks of the host."""
    if "/" in word:
        return address is not None and is_in_network(address, word)
    name, given_port = split_port(word)
    if given_port not in ("", str(port)) or not name:
        return False
    if address is not None:
        return as_address(name) == address
    name = name[1:] if name.startswith("*.") else name
    return host == name or host.endswith(name if name.startswith(".") else "." + name)


def is_in_network(address: Address, network: str) -> bool:
    """Whether an address is in a network as Go takes one: with the length of its prefix, not with a mask."""
    try:
        return network.rpartition("/")[2].isdigit() and address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def split_port(word: str) -> Tuple[str, str]:
    """A host and its port; only with a port has an address of IPv6 brackets."""
    found = re.match(r"(?:\[(.*)\]|([^:]*)):([^:]*)$", word)
    return (found.group(1) or found.group(2) or "", found.group(3)) if found else (word, "")


def as_address(text: str) -> Optional[Address]:
    """None where it is a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
