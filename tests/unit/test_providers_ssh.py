"""The command stand-in dials as the plugin does: directly, or through a proxy, with Go's order of host keys."""

import asyncio
import contextlib
import ipaddress

import pytest

from sandbox.providers import ssh
from sandbox.providers.boundary import Boundary
from sandbox.providers.values import Properties
from tests.unit.ssh_servers import PASSWORD, USER, Server, serve
from tests.unit.stacks import HOST_KEY

LOOPBACK = Boundary(networks=(ipaddress.ip_network("127.0.0.0/8"),))


def connection(server: Server, **changes: object) -> Properties:
    known = {"host": "127.0.0.1", "port": server.port, "user": USER, "password": PASSWORD, "hostKey": server.public()}
    return {**known, "dialErrorLimit": 0, **changes}  # type: ignore[dict-item]


async def run(endpoint: Properties, told: list[str] | None = None) -> str:
    said: list[str] = [] if told is None else told
    async with contextlib.AsyncExitStack() as stack:
        dialler = ssh.Dialler(LOOPBACK, said.append, stack)
        reached = await dialler.connect(ssh.Endpoint.from_connection(endpoint))
        return (await ssh.run(reached, ssh.Command("uptime"), said.append, said.append)).stdout


def test_a_machine_behind_a_proxy_is_reached_through_it() -> None:
    async def both() -> None:
        async with serve() as bastion, serve() as node:
            assert await run(connection(node, proxy=connection(bastion))) == "ran uptime"
            assert bastion.forwarded == [("127.0.0.1", node.port)]

    asyncio.run(both())


def test_a_proxys_failure_is_told_as_the_proxys() -> None:
    async def wrong_key() -> None:
        async with serve() as bastion, serve() as node:
            proxy = connection(bastion, hostKey=HOST_KEY)
            with pytest.raises(
                ssh.SshError, match=rf'^proxy: failed to dial "127.0.0.1:{bastion.port}".*host key mismatch$'
            ):
                await run(connection(node, proxy=proxy))
        async with serve(forwards=False) as bastion, serve() as node:
            with pytest.raises(ssh.SshError, match=r"^proxy: failed to dial .* ssh: rejected: "):
                await run(connection(node, proxy=connection(bastion)))

    asyncio.run(wrong_key())


@pytest.mark.parametrize(("limit", "reason"), [(0, "ssh: host key mismatch"), (2, "ssh: handshake failed: EOF")])
def test_a_second_handshake_through_a_proxy_hides_why_the_first_failed(limit: int, reason: str) -> None:
    async def wrong_key() -> list[str]:
        told: list[str] = []
        async with serve() as bastion, serve() as node:
            given = connection(node, hostKey=HOST_KEY, dialErrorLimit=limit, proxy=connection(bastion))
            with pytest.raises(ssh.SshError, match=f"{reason}$"):
                await run(given, told)
            assert len(bastion.forwarded) == 1, "the plugin opens the channel once"
        return told

    assert len(asyncio.run(wrong_key())) == limit


def test_of_a_servers_host_keys_only_the_first_in_gos_order_is_shown() -> None:
    async def every_key() -> None:
        async with serve("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256") as node:
            assert await run(connection(node, hostKey=node.public(2))) == "ran uptime"
            for number in (0, 1):
                with pytest.raises(ssh.SshError, match="host key mismatch"):
                    await run(connection(node, hostKey=node.public(number)))

    asyncio.run(every_key())
