"""The networks the stand-ins may reach: a sandbox's own, and nothing else.

The stand-ins imitate plugins that people point at real clusters and machines. They are never to do so themselves.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VARIABLE = "SANDBOX_NETWORKS"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str], list[str]]


class OutsideSandboxError(Exception):
    """A host was named that no network of the sandbox holds."""


def resolve(host: str) -> list[str]:
    """Give every address the host name stands for (an address stands for itself)."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OutsideSandboxError(_refusal(host, f"the name does not resolve ({error.strerror})")) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Boundary:
    """The sandbox's networks, and how names are turned into addresses."""

    networks: tuple[Network, ...]
    resolver: Resolver = resolve

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, resolver: Resolver = resolve) -> Boundary:
        """Read the comma separated networks; unset means that nothing may be reached."""
        names = [name.strip() for name in environment.get(VARIABLE, "").split(",")]
        try:
            networks = tuple(ipaddress.ip_network(name) for name in names if name)
        except ValueError as error:
            message = f"{VARIABLE} holds something that is no network: {error}"
            raise OutsideSandboxError(message) from error
        return cls(networks, resolver)

    def admit(self, host: str) -> str:
        """Give the address to dial for the host, or refuse: every address it resolves to must lie inside."""
        if not self.networks:
            raise OutsideSandboxError(_refusal(host, f"{VARIABLE} names no network"))
        addresses = self.resolver(host)
        outside = [address for address in addresses if not self._holds(address)]
        if outside or not addresses:
            allowed = ", ".join(map(str, self.networks))
            raise OutsideSandboxError(_refusal(host, f"{', '.join(outside) or 'no address'} is not inside {allowed}"))
        return addresses[0]

    def _holds(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        return any(parsed in network for network in self.networks)


def _refusal(host: str, reason: str) -> str:
    return f'refusing to reach "{host}": these stand-ins only serve the sandbox, and {reason}'
