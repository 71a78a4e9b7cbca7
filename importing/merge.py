"""Joins what config.yaml, layout.yaml and hosts.yml say about one cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from importing import bastions
from importing.access import Access, access, hoist
from importing.config_yaml import Config
from importing.findings import Findings, Found, Given, Unusable, first
from importing.inventory import Host, Inventory
from importing.layout import Layout, Machine
from importing.login import Login
from importing.result import Imported, NodeSettings, Secret, Setting
from settings.loading import is_secret

NODE_PORT = "30500"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """One machine as the files know it: in the layout, in the inventory, or in both."""

    name: str
    machine: Machine | None = None
    host: Host | None = None

    @property
    def is_kube_master(self) -> bool:
        return bool(self.machine and self.machine.is_kube_master) or bool(self.host and self.host.is_kube_master)

    @property
    def rank(self) -> int:
        """The first pai-master comes first: its address is the entry."""
        if self.machine and self.machine.is_pai_master:
            return 0
        return 1 if self.is_kube_master else 2

    @property
    def address(self) -> Found:
        """For ssh: the inventory's, else the layout's, else (as Ansible has it) the name itself."""
        return first(
            self.host.login.host if self.host else None,
            self.machine.address if self.machine else None,
            Given(text=self.name, source=f"{self.host.source} (the name itself)") if self.host else None,
        )

    @property
    def bastion(self) -> Login | Unusable | None:
        return self.host.bastion if self.host else None

    @property
    def inside(self) -> Given | None:
        """Its address in the cluster's network."""
        return (self.host.inside if self.host else None) or (self.machine.address if self.machine else None)

    @property
    def node_name(self) -> Given:
        """Its name in Kubernetes: kubespray's is the inventory's, unless overridden."""
        if self.host:
            return self.host.node or Given(text=self.host.name, source=self.host.source)
        assert self.machine  # noqa: S101 - one of the two is there
        return self.machine.node or Given(text=self.machine.name, source=f"{self.machine.source}.hostname")

    @property
    def master_source(self) -> str:
        if self.machine and self.machine.is_kube_master:
            return self.machine.source
        return self.host.source if self.host else ""


def merge(
    config: Config,
    layout: Layout | None,
    inventory: Inventory | None,
    findings: Findings,
    *,
    node_port: str = NODE_PORT,
) -> Imported:
    """One result, with every finding. `node_port` is the port of the cache in the stack that is imported into."""
    joined = join(layout, inventory, findings)
    ranked = sorted(joined, key=lambda item: item.rank)
    accesses = [access(sources(item, layout, config), item.name, findings) for item in ranked]
    has_nodes = layout is not None or inventory is not None
    hoisted = hoist(accesses if has_nodes else [access([config.login], "the nodes", findings)])
    bastion, ways = bastions.hoist([bastions.way(item.bastion, findings) for item in ranked])
    settings = [
        *cache_settings(config.settings),
        *entry_settings(ranked, config, findings, node_port),
        *hoisted.shared,
        *bastion,
    ]
    nodes = [
        node(item, (*own, *through), findings) for item, own, through in zip(ranked, hoisted.own, ways, strict=False)
    ]
    warn_of_no_user(accesses, findings)
    return Imported(
        settings=tuple(settings),
        nodes=tuple(nodes) if has_nodes else None,
        ignored=tuple(dict.fromkeys(findings.ignored)),
        unusable=tuple(dict.fromkeys(findings.unusable)),
    )


def join(layout: Layout | None, inventory: Inventory | None, findings: Findings) -> list[Joined]:
    """In the layout's order, then what only the inventory has."""
    hosts = {host.name: host for host in inventory.hosts} if inventory else {}
    machines = layout.machines if layout else ()
    both = [Joined(name=machine.name, machine=machine, host=hosts.get(machine.name)) for machine in machines]
    known = {machine.name for machine in machines}
    others = [Joined(name=host.name, host=host) for host in hosts.values() if host.name not in known]
    describe_join(both, others, findings, has_both=layout is not None and inventory is not None)
    return [*both, *(item for item in others if is_kube(item))]


def is_kube(item: Joined) -> bool:
    return bool(item.host and (item.host.is_kube_master or item.host.is_kube_node))


def describe_join(both: Sequence[Joined], others: Sequence[Joined], findings: Findings, *, has_both: bool) -> None:
    for item in others:
        if not is_kube(item):
            findings.ignored.append(f"{item.name}: only the inventory has it, and in no group of Kubernetes' nodes")
        elif has_both:
            findings.unusable.append(
                f"{item.name}: the layout does not list it; it is taken, since it is a Kubernetes node"
            )
    for item in both:
        if has_both and not item.host:
            findings.unusable.append(
                f"{item.name}: the inventory does not have it; it is taken with what the layout says"
            )
        findings.ignored += differences(item)


def differences(item: Joined) -> Iterator[str]:
    """Where both files speak of a machine and do not agree."""
    if not item.machine or not item.host:
        return
    ssh, listed = item.host.login.host, item.machine.address
    if isinstance(ssh, Given) and ssh.text != listed.text:
        yield f'{listed.source} is "{listed.text}", but {ssh.source} is "{ssh.text}": ssh goes to the latter'
    if item.host.is_kube_master != item.machine.is_kube_master and (item.host.is_kube_master or item.host.is_kube_node):
        yield f"{item.name}: a master in one of layout and inventory only; it is taken as a master"


def sources(item: Joined, layout: Layout | None, config: Config) -> list[Login]:
    """The strongest first: the inventory, the machine's own in the layout, the layout's defaults, config.yaml."""
    logins = [
        item.host.login if item.host else None,
        item.machine.login if item.machine else None,
        layout.defaults if layout and item.machine else None,
        config.login,
    ]
    return [login for login in logins if login]


def cache_settings(settings: Mapping[str, Given]) -> Iterator[Setting]:
    for key, given in settings.items():
        yield Setting(key=key, value=Secret(text=given.text) if is_secret(key) else given.text, source=given.source)


def entry_settings(ranked: Sequence[Joined], config: Config, findings: Findings, node_port: str) -> Iterator[Setting]:
    """A registry of the administrator's own; or the entry, where the first master has another address inside the cluster."""
    master = next((item for item in ranked if item.is_kube_master), None)
    inside = master.inside if master else None
    custom = config.custom_registry
    own = {f"{inside.text}:{node_port}", inside.text} if inside else set()
    if custom and custom.text not in own:
        yield replace_scheme(Setting(key="docker_cache_custom_registry", value=custom.text, source=custom.source))
        return
    if custom:
        findings.ignored.append(f"{custom.source} (it is the cache itself)")
    ssh = master.address if master else None
    if inside and isinstance(ssh, Given) and ssh.text != inside.text:
        yield Setting(
            key="docker_cache_entry",
            value=f"{inside.text}:{node_port}",
            source=f"{inside.source}, which ssh does not go to",
        )


def replace_scheme(setting: Setting) -> Setting:
    """OpenPAI's script puts http:// before what it is given."""
    text = setting.value if isinstance(setting.value, str) else ""
    return setting if "://" not in text else replace(setting, value=text.removeprefix("http://"))


def node(item: Joined, own: Sequence[Setting], findings: Findings) -> NodeSettings:
    name, address = item.node_name, findings.usable(item.address)
    settings = [Setting(key="name", value=name.text, source=name.source)]
    if address:
        settings.append(Setting(key="host", value=address.text, source=address.source))
    if item.is_kube_master:
        settings.append(Setting(key="kube_master", value="true", source=item.master_source))
    return NodeSettings(name=name.text, settings=(*settings, *own))


def warn_of_no_user(accesses: Sequence[Access], findings: Findings) -> None:
    if accesses and not any("user" in item for item in accesses):
        findings.ignored.append("no file names a user: root is taken, where Ansible would take whoever runs it")
