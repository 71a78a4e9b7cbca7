"""What an import gives: the stack's keys, each with the place that it comes from. Secrets have a type of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Its text is for pulumi's encryption alone; `cipher` is what pulumi made of it, as far as that is known already."""

    text: str = field(repr=False)
    cipher: str | None = field(default=None, repr=False, compare=False)


Value = str | Secret
Tree = Value | list["Tree"] | dict[str, "Tree"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key with its value, and where that stands in the files."""

    key: str
    value: Value | dict[str, Value]
    source: str

    @property
    def tree(self) -> Tree:
        return dict(self.value) if isinstance(self.value, dict) else self.value


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """One entry of docker_cache_nodes."""

    name: str
    settings: tuple[Setting, ...]

    def get(self, key: str) -> Value | dict[str, Value] | None:
        return next((setting.value for setting in self.settings if setting.key == key), None)

    @property
    def address(self) -> str | None:
        host = self.get("host")
        return host if isinstance(host, str) else None

    def with_setting(self, setting: Setting) -> "NodeSettings":
        return replace(self, settings=(*self.settings, setting))


@dataclass(frozen=True, kw_only=True)
class Imported:
    """`nodes` is None where no file lists machines: then the stack's own stay as they are."""

    settings: tuple[Setting, ...]
    nodes: tuple[NodeSettings, ...] | None
    ignored: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    cluster_id: str | None = None

    @property
    def values(self) -> dict[str, Tree]:
        """The keys as the stack's configuration has them."""
        values: dict[str, Tree] = {setting.key: setting.tree for setting in self.settings}
        if self.nodes is not None:
            nodes: list[Tree] = [{item.key: item.tree for item in node.settings} for node in self.nodes]
            values[NODES] = nodes
        return values

    def get(self, key: str) -> Value | dict[str, Value] | None:
        return next((setting.value for setting in self.settings if setting.key == key), None)


NODES = "docker_cache_nodes"


def plain(tree: Tree) -> object:
    """With the secrets' texts: for memory and for pulumi's standard input only."""
    if isinstance(tree, Secret):
        return tree.text
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    if isinstance(tree, Mapping):
        return {key: plain(item) for key, item in tree.items()}
    return tree
