"""The stack's file as text: each key with a comment that says where it comes from."""

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from importing.result import NODES, Imported, NodeSettings, Secret, Setting, Tree, Value
from settings.loading import is_secret
from settings.stack import PREFIX

Cipher = Callable[[str], str]
"""A cipher of a secret's text, another one each time: equal ciphers would say that two secrets are the same."""
HEADING = ("# The stack ", "# docs/configuration.md has every key")
OWN_COMMENT = re.compile(
    rf"\s*# (The cluster's context in the kubeconfig, one of|host_key: what `ssh-keyscan|{PREFIX}\w+: (\"|~/\.kube/config$))"
)
"""Lines to fill in, which are written anew where they still count."""
HIDDEN, HIDDEN_CHANGED, HIDDEN_PLAIN = "[secret]", "[secret, another one]", "[secret, not encrypted]"
PLAIN_SCALAR = re.compile(r"[A-Za-z0-9/~.][-\w./:+=@~ ]*")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the files do not say: where the cluster's API is. Given by hand, or None; `found` are contexts to choose from."""

    kubeconfig: str | None = None
    context: str | None = None
    found: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[Setting, ...]:
        given = {"kubeconfig": self.kubeconfig, "kube_context": self.context}
        return tuple(
            Setting(key=f"docker_cache_{key}", value=value, source=f"make's {key.upper()}")
            for key, value in given.items()
            if value
        )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays of the file as it was: comments above its configuration, keys with their comments, what stands beside it."""

    heading: str = ""
    blocks: Sequence[str] = ()
    rest: str = ""


def render(
    imported: Imported, stack: str, cipher: Cipher, *, cluster: Cluster, kept: Kept, keys: Collection[str]
) -> str:
    """`keys` are all that the file will have."""
    return "".join(
        [
            *heading(imported, stack),
            kept.heading,
            "config:\n",
            *(render_setting(setting, cipher) for setting in (*imported.settings, *cluster.settings)),
            *(f"  # {line}\n" for line in hints(cluster, keys)),
            *render_nodes(imported, cipher),
            *(["\n"] if kept.blocks else []),
            *kept.blocks,
            kept.rest,
        ]
    )


def heading(imported: Imported, stack: str) -> Iterator[str]:
    of = f", the cluster with the id {one_line(imported.cluster_id)}" if imported.cluster_id else ""
    yield f"{HEADING[0]}{stack}{of}. Written by `make import`: the comments say where each value comes from.\n"
    yield f"{HEADING[1]}, `make preview STACK={stack}` checks what stands here.\n"


def hints(cluster: Cluster, keys: Collection[str]) -> Iterator[str]:
    """Lines to fill in, for what is not given."""
    if "docker_cache_kube_context" not in keys:
        found = (
            f"one of: {', '.join(map(one_line, cluster.found))}"
            if cluster.found
            else ("one of `kubectl config get-contexts --output name`")
        )
        yield f"The cluster's context in the kubeconfig, {found}"
        yield f'{PREFIX}docker_cache_kube_context: ""'
    if "docker_cache_kubeconfig" not in keys:
        yield f"{PREFIX}docker_cache_kubeconfig: ~/.kube/config"
    if "enable_docker_cache" not in keys:
        yield f'{PREFIX}enable_docker_cache: "true"'


def render_setting(setting: Setting, cipher: Cipher) -> str:
    return f"  # {one_line(setting.source)}\n  {PREFIX}{setting.key}:{render_value(setting.value, cipher, 4)}\n"


def render_nodes(imported: Imported, cipher: Cipher) -> Iterator[str]:
    if imported.nodes is None:
        return
    yield f"  {PREFIX}{NODES}:" + (" []\n" if not imported.nodes else "\n")
    for node in imported.nodes:
        yield from render_node(node, cipher)


def render_node(node: NodeSettings, cipher: Cipher) -> Iterator[str]:
    for number, setting in enumerate(node.settings):
        start, comment = ("    - " if number == 0 else "      "), f" # {one_line(setting.source)}"
        value = f" {setting.value}" if is_typed(setting) else render_value(setting.value, cipher, 8)
        first, newline, rest = value.partition("\n")
        yield f"{start}{setting.key}:{first}{comment}{newline}{rest}\n"
    if not (node.get("host_key") or node.get("host_key_path")):
        host = one_line(node.address or node.name)
        yield f"      # host_key: what `ssh-keyscan {host}` shows, once you know that it is right\n"


def is_typed(setting: Setting) -> bool:
    """In a list pulumi keeps numbers and booleans as they are; a key of the stack is text."""
    value = setting.value
    return isinstance(value, str) and (
        (setting.key in {"kube_master", "sudo", "direct"} and value in {"true", "false"})
        or (setting.key == "port" and re.fullmatch(r"[1-9]\d{0,4}", value) is not None)
    )


def render_value(value: Value | dict[str, Value], cipher: Cipher, indent: int) -> str:
    """What follows a key's colon."""
    if isinstance(value, dict):
        return "".join(f"\n{' ' * indent}{key}:{render_value(item, cipher, indent + 2)}" for key, item in value.items())
    if isinstance(value, Secret):
        return f"\n{' ' * indent}secure: {cipher(value.text)}"
    return f" {scalar(value)}"


def scalar(text: str) -> str:
    """Text as YAML: plain where that reads back as the same text, else in quotes."""
    if (
        PLAIN_SCALAR.fullmatch(text)
        and not text.endswith((" ", ":"))
        and ": " not in text
        and yaml.safe_load(text) == text
    ):
        return text
    return json.dumps(text, ensure_ascii=True)


def one_line(text: str) -> str:
    """For a comment: nothing that ends its line."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def show(values: Mapping[str, Tree], before: Mapping[str, Tree]) -> list[str]:
    """The values for a person's eyes, in lines; a secret that is not the same `before` says so."""
    return [line for key, value in values.items() for line in show_tree(key, value, before.get(key), 0)]


def show_tree(key: str, tree: Tree, before: Tree | None, indent: int) -> Iterator[str]:
    start = "  " * indent
    if isinstance(tree, Secret):
        changed = isinstance(before, Secret) and before.text != tree.text
        yield f"{start}{key}: {HIDDEN_CHANGED if changed else HIDDEN}"
    elif isinstance(tree, str):
        yield f"{start}{key}: {shown(key, tree)}"
    elif isinstance(tree, list):
        yield f"{start}{key}:"
        for number, item in enumerate(tree):
            yield from show_tree(f"- {name_of(item) or number}", item, counterpart(item, number, before), indent + 1)
    else:
        yield f"{start}{key}:"
        for name, item in tree.items():
            yield from show_tree(name, item, before.get(name) if isinstance(before, dict) else None, indent + 1)


def shown(key: str, text: str) -> str:
    """A plain value under a secret's key is no less a secret, unless it is a path or an address."""
    is_path = key.endswith(("_path", "kubeconfig")) and "\n" not in text
    if is_secret(key.removeprefix("- ")) and text and not is_path:
        return HIDDEN_PLAIN
    return scalar(re.sub(r"//[^/@\s]*@", "//…@", text))


def name_of(item: Tree) -> str | None:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def counterpart(item: Tree, number: int, before: Tree | None) -> Tree | None:
    """The same node before: by its name, wherever it stood."""
    if not isinstance(before, list):
        return None
    name = name_of(item)
    if name is None:
        return before[number] if number < len(before) else None
    return next((other for other in before if name_of(other) == name), None)


def difference(before: Mapping[str, Tree], after: Mapping[str, Tree], shown: str) -> list[str]:
    """A unified diff of the values, without any secret; empty where both are the same."""
    ordered = {key: before[key] for key in [*after, *before] if key in before}
    old, new = show(ordered, {}), show(after, ordered)
    return list(difflib.unified_diff(old, new, f"{shown} (now)", f"{shown} (after the import)", lineterm=""))
