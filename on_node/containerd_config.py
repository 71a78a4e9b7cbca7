"""containerd's config.toml, as far as it concerns where registries are configured: text, no I/O.

Tables by version of the file, from containerd's docs/cri/config.md: 1 ``plugins.cri``, 2 ``io.containerd.grpc.v1.cri``, from 3 on
``io.containerd.cri.v1.images``; the registry's settings are in the table ``registry`` of it.
"""

import re
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from on_node.errors import Trouble
from on_node.owned import block

Table = Tuple[str, ...]
IMAGES = {
    1: ("plugins", "cri"),
    2: ("plugins", "io.containerd.grpc.v1.cri"),
    3: ("plugins", "io.containerd.cri.v1.images"),
}
HEADER = re.compile(r"^[ \t]*\[(?!\[)(.*)\][ \t]*(?:#.*)?$")
PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
PAIR = re.compile(r"^[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*(.*?)[ \t]*$")

Dump = NamedTuple(
    "Dump",
    [
        ("config_path", str),
        ("has_mirrors", bool),
        ("has_cri", bool),
        ("pulls_itself", bool),
        ("imports", List[str]),
        ("rest", Sequence[Any]),
    ],
)
"""What `containerd config dump` says. CRI pulls by itself or leaves it to the transfer service; ``rest`` has no config_path."""


def table_of(line: str) -> Optional[Table]:
    """The table that a header opens; None for any other line."""
    header = HEADER.match(line)
    return tuple("".join(parts) for parts in PART.findall(header.group(1))) if header else None


def pairs(text: str) -> List[Tuple[Table, str, str]]:
    """Every `key = value` on one line with its table."""
    table, found = (), []  # type: Table, List[Tuple[Table, str, str]]
    for line in text.splitlines():
        opened, pair = table_of(line), PAIR.match(line)
        if opened is not None:
            table = opened
        elif pair:
            found.append((table, pair.group(1), pair.group(2)))
    return found


def is_registry(table: Table) -> bool:
    """Whether it is the table that config_path belongs in."""
    return table[:-1] in IMAGES.values() and table[-1:] == ("registry",)


def strings(value: str) -> List[str]:
    """The strings of an array on one line, or the one string."""
    return ["".join(parts) for parts in re.findall(r"\"([^\"]*)\"|'([^']*)'", value)]


def parse_dump(text: str) -> Dump:
    """The settings in `containerd config dump`, which shows what the files together come to."""
    settings = pairs(text)
    paths = [strings(value) for table, key, value in settings if is_registry(table) and key == "config_path"]
    tables = [table_of(line) or () for line in text.splitlines()]
    old = [
        table for table in tables if is_registry(table[:3]) and table[3:4] in (("mirrors",), ("configs",)) and table[4:]
    ]
    top = {key: strings(value) for table, key, value in settings if not table}
    has_cri = not {"cri", "io.containerd.grpc.v1.cri"} & set(top.get("disabled_plugins", []))
    # The file's own name is among the imports of containerd 1.
    own = [key for table, key, _ in settings if not table and key == "imports"] + ["config_path"]
    rest = [
        (table, key, value) for table, key, value in settings if key not in own or (table and not is_registry(table))
    ]
    pulls_itself = any(key == "use_local_image_pull" and value == "true" for _, key, value in settings)
    return Dump("".join(paths[0]) if paths else "", bool(old), has_cri, pulls_itself, top.get("imports", []), rest)


def with_config_path(raw: Optional[bytes], value: str, path: str) -> bytes:
    """The file with config_path set in the registry's table, between our marks. Raises Trouble."""
    text = "version = 2\n" if raw is None else raw.decode("utf-8", "replace")
    if raw is not None and text.encode("utf-8") != raw:
        raise Trouble("{} is not UTF-8; mend it".format(path))
    version = next(
        (int(item) for table, key, item in pairs(text) if not table and key == "version" and item.isdigit()), 1
    )
    wanted = IMAGES[min(version, 3)] + ("registry",)
    setting = "  config_path = " + '"{}"'.format(value)
    lines = text.splitlines(keepends=True)
    headers = [at for at, line in enumerate(lines) if table_of(line) == wanted]
    if not headers:
        header = "[{}]".format(".".join('"{}"'.format(part) if "." in part else part for part in wanted))
        return ((text if not text or text.endswith("\n") else text + "\n") + block([header, setting])).encode("utf-8")
    end = next((at for at in range(headers[0] + 1, len(lines)) if table_of(lines[at]) is not None), len(lines))
    inside = [line for line in lines[headers[0] + 1 : end] if not re.match(r"[ \t]*config_path[ \t]*=", line)]
    head = lines[: headers[0] + 1]
    head[-1] = head[-1].rstrip("\r\n") + "\n"
    return "".join(head + [block([setting])] + inside + lines[end:]).encode("utf-8")
