"""How one source of the files says that a machine is reached, before the sources are joined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from importing.findings import Findings, Found, Given, Unusable
from importing.jumps import Jump, UnclearJumpError, find_jump
from importing.yaml_files import found


@dataclass(frozen=True, kw_only=True)
class Login:
    """None: this source does not say. A password or a key is its user's."""

    host: Found = None
    user: Found = None
    port: Found = None
    password: Found = None
    private_key: Found = None
    private_key_path: Found = None
    become: Found = None
    become_password: Found = None


ANSIBLE = {
    "host": ("ansible_host", "ansible_ssh_host"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "password": ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
    "private_key": ("ansible_private_key", "ansible_ssh_private_key"),
    "private_key_path": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "become": ("ansible_become", "ansible_sudo"),
    "become_password": ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"),
}
"""Ansible's names for each; where a host has several, Ansible goes by the last."""

LAYOUT = {
    "user": ("username",),
    "port": ("sshport",),
    "password": ("password",),
    "private_key_path": ("keyfile-path",),
}
"""The names in layout.yaml of OpenPAI before 1.0; paictl gave sudo the same password."""

UNUSABLE = {
    "ansible_become_user": ("root", "the nodes' docker is changed as root"),
    "ansible_sudo_user": ("root", "the nodes' docker is changed as root"),
    "ansible_become_method": ("sudo", "only sudo is known here"),
    "ansible_connection": ("ssh", "nodes are reached over ssh"),
}
"""Variables with the values that come to the same here."""
ANSIBLE_SSH = ("smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.sudo")
UNCLEAR_JUMP = (
    "goes through another machine in a way that can't be taken over: set docker_cache_ssh_bastion in the stack by hand"
)
JUMPS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")

Origin = Callable[[str], str]
"""The place of a variable, by its name."""


def ansible_login(variables: Mapping[str, object], origin: Origin, findings: Findings) -> Login:
    """Of a host's variables, resolved already; what can't be used is reported."""
    report_unusable(variables, origin, findings)
    return Login(**{part: last_set(names, variables, origin, findings) for part, names in ANSIBLE.items()})


def find_bastion(variables: Mapping[str, object], origin: Origin, findings: Findings) -> Login | Unusable | None:
    """What Ansible gives to ssh as its arguments may lead through another machine."""
    given = [item for name in JUMPS if (item := findings.usable(found(variables.get(name), origin(name))))]
    jumps: dict[Jump, Given] = {}
    for item in given:
        try:
            jump = find_jump(item.text)
        except UnclearJumpError:
            return Unusable(source=item.source, reason=UNCLEAR_JUMP)
        if jump:
            jumps[jump] = item
    if len(jumps) > 1:
        return Unusable(source=given[0].source, reason=UNCLEAR_JUMP)
    return next((bastion_of(jump, item.source, findings) for jump, item in jumps.items()), None)


def bastion_of(jump: Jump, source: str, findings: Findings) -> Login:
    if jump.user is None:
        findings.ignored.append(
            f"{source} names no user on {jump.host}, where ssh takes whoever runs it: docker_cache_ssh_user is taken"
        )

    def given(text: str | None) -> Given | None:
        return Given(text=text, source=source) if text else None

    return Login(
        host=given(jump.host), user=given(jump.user), port=given(jump.port), private_key_path=given(jump.key_path)
    )


def layout_login(machine: Mapping[str, object], place: str) -> Login:
    values: dict[str, Found] = {part: found(machine.get(name), f"{place}.{name}") for part, (name,) in LAYOUT.items()}
    return Login(**values, become_password=values["password"])


def last_set(names: tuple[str, ...], variables: Mapping[str, object], origin: Origin, findings: Findings) -> Found:
    """Ansible goes by the last of the names that is set."""
    values = [item for name in names if (item := found(variables.get(name), origin(name))) is not None]
    if not values:
        return None
    texts = {item.text if isinstance(item, Given) else None for item in values}
    if len(texts) > 1:
        others = ", ".join(item.source for item in values[:-1])
        findings.ignored.append(f"{others}: {values[-1].source} says it otherwise, and Ansible goes by that")
    return values[-1]


def report_unusable(variables: Mapping[str, object], origin: Origin, findings: Findings) -> None:
    for name, (right, reason) in UNUSABLE.items():
        value = found(variables.get(name), origin(name))
        if isinstance(value, Unusable):
            findings.unusable.append(str(value))
        elif value and value.text not in (right, *ANSIBLE_SSH):
            findings.unusable.append(f'{value.source} is "{value.text}": {reason}')
