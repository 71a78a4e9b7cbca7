"""Real ssh servers on this machine's loopback, for the tests of whoever connects to one."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncssh

USER, PASSWORD = "admin", "pass word"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server; `forwarded` are the places that it was asked to connect to."""

    port: int
    keys: Sequence[asyncssh.SSHKey]
    forwarded: list[tuple[str, int]] = field(default_factory=list)

    def public(self, number: int = 0) -> str:
        return " ".join(self.keys[number].export_public_key().decode().split()[:2])


class Door(asyncssh.SSHServer):
    """Lets in whoever has the password, runs nothing, and forwards where it may."""

    def __init__(self, forwarded: list[tuple[str, int]], *, forwards: bool) -> None:
        self._forwarded, self._forwards = forwarded, forwards

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        self._forwarded.append((dest_host, dest_port))
        return self._forwards


def echo(process: "asyncssh.SSHServerProcess[str]") -> None:
    """Says the command that it was asked to run."""
    process.stdout.write(f"ran {process.command}")
    process.exit(0)


@contextlib.asynccontextmanager
async def serve(*kinds: str, forwards: bool = True) -> AsyncIterator[Server]:
    """A server with a new key of each kind."""
    keys = [asyncssh.generate_private_key(kind) for kind in kinds or ("ssh-ed25519",)]
    forwarded: list[tuple[str, int]] = []
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=keys,
        server_factory=lambda: Door(forwarded, forwards=forwards),
        process_factory=echo,
    )
    async with acceptor:
        yield Server(port=acceptor.get_port(), keys=keys, forwarded=forwarded)
