"""What the pod that fetches images ahead is given: its script, and regctl's configuration."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rendering.registry import IN_POD
from settings.model import DOCKER_IO

SCRIPT = "prefetch.sh"
REGCTL_FOLDER, REGCTL_FILE = "/etc/docker-cache-regctl", "config.json"


@dataclass(frozen=True, kw_only=True)
class Regctl:
    """The hosts of the upstreams that the cache pulls through, and the user that its front asks for, where it does."""

    hosts: Sequence[str]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def files() -> dict[str, str]:
    return {SCRIPT: (IN_POD / SCRIPT).read_text(encoding="utf-8")}


def regctl_configuration(regctl: Regctl, front: str) -> str:
    """Every upstream is the front, by plain http, so that images keep their own names, in messages too. Docker Hub's need no
    prefix there, the others' have their host for one.
    """
    hosts = {
        host: reached_at(front) | ({} if host == DOCKER_IO else {"pathPrefix": host}) | credentials(regctl)
        for host in regctl.hosts
    }
    return json.dumps({"hosts": hosts}, indent=2)


def reached_at(front: str) -> dict[str, str]:
    return {"hostname": front, "tls": "disabled"}


def credentials(regctl: Regctl) -> dict[str, str]:
    return {"user": regctl.username, "pass": regctl.password} if regctl.username and regctl.password else {}


def words(images: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The script's arguments: each image with its platforms; none stand for all."""
    return [word for image, platforms in images for word in (image, ",".join(platforms) or "all")]
