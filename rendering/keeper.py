"""What the keeper of the stores runs: its scripts, as files of one ConfigMap, and its command."""

from pathlib import Path

from rendering import registry

IN_POD = Path(__file__).resolve().parent.parent / "in_pod"

CONTAINER = "store-keeper"
PORT, PORT_NAME = 5005, "keeper"
SCRIPTS = "/etc/docker-cache-keeper"
WORK = "/tmp"  # noqa: S108 - a volume of the pod's own
KEEP_SCRIPT, PLAN, RECEIVE_SCRIPT, REPORT_SCRIPT = (
    "keep_store.sh",
    "keep_store.awk",
    "receive_requests.sh",
    "report_requests.sh",
)


def files() -> dict[str, str]:
    names = (KEEP_SCRIPT, PLAN, RECEIVE_SCRIPT, REPORT_SCRIPT)
    return {name: (IN_POD / name).read_text(encoding="utf-8") for name in names}


def command(most_kib: int, ttl_seconds: int) -> tuple[str, ...]:
    return ("/bin/sh", f"{SCRIPTS}/{KEEP_SCRIPT}", registry.STORE, str(most_kib), str(ttl_seconds))
