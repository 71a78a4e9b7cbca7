"""What make runs on nodes goes the same way as the program: bastion, host keys, keys with a passphrase."""

import asyncio
from dataclasses import replace

import asyncssh
import pytest

from operations.ssh import NodeError, connect
from settings.access import Access, Hop
from settings.host_keys import fingerprint
from tests.unit.ssh_servers import PASSWORD, USER, Server, serve
from tests.unit.stacks import HOST_KEY


def access(server: Server, **changes: object) -> Access:
    known = Access(
        name="w1",
        host="127.0.0.1",
        port=server.port,
        user=USER,
        password=PASSWORD,
        host_key=server.public(),
        sudo=False,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def hop(server: Server, **changes: object) -> Hop:
    known = Hop(
        place="docker_cache_ssh_bastion",
        host="127.0.0.1",
        port=server.port,
        user=USER,
        password=PASSWORD,
        host_key=server.public(),
    )
    return replace(known, **changes)  # type: ignore[arg-type]


async def run_on(node: Access) -> str:
    async with connect(node) as shell:
        return await shell.run("docker", "info", seconds=5)


def test_a_node_behind_a_bastion_is_reached_through_it() -> None:
    async def run() -> None:
        async with serve() as bastion, serve() as node:
            assert await run_on(access(node, bastion=hop(bastion))) == "ran docker info"
            assert bastion.forwarded == [("127.0.0.1", node.port)]
            await run_on(access(node))
            assert len(bastion.forwarded) == 1, "a node without a bastion is reached directly"

    asyncio.run(run())


def test_a_bastion_that_fails_is_named_as_the_bastion() -> None:
    async def run() -> None:
        async with serve() as bastion, serve() as node:
            with pytest.raises(NodeError, match=r"^the bastion admin@127\.0\.0\.1:\d+ can't be reached: "):
                await run_on(access(node, bastion=hop(bastion, password="wrong")))
            with pytest.raises(NodeError, match=r"set docker_cache_ssh_bastion\.host_key"):
                await run_on(access(node, bastion=hop(bastion, host_key=HOST_KEY)))
        async with serve(forwards=False) as bastion, serve() as node:
            with pytest.raises(NodeError, match=r"^admin@127\.0\.0\.1:\d+ can't be reached: "):
                await run_on(access(node, bastion=hop(bastion)))

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
@pytest.mark.parametrize("has_bastion", [False, True])
def test_another_host_key_is_told_with_both_fingerprints_and_the_remedy(kind: str, has_bastion: bool) -> None:
    async def run() -> tuple[str, str]:
        async with serve() as bastion, serve(kind) as node:
            with pytest.raises(NodeError) as caught:
                await run_on(access(node, host_key=HOST_KEY, bastion=hop(bastion) if has_bastion else None))
            return str(caught.value), fingerprint(node.public())

    message, shown = asyncio.run(run())
    assert f"shows the host key {shown}, where {fingerprint(HOST_KEY)} is expected" in message
    assert "set docker_cache_nodes[w1].host_key" in message


def test_of_a_servers_keys_the_expected_kind_is_asked_for() -> None:
    async def run() -> None:
        async with serve("ecdsa-sha2-nistp256", "ssh-rsa", "ssh-ed25519") as node:
            for number in range(3):
                assert await run_on(access(node, host_key=node.public(number))) == "ran docker info"

    asyncio.run(run())


def test_a_key_with_a_passphrase_signs_in() -> None:
    async def run() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        allowed = asyncssh.import_authorized_keys(key.export_public_key().decode())
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=allowed,
            process_factory=lambda process: process.exit(0),
        )
        async with server:
            locked = key.export_private_key(passphrase="open").decode()
            node = Access(
                name="w1",
                host="127.0.0.1",
                port=server.get_port(),
                user=USER,
                host_key=None,
                private_key=locked,
                passphrase="open",
                sudo=False,
            )
            await run_on(node)

    asyncio.run(run())
