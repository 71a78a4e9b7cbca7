"""OpenPAI's layout.yaml: the machines of the cluster. Older forms have their ssh access in it too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from importing.findings import Findings, Found, Given
from importing.login import LAYOUT, Login, layout_login
from importing.yaml_files import as_map, found, read_mapping

LIST, DEFAULTS = "machine-list", "default-machine-properties"
OTHER_SECTIONS = ("machine-sku", "kubernetes")
USED = {
    "hostname",
    "hostip",
    "nodename",
    "pai-master",
    "pai-worker",
    "k8s-role",
    *(name for (name,) in LAYOUT.values()),
}
DOCKER_DATA = "docker-data"
SSH_SECRET = "ssh-secret"  # noqa: S105 - a key's name


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One entry of the machine list. `node` is its name in Kubernetes, where that is another."""

    name: str
    address: Given
    node: Given | None = None
    is_pai_master: bool = False
    is_kube_master: bool = False
    login: Login = field(default_factory=Login)
    source: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    machines: tuple[Machine, ...] = ()
    defaults: Login = field(default_factory=Login)


def read_layout(path: Path, findings: Findings) -> Layout:
    """Raises ImportProblems where the file is none."""
    file = path.name
    document = read_mapping(path, file)
    entries = document.get(LIST)
    if not isinstance(entries, list) or not entries:
        findings.problems.append(f"{file}: {LIST} is missing or empty: it lists the cluster's machines")
        return Layout()
    defaults = layout_login(as_map(document.get(DEFAULTS)) or {}, f"{file}: {DEFAULTS}")
    findings.ignored += [f"{file}: {key}" for key in document if key not in {LIST, DEFAULTS}]
    machines = [
        machine for number, entry in enumerate(entries) for machine in read_machine(entry, number, file, findings)
    ]
    names = [machine.name for machine in machines]
    for name in sorted({name for name in names if names.count(name) > 1}):
        findings.problems.append(f'{file}: {LIST} has the hostname "{name}" twice: give each machine a name of its own')
    describe_rest(entries, file, findings)
    return Layout(machines=tuple(machines), defaults=defaults)


def read_machine(entry: object, number: int, file: str, findings: Findings) -> Iterator[Machine]:
    machine = as_map(entry)
    if machine is None:
        findings.problems.append(f"{file}: {LIST}[{number}] is not a map of keys such as hostname and hostip")
        return
    values: dict[str, Found] = {
        key: found(machine.get(key), f"{file}: {LIST}[{number}].{key}") for key in ("hostname", "hostip")
    }
    for key, value in values.items():
        if not isinstance(value, Given):
            findings.problems.append(f"{file}: {LIST}[{number}].{key} " + (value.reason if value else "is missing"))
    name, address = values["hostname"], values["hostip"]
    if not isinstance(name, Given) or not isinstance(address, Given):
        return
    place = f"{file}: {LIST}[{name.text}]"
    role = found(machine.get("k8s-role"), f"{place}.k8s-role")
    if isinstance(role, Given) and role.text not in {"master", "worker"}:
        findings.ignored.append(f'{place}: its k8s-role is "{role.text}", so it is no Kubernetes node')
        return
    is_pai_master = is_true(machine, "pai-master")
    yield Machine(
        name=name.text,
        address=Given(text=address.text, source=f"{place}.hostip"),
        node=findings.usable(found(machine.get("nodename"), f"{place}.nodename")),
        is_pai_master=is_pai_master,
        is_kube_master=is_pai_master or (isinstance(role, Given) and role.text == "master"),
        login=layout_login(machine, place),
        source=place,
    )


def is_true(machine: Mapping[str, object], key: str) -> bool:
    return str(machine.get(key)).strip().lower() == "true"


def describe_rest(entries: list[object], file: str, findings: Findings) -> None:
    """Keys of machines that are not taken: each once, for all machines."""
    keys = dict.fromkeys(key for entry in entries for key in as_map(entry) or {} if key not in USED)
    for key in keys:
        place = f"{file}: {LIST}[…].{key}"
        if key.startswith(SSH_SECRET):
            findings.unusable.append(
                f"{place} names a Kubernetes secret with the ssh key: give the key's file (keyfile-path)"
            )
        else:
            findings.ignored.append(place + (" (docker's data stays where it is)" if key == DOCKER_DATA else ""))
