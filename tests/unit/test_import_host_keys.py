"""Asking nodes for their host keys: against a real sshd of asyncssh's, on this machine's loopback."""

import asyncio
import socket
from dataclasses import replace

import asyncssh

from importing.host_keys import Place, Way
from operations.host_key_scan import Scanned, scan_all
from settings.access import Hop
from settings.host_keys import preferred_key
from tests.unit.ssh_servers import PASSWORD, USER, serve


async def scan_server(kinds: list[str], progress: list[tuple[int, int]]) -> tuple[list[asyncssh.SSHKey], list[Scanned]]:
    """A server with a key of each kind, scanned together with a port where nobody answers."""
    keys = [asyncssh.generate_private_key(kind) for kind in kinds]
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=keys)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        places = [
            Place(name="up", host="127.0.0.1", port=server.get_port()),
            Place(name="down", host="127.0.0.1", port=free.getsockname()[1]),
            Place(name="nowhere", host="no-such-host.invalid", port=22),
            Place(name="wrong", host="x" * 64 + ".invalid", port=22),
        ]
        found = await scan_all(places, lambda done, total: progress.append((done, total)))
    server.close()
    await server.wait_closed()
    return keys, found


def test_the_key_that_pulumi_command_asks_for_first_is_taken_with_its_fingerprint() -> None:
    progress: list[tuple[int, int]] = []
    keys, (up, down, nowhere, wrong) = asyncio.run(
        scan_server(["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256"], progress)
    )
    assert up.key == preferred_key(keys[2].export_public_key().decode())
    assert up.fingerprint == f"ecdsa-sha2-nistp256 {keys[2].get_fingerprint()}"
    assert down.key is None
    assert "Connect call failed" in down.problem or "refused" in down.problem
    assert nowhere.key is None
    assert nowhere.problem
    assert wrong.key is None
    assert wrong.problem
    assert sorted(progress) == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_node_with_a_single_key_shows_what_it_has() -> None:
    keys, (up, *_) = asyncio.run(scan_server(["ssh-ed25519"], []))
    assert up.key == preferred_key(keys[0].export_public_key().decode())


def test_nodes_behind_a_bastion_are_asked_through_it_once_it_is_known() -> None:
    async def ask() -> None:
        async with serve() as bastion, serve("ssh-rsa") as node:
            behind = Place(name="n1", host="127.0.0.1", port=node.port, way=Way.BASTION)
            other = Place(name="n2", host="127.0.0.1", port=node.port, way=Way.OWN_BASTION)
            hop = Hop(
                place="docker_cache_ssh_bastion",
                host="127.0.0.1",
                port=bastion.port,
                user=USER,
                password=PASSWORD,
                host_key=bastion.public(),
            )
            first, second = await scan_all([behind, other], lambda *_: None, hop)
            assert first.key == node.public()
            assert bastion.forwarded == [("127.0.0.1", node.port)]
            assert second.problem == "it lies behind a bastion of its own: run `ssh-keyscan` there"
            (unknown,) = await scan_all([behind], lambda *_: None, None)
            assert "whose host key the stack does not have yet" in unknown.problem
            (refused,) = await scan_all([behind], lambda *_: None, replace(hop, password="wrong"))
            assert refused.problem.startswith("the bastion admin@127.0.0.1")
            assert len(bastion.forwarded) == 1, "no node was asked otherwise"

    asyncio.run(ask())
