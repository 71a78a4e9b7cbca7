"""`make import`: a stack's file from the files that the cluster was installed with."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from importing import document, existing, host_keys
from importing.bastions import BASTION
from importing.document import Cluster, Kept
from importing.existing import Existing
from importing.findings import ImportProblems
from importing.host_keys import Place
from importing.result import NODES, Imported, Secret, Setting, Tree, plain
from importing.sources import KUBECONFIG_NAMES, Sources, find_sources, import_files
from importing.yaml_files import read_text
from operations.host_key_scan import Progress, Scanned, scan
from operations.new_stack import check_name
from operations.stack_folder import StackFolder, replace_file, stack_folder
from operations.stacks import ROOT, OperationError, StackName
from operations.terminal import confirm
from settings.access import Hop, resolve_bastion
from settings.cluster import ask_nothing, context_names
from settings.loading import Disabled, SettingsError, examine
from settings.stack import PREFIX, read_stack

IS_OFF = "enable_docker_cache is off: nothing is deployed until it is true"
Scan = Callable[[Sequence[Place], Progress, Hop | None], list[Scanned]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What make's variables say."""

    config: str | None = None
    layout: str | None = None
    hosts: str | None = None
    folder: str | None = None
    cluster_id: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    scan: bool = True
    yes: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the file has, and what it would have."""

    imported: Imported
    existing: Existing
    before: Mapping[str, Tree]
    cluster: Cluster

    @property
    def kept(self) -> list[str]:
        return existing.kept_keys(self.existing, self.produced)

    @property
    def produced(self) -> dict[str, Tree]:
        given: dict[str, Tree] = {setting.key: setting.tree for setting in self.cluster.settings}
        return self.imported.values | given

    @property
    def after(self) -> dict[str, Tree]:
        kept = {key.removeprefix(PREFIX) for key in self.kept}
        return self.produced | {key: value for key, value in self.before.items() if key in kept}


def import_stack(stack: StackName, options: Options, *, scan_nodes: Scan = scan) -> int:
    """Raises OperationError; until the very end nothing is written."""
    try:
        check_stack(stack)
        with stack_folder(stack) as folder:
            return run(stack, options, folder, scan_nodes)
    except ImportProblems as error:
        raise OperationError(str(error)) from error
    except KeyboardInterrupt:
        print(f"docker-cache: stopped; {stack.file.name} is as it was", file=sys.stderr)
        return 130


def check_stack(stack: StackName) -> None:
    check_name(stack)
    if stack.file.exists():
        existing.read_existing(read_text(stack.file), stack.file.name)
    if stack.in_sandbox:
        raise OperationError(
            f"{stack.file.name} is of the sandbox's cluster: import into a stack of its own, such as STACK=prod"
        )


def run(stack: StackName, options: Options, folder: StackFolder, scan_nodes: Scan) -> int:
    done = False
    try:
        plan = make_plan(stack, options, folder, scan_nodes)
        done = carry_out(stack, plan, folder, yes=options.yes)
    finally:
        if not done:
            folder.forget_stack()
    return 0 if done else 1


def make_plan(stack: StackName, options: Options, folder: StackFolder, scan_nodes: Scan) -> Plan:
    sources = find_sources(
        config=options.config,
        layout=options.layout,
        hosts=options.hosts,
        folder=options.folder,
        cluster_id=options.cluster_id,
    )
    now, before = read_stack_file(stack, folder)
    imported = import_files(sources, **node_port(before))
    known = host_keys.known_keys({key: plain(tree) for key, tree in before.items()})
    places = host_keys.places(imported) if options.scan else []
    scanned = scan_nodes(places, show_progress, known_bastion(before | imported.values, known)) if places else []
    answered = {(item.place.host, item.place.port): item.key for item in scanned if item.key}
    plan = Plan(
        imported=host_keys.with_host_keys(imported, known, answered),
        existing=now,
        before=before,
        cluster=find_cluster(options, sources),
    )
    print("\n".join(report(stack, sources, plan, scanned, host_keys.changed(imported, known, answered))))
    return plan


def read_stack_file(stack: StackName, folder: StackFolder) -> tuple[Existing, dict[str, Tree]]:
    if not stack.file.exists():
        return existing.NOTHING, {}
    text = read_text(stack.file)
    now = existing.read_existing(text, stack.file.name)
    folder.write(text)
    return now, existing.values_of(now, folder.decrypt() if now.has_secrets else {})


def node_port(before: Mapping[str, Tree]) -> dict[str, str]:
    port = before.get("docker_cache_node_port")
    return {"node_port": port} if isinstance(port, str) and port else {}


def known_bastion(values: Mapping[str, Tree], known: host_keys.Known) -> Hop | None:
    """The bastion of all nodes, where the stack has its host key: nothing is sent to one that is not known."""
    bastion = values.get(BASTION)
    if not isinstance(bastion, dict) or not known.get((BASTION, str(bastion.get("host")))):
        return None
    of_machine = {**bastion, **known[BASTION, str(bastion["host"])]}
    texts = {key: as_text(tree) for key, tree in values.items() if key != NODES} | {
        BASTION: as_text(of_machine),
        "enable_docker_cache": "true",
        "docker_cache_ssh_trust_any_host_key": "false",
    }
    examined = examine(texts.get)
    if isinstance(examined, Disabled):
        return None
    problems: list[str] = []
    hop = resolve_bastion(examined.settings, ROOT, os.environ, problems)
    return None if problems else hop


def find_cluster(options: Options, sources: Sources) -> Cluster:
    """The contexts that are there to choose from: none is taken unasked."""
    home = Path("~/.kube/config")
    places = (
        [Path(options.kubeconfig)]
        if options.kubeconfig
        else [
            *(sources.folder / name for name in KUBECONFIG_NAMES if sources.folder),
            home,
        ]
    )
    found = [f"{name} (in {place})" for place in places for name in contexts_in(place.expanduser())]
    return Cluster(kubeconfig=options.kubeconfig, context=options.context, found=tuple(found))


def contexts_in(path: Path) -> list[str]:
    try:
        return context_names(path.read_text(encoding="utf-8")) or []
    except (OSError, UnicodeDecodeError):
        return []


def show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rAsking the nodes for their ssh host keys: {done} of {total}", end=end, file=sys.stderr, flush=True)


def report(
    stack: StackName, sources: Sources, plan: Plan, scanned: Sequence[Scanned], changed: Sequence[Place]
) -> Iterator[str]:
    """Everything that an administrator has to know, without any secret."""
    yield f"From {', '.join(sources.shown)}:"
    yield from section("Taken", taken(plan))
    yield from section("Ignored", plan.imported.ignored)
    yield from section("Could not be used", plan.imported.unusable)
    yield from section(
        "Host keys that answered (compare them with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on each node)",
        [f"{item.place.name} {item.place.host}:{item.place.port}  {item.fingerprint}" for item in scanned if item.key],
    )
    yield from section(
        "Nodes without an answer (add their host_key yourself, or import again)",
        [f"{item.place.name} {item.place.host}:{item.place.port}: {item.problem}" for item in scanned if not item.key],
    )
    yield from section(
        "Nodes that show ANOTHER host key than the stack has (it is kept: find out why before you change it)",
        [f"{place.name} {place.host}:{place.port}" for place in changed],
    )
    yield from section(f"Kept in {stack.file.name}", [key.removeprefix(PREFIX) for key in plan.kept])
    yield from section("The stack still needs", needs(plan.after))


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    if lines:
        yield f"\n{title}:"
        yield from (f"  {document.one_line(line)}" for line in lines)


def taken(plan: Plan) -> Iterator[str]:
    for setting in (*plan.imported.settings, *plan.cluster.settings):
        yield f"{in_one_line(setting)}  ({setting.source})"
    for node in plan.imported.nodes or ():
        values = [in_one_line(item) for item in node.settings if item.key not in host_keys.KEYS]
        yield f"node {', '.join(values)}  ({node.settings[0].source})"


def in_one_line(setting: Setting) -> str:
    first, *below = document.show_tree(setting.key, setting.tree, None, 0)
    return f"{first} {{{', '.join(line.strip() for line in below)}}}" if below else first


def needs(after: Mapping[str, Tree]) -> list[str]:
    """What `make preview` would say, without asking the cluster. A stack that is off is looked at as if it were on."""
    texts = {key: as_text(value) for key, value in after.items()}
    try:
        if not isinstance(check(texts), Disabled):
            return []
    except SettingsError as error:
        return error.problems
    try:
        check(texts | {"enable_docker_cache": "true"})
    except SettingsError as error:
        return [IS_OFF, *error.problems]
    return [IS_OFF]


def as_text(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    return tree.text if isinstance(tree, Secret) else json.dumps(plain(tree))


def check(texts: Mapping[str, str]) -> object:
    return read_stack(texts.get, ROOT, os.environ, list(texts), ask=ask_nothing)


def carry_out(stack: StackName, plan: Plan, folder: StackFolder, *, yes: bool) -> bool:
    """Show the difference, ask, encrypt and write. False where the answer is no."""
    is_new = not stack.file.exists()
    lines = document.difference(plan.before, plan.after, stack.file.name)
    if not lines and not is_new:
        print(f"\n{stack.file.name}: nothing to change")
        return True
    if not is_new:
        print("\n" + "\n".join(lines) + "\n")
        if not confirm(f"{stack.file.name} exists: write it?", yes=yes):
            print(f"{stack.file.name} is as it was")
            return False
    replace_file(stack.file, compose(stack, plan, folder))
    print(f"\n{stack.file.name} is written: read it, then `make preview STACK={stack.name}`")
    return True


def compose(stack: StackName, plan: Plan, folder: StackFolder) -> str:
    """The file's new text, encrypted. Raises OperationError."""
    pool = cipher_pool(plan, folder)
    text = document.render(
        plan.imported,
        stack.name,
        lambda secret: pool[secret].pop(),
        cluster=plan.cluster,
        kept=Kept(
            heading=plan.existing.heading,
            blocks=[plan.existing.blocks[key] for key in plan.kept],
            rest=plan.existing.rest + rest_of_pulumi(plan.existing, folder),
        ),
        keys=list(plan.after),
    )
    check_text(stack, text, plan, folder)
    return text


def cipher_pool(plan: Plan, folder: StackFolder) -> dict[str, list[str]]:
    """For each secret's text as many ciphers as there are places for it: those of the file first."""
    pool: dict[str, list[str]] = {}
    replaced = [plan.before[key] for key in plan.produced if key in plan.before]
    for text, cipher in (pair for tree in replaced for pair in existing.ciphers(tree)):
        pool.setdefault(text, []).append(cipher)
    missing = [
        text for text, count in Counter(secrets(plan.produced)).items() for _ in range(count - len(pool.get(text, [])))
    ]
    for text, cipher in zip(missing, folder.encrypt(missing), strict=True):
        pool.setdefault(text, []).append(cipher)
    return pool


def rest_of_pulumi(now: Existing, folder: StackFolder) -> str:
    """What the encryption has added beside the configuration."""
    there = yaml.safe_load(now.rest) or {}
    added = {key: value for key, value in folder.of_pulumi().items() if key not in there}
    return yaml.safe_dump(added, sort_keys=False) if added else ""


def check_text(stack: StackName, text: str, plan: Plan, folder: StackFolder) -> None:
    """Read back what is about to be written, as pulumi reads it."""
    folder.write(text)
    written = existing.read_existing(text, stack.file.name)
    values = existing.values_of(written, folder.decrypt() if written.has_secrets else {})
    if values != plan.after:
        keys = [key for key in {**values, **plan.after} if values.get(key) != plan.after.get(key)]
        raise OperationError(
            f"{', '.join(keys)} would read back otherwise: {stack.file.name} is not written; please report it"
        )


def secrets(tree: Tree | Mapping[str, Tree]) -> Iterator[str]:
    if isinstance(tree, Secret):
        yield tree.text
    elif isinstance(tree, list):
        for item in tree:
            yield from secrets(item)
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from secrets(item)
