"""Which files an import reads: those that are named, and those of a folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from importing.config_yaml import NO_CONFIG, read_config
from importing.findings import Findings, ImportProblems
from importing.inventory import read_inventory
from importing.layout import read_layout
from importing.merge import NODE_PORT, merge
from importing.result import Imported
from importing.yaml_files import read_text

CONFIG_NAMES = ("config.yaml", "config.yml", "services-configuration.yaml")
LAYOUT_NAMES = ("layout.yaml", "layout.yml", "cluster-configuration.yaml")
HOSTS_NAMES = ("hosts.yml", "hosts.yaml", "inventory.yml", "inventory.yaml", "hosts.ini", "inventory.ini")
ID_NAMES = ("cluster-id",)
T = TypeVar("T")
KUBECONFIG_NAMES = ("kubeconfig", "admin.conf", ".kube/config")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files that are there; at least one of the three."""

    config: Path | None = None
    layout: Path | None = None
    hosts: Path | None = None
    cluster_id: str | None = None
    folder: Path | None = None

    @property
    def shown(self) -> list[str]:
        return [str(path) for path in (self.config, self.layout, self.hosts) if path]


def find_sources(
    *,
    config: str | None = None,
    layout: str | None = None,
    hosts: str | None = None,
    folder: str | None = None,
    cluster_id: str | None = None,
) -> Sources:
    """A named file goes before one of the folder. Raises ImportProblems."""
    problems: list[str] = []
    if config and Path(config).expanduser().is_dir():
        folder, config = folder or config, None
    base = Path(folder).expanduser() if folder else None
    if base and not base.is_dir():
        problems.append(f"FOLDER is {folder}: there is no such folder")
    id_file = in_folder(base, ID_NAMES)
    found = Sources(
        config=named("CONFIG", config, CONFIG_NAMES, problems) or in_folder(base, CONFIG_NAMES),
        layout=named("LAYOUT", layout, LAYOUT_NAMES, problems) or in_folder(base, LAYOUT_NAMES),
        hosts=named("HOSTS", hosts, HOSTS_NAMES, problems) or in_folder(base, HOSTS_NAMES),
        cluster_id=cluster_id or (read_text(id_file).strip() if id_file else None) or None,
        folder=base,
    )
    if not problems and not found.shown:
        where = f"FOLDER is {folder}: it has none of {', '.join((*CONFIG_NAMES, *LAYOUT_NAMES, *HOSTS_NAMES))}"
        problems.append(
            where
            if base
            else "nothing to import: give CONFIG=config.yaml, LAYOUT=layout.yaml, HOSTS=hosts.yml or FOLDER="
        )
    if problems:
        raise ImportProblems(problems)
    return found


def named(variable: str, given: str | None, names: tuple[str, ...], problems: list[str]) -> Path | None:
    if not given:
        return None
    path = Path(given).expanduser()
    if path.is_dir():
        inside = in_folder(path, names)
        if not inside:
            problems.append(f"{variable} is {given}: that folder has none of {', '.join(names)}")
        return inside
    if not path.is_file():
        problems.append(f"{variable} is {given}: there is no such file")
        return None
    return path


def in_folder(folder: Path | None, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None) if folder else None


def import_files(sources: Sources, *, node_port: str = NODE_PORT) -> Imported:
    """Raises ImportProblems with everything that keeps the files from being imported."""
    findings = Findings()
    config = attempt(read_config, sources.config, findings) or NO_CONFIG
    layout = attempt(read_layout, sources.layout, findings)
    inventory = attempt(read_inventory, sources.hosts, findings)
    if findings.problems:
        raise ImportProblems(list(dict.fromkeys(findings.problems)))
    imported = merge(config, layout, inventory, findings, node_port=node_port)
    return replace(imported, cluster_id=sources.cluster_id)


def attempt(read: Callable[[Path, Findings], T], path: Path | None, findings: Findings) -> T | None:
    """A file that can't be read does not keep the others from being looked at."""
    try:
        return read(path, findings) if path else None
    except ImportProblems as error:
        findings.problems += error.problems
        return None
