"""Asks nodes for their ssh host keys, as ssh-keyscan does: many at once, without signing in."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncssh

from importing.host_keys import Place
from settings.host_keys import ALGORITHMS

AT_ONCE = 32
SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What one node showed; `problem` where it did not answer."""

    place: Place
    key: str | None = None
    fingerprint: str = ""
    problem: str = ""


Progress = Callable[[int, int], None]
"""How many of how many are done."""


def scan(places: Sequence[Place], progress: Progress) -> list[Scanned]:
    return asyncio.run(scan_all(places, progress))


async def scan_all(places: Sequence[Place], progress: Progress) -> list[Scanned]:
    limit = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def scan_in_turn(place: Place) -> Scanned:
        nonlocal done
        async with limit:
            scanned = await scan_one(place)
        done += 1
        progress(done, len(places))
        return scanned

    return await asyncio.gather(*(scan_in_turn(place) for place in places))


async def scan_one(place: Place) -> Scanned:
    try:
        async with asyncio.timeout(SECONDS):
            # Without a configuration: the user's ~/.ssh/config may send it somewhere else.
            key = await asyncssh.get_server_host_key(
                place.host, place.port, server_host_key_algs=list(ALGORITHMS), config=None
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
