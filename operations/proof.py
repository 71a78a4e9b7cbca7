"""The proof after an update: each node pulls a small image, counted at the cache.

Engines go to Docker Hub by themselves where a mirror fails, so a pull that works proves nothing; what counts is that the cache
saw it. The nodes take turns, since the cache counts all of them together.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from operations.cache_metrics import CacheMetrics, Counts, MetricsError
from operations.engines import ASK_SECONDS, Engine, ask_engines
from operations.ssh import NodeError, Shell, connect
from settings.access import Access
from settings.images import registry_of
from settings.model import DOCKER_IO
from settings.stack import Stack

PULL_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Result:
    """A line in the table: one engine of one node."""

    node: str
    engine: str = "–"
    mirror: str = "–"
    seconds: float | None = None
    bytes_served: int | None = None
    verdict: str
    is_good: bool


def prove(stack: Stack, nodes: Sequence[Access], say: Callable[[str], None]) -> list[Result]:
    """Pull by each engine of these nodes, one after the other, and say how each went."""
    metrics = CacheMetrics(stack.cluster, stack.settings.docker_cache_namespace) if stack.cluster else None
    results = []
    for number, access in enumerate(nodes, 1):
        for result in asyncio.run(prove_node(stack, access, metrics)):
            took = (
                ""
                if result.seconds is None
                else f", {stack.settings.docker_cache_proof_image} in {result.seconds:.2f} s"
            )
            say(f"  proof {number} of {len(nodes)}: {access.name}: {result.verdict}{took}")
            results.append(result)
    return results


async def prove_node(stack: Stack, access: Access, metrics: CacheMetrics | None) -> list[Result]:
    """One result for each engine, up to the first that can't be asked."""
    results: list[Result] = []
    try:
        async with connect(access) as shell:
            for engine in await ask_engines(shell, stack.settings.docker_cache_engines):
                results.append(await pull(shell, engine, stack, metrics))  # noqa: PERF401 - those before an error count
    except (NodeError, MetricsError) as error:
        return [*results, Result(node=access.name, verdict=f"failed: {error}", is_good=False)]
    return results or [Result(node=access.name, verdict="no container engine here", is_good=True)]


def full_name(image: str) -> str:
    """The image's name as docker completes it; podman would look a short one up, or ask."""
    if image.startswith(f"{registry_of(image)}/"):
        return image
    return f"{DOCKER_IO}/{image}" if "/" in image else f"{DOCKER_IO}/library/{image}"


async def pull(shell: Shell, engine: Engine, stack: Stack, metrics: CacheMetrics | None) -> Result:
    """Pull once; the image goes again if the node did not have it before."""
    image = full_name(stack.settings.docker_cache_proof_image)
    had_it = bool(await shell.run(*engine.find, image, seconds=ASK_SECONDS))
    before = metrics.now() if metrics else None
    begun = time.monotonic()
    await shell.run(*engine.pull, image, seconds=PULL_SECONDS)
    seconds = time.monotonic() - begun
    counted = metrics.since(before) if metrics and before else None
    if not had_it:
        await shell.run(*engine.drop, image, seconds=ASK_SECONDS)
    entries = stack.settings.entries[shell.access.name]
    verdict, is_good = judge(counted, engine.program, is_mirror_live=engine.has_mirrors(entries))
    return Result(
        node=shell.access.name,
        engine=engine.version,
        mirror=", ".join(engine.mirrors) or "none",
        seconds=seconds,
        bytes_served=counted.bytes_served if counted else None,
        verdict=verdict,
        is_good=is_good,
    )


def judge(counted: Counts | None, program: str, *, is_mirror_live: bool) -> tuple[str, bool]:
    """The verdict and whether it is good. None: a registry of the user's own, which counts nothing for us."""
    if not is_mirror_live:
        return f"failed: {program} does not have the mirror: `make check` tells more", False
    if counted is None:
        return "not counted (a custom registry)", True
    if counted.manifest_requests <= 0:
        return f"failed: the cache saw nothing, {program} went elsewhere", False
    return ("miss" if counted.misses else "hit"), True


def as_table(results: Iterable[Result]) -> Table:
    table = Table(title="Each node's pull, as counted at the cache (other nodes' pulls in that moment count too)")
    for column in ("node", "engine", "mirror"):
        table.add_column(column, overflow="fold")
    for column in ("seconds", "bytes"):
        table.add_column(column, justify="right")
    table.add_column("hit or miss", overflow="fold")
    for result in results:
        table.add_row(
            result.node,
            result.engine,
            result.mirror,
            "–" if result.seconds is None else f"{result.seconds:.2f}",
            "–" if result.bytes_served is None else f"{result.bytes_served:,}",
            Text(result.verdict),  # A text with brackets would be taken for markup.
            style=None if result.is_good else "red",
        )
    return table
