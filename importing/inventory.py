"""kubespray's hosts.yml: an Ansible inventory in YAML, with group_vars and host_vars beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from importing.findings import Findings, Given, ImportProblems, Unusable
from importing.groups import ALL, Group, Variable, Variables, chain
from importing.host_names import expand
from importing.login import Login, ansible_login, find_bastion
from importing.variable_files import read_variable_files
from importing.yaml_files import as_map, found, is_ini, read_mapping, read_text

MASTERS = {"kube_master", "kube_control_plane", "kube_controlplane"}
NODES = {"kube_node"}
BASTION = "bastion"
ADDRESSES = ("ip", "access_ip")
NODE_NAME = "kube_override_hostname"
IN_GROUP = ("hosts", "vars", "children")


@dataclass(frozen=True, kw_only=True)
class Host:
    """`inside` is its address in the cluster's own network, where the inventory tells it from that for ssh."""

    name: str
    is_kube_master: bool
    is_kube_node: bool
    login: Login
    bastion: Login | Unusable | None = None
    """The machine that it is reached through."""
    inside: Given | None = None
    node: Given | None = None
    source: str


@dataclass(frozen=True, kw_only=True)
class Inventory:
    hosts: tuple[Host, ...] = ()


def read_inventory(path: Path, findings: Findings) -> Inventory:
    """Raises ImportProblems where the file is none, or none that can be read."""
    refuse_ini(path)
    file = path.name
    document = read_mapping(path, file)
    if "_meta" in document:
        raise ImportProblems([f"{file} is the JSON of `ansible-inventory --list`: {convert(path)}"])
    groups = read_groups(document, file, findings)
    if findings.problems:
        return Inventory()
    host_names = list(dict.fromkeys(name for group in groups.values() for name in group.hosts))
    group_files = read_variable_files(path.parent / "group_vars", set(groups), findings)
    host_files = read_variable_files(path.parent / "host_vars", set(host_names), findings)
    hosts = [read_host(name, file, groups, group_files, host_files.get(name, {}), findings) for name in host_names]
    return Inventory(hosts=tuple(behind_bastion(hosts, list(groups.get(BASTION, Group(name=BASTION)).hosts))))


def behind_bastion(hosts: Sequence[Host], bastions: Sequence[str]) -> Iterator[Host]:
    """Kubespray goes to every node through the first host of the group `bastion`; a node's own arguments for ssh go first."""
    gate = next((host for host in hosts if host.name in bastions[:1]), None)
    if gate is None:
        yield from hosts
        return
    login = replace(
        gate.login, host=gate.login.host or Given(text=gate.name, source=f"{gate.source} (the name itself)")
    )
    for host in hosts:
        is_behind = host.name not in bastions and host.bastion is None
        yield replace(host, bastion=login) if is_behind else host


def refuse_ini(path: Path) -> None:
    if is_ini(read_text(path)):
        raise ImportProblems([f"{path.name} is an INI inventory: {convert(path)}"])


def convert(path: Path) -> str:
    return (
        f"convert it by `ansible-inventory -i {path.name} --list --yaml --output hosts.yml` in its folder, and give "
        "HOSTS=hosts.yml"
    )


def read_groups(document: Mapping[str, object], file: str, findings: Findings) -> dict[str, Group]:
    """Every group by its name; what stands in several places is one group."""
    groups: dict[str, Group] = {ALL: Group(name=ALL)}
    for name, body in document.items():
        read_group(name, body, groups, file, findings)
        if name != ALL:
            groups[ALL].children.add(name)
    return groups


def read_group(name: str, body: object, groups: dict[str, Group], file: str, findings: Findings) -> None:
    group = groups.setdefault(name, Group(name=name))
    parts = as_map(body)
    if parts is None:
        findings.problems.append(f"{file}: {name} is not a group: give it hosts, vars or children")
        return
    findings.ignored += [f"{file}: {name}.{key} (no part of a group)" for key in parts if key not in IN_GROUP]
    for part in IN_GROUP:
        listed = (
            {str(parts[part]): None}
            if isinstance(parts.get(part), str) and part == "hosts"
            else as_map(parts.get(part))
        )
        if listed is None:
            findings.problems.append(f"{file}: {name}.{part} is not a map of keys")
            continue
        place = f"{file}: {name}.{part}"
        if part == "hosts":
            read_hosts(group, listed, place, findings)
        elif part == "vars":
            group.variables |= {key: Variable(value=value, source=f"{place}.{key}") for key, value in listed.items()}
        else:
            for child, child_body in listed.items():
                group.children.add(child)
                read_group(child, child_body, groups, file, findings)


def read_hosts(group: Group, listed: Mapping[str, object], place: str, findings: Findings) -> None:
    for pattern, body in listed.items():
        variables = as_map(body)
        if variables is None:
            findings.problems.append(f"{place}.{pattern} is not a map of variables")
            continue
        for name in expand(pattern):
            own = group.hosts.setdefault(name, {})
            own |= {key: Variable(value=value, source=f"{place}.{pattern}.{key}") for key, value in variables.items()}


def read_host(
    name: str,
    file: str,
    groups: Mapping[str, Group],
    group_files: Mapping[str, Variables],
    host_files: Variables,
    findings: Findings,
) -> Host:
    its_groups = chain(name, groups)
    variables = resolve(name, its_groups, group_files, host_files)
    spelled = {group.name.replace("-", "_") for group in its_groups}
    values = {key: variable.value for key, variable in variables.items()}

    def origin(key: str) -> str:
        return variables[key].source if key in variables else f"{file}: {name}.{key}"

    inside = [item for key in ADDRESSES if (item := findings.usable(found(values.get(key), origin(key))))]
    return Host(
        name=name,
        is_kube_master=bool(spelled & MASTERS),
        is_kube_node=bool(spelled & NODES),
        login=ansible_login(values, origin, findings),
        bastion=find_bastion(values, origin, findings),
        inside=inside[0] if inside else None,
        node=findings.usable(found(values.get(NODE_NAME), origin(NODE_NAME))),
        source=f"{file}: {name}",
    )


def resolve(
    name: str, its_groups: Sequence[Group], group_files: Mapping[str, Variables], host_files: Variables
) -> dict[str, Variable]:
    """In Ansible's order (its VARIABLE_PRECEDENCE): the inventory's groups, the files of `all`, of the others, the host."""
    resolved: dict[str, Variable] = {}
    for layer in layers(name, its_groups, group_files, host_files):
        resolved |= layer
    return resolved


def layers(
    name: str, its_groups: Sequence[Group], group_files: Mapping[str, Variables], host_files: Variables
) -> Iterator[Variables]:
    yield from (group.variables for group in its_groups)
    yield group_files.get(ALL, {})
    yield from (group_files.get(group.name, {}) for group in its_groups if group.name != ALL)
    yield from (group.hosts[name] for group in its_groups if name in group.hosts)
    yield host_files
