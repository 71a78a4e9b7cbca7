"""Asks nodes for their ssh host keys, as ssh-keyscan does: many at once, without signing in."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncssh

from importing.host_keys import Place, Way
from operations.ssh import NodeError, dial
from settings.access import Hop
from settings.host_keys import ALGORITHMS

AT_ONCE = 32
SECONDS = 5
NO_BASTION = (
    "it lies behind docker_cache_ssh_bastion, whose host key the stack does not have yet: import again once it is written and "
    "you have compared it"
)
OWN_BASTION = "it lies behind a bastion of its own: run `ssh-keyscan` there"


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What one node showed; `problem` where it did not answer."""

    place: Place
    key: str | None = None
    fingerprint: str = ""
    problem: str = ""


Progress = Callable[[int, int], None]
"""How many of how many are done."""


def scan(places: Sequence[Place], progress: Progress, bastion: Hop | None = None) -> list[Scanned]:
    """`bastion` is the one of all nodes that are reached through docker_cache_ssh_bastion, once its own key is known."""
    return asyncio.run(scan_all(places, progress, bastion))


async def scan_all(places: Sequence[Place], progress: Progress, bastion: Hop | None = None) -> list[Scanned]:
    async with contextlib.AsyncExitStack() as stack:
        tunnel: asyncssh.SSHClientConnection | str = NO_BASTION
        if bastion and any(place.way is Way.BASTION for place in places):
            try:
                tunnel = await stack.enter_async_context(await dial(bastion, None))
            except NodeError as error:
                tunnel = str(error)
        return await scan_through(places, progress, tunnel)


async def scan_through(
    places: Sequence[Place], progress: Progress, tunnel: asyncssh.SSHClientConnection | str
) -> list[Scanned]:
    """Without a connection to the bastion the nodes behind it have that text as their problem."""
    limit = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def scan_in_turn(place: Place) -> Scanned:
        nonlocal done
        async with limit:
            if place.way is Way.OWN_BASTION:
                scanned = Scanned(place=place, problem=OWN_BASTION)
            elif place.way is Way.DIRECT:
                scanned = await scan_one(place, None)
            elif isinstance(tunnel, str):
                scanned = Scanned(place=place, problem=tunnel)
            else:
                scanned = await scan_one(place, tunnel)
        done += 1
        progress(done, len(places))
        return scanned

    return await asyncio.gather(*(scan_in_turn(place) for place in places))


async def scan_one(place: Place, tunnel: asyncssh.SSHClientConnection | None) -> Scanned:
    try:
        async with asyncio.timeout(SECONDS):
            # Without a configuration: the user's ~/.ssh/config may send it somewhere else.
            key = await asyncssh.get_server_host_key(
                place.host, place.port, tunnel=tunnel, server_host_key_algs=list(ALGORITHMS), config=None
            )
    except (OSError, asyncssh.Error, TimeoutError, ValueError) as error:
        return Scanned(place=place, problem=reason(error))
    if key is None:
        return Scanned(place=place, problem="it shows no host key")
    kind, text = key.export_public_key().decode().split()[:2]
    return Scanned(place=place, key=f"{kind} {text}", fingerprint=f"{kind} {key.get_fingerprint()}")


def reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {SECONDS} seconds"
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return text.strip() or type(error).__name__
