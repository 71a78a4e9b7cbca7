"""group_vars/ and host_vars/ beside an inventory: a file or a folder for each name."""

from collections.abc import Collection, Iterator
from pathlib import Path

from importing.findings import Findings, ImportProblems
from importing.groups import Variable
from importing.yaml_files import VAULT_FILE, read_mapping, read_text

SUFFIXES = ("", ".yml", ".yaml", ".json")


def read_variable_files(folder: Path, names: Collection[str], findings: Findings) -> dict[str, dict[str, Variable]]:
    """The variables of each name that has files; files of other names are reported. Problems are collected."""
    if not folder.is_dir():
        return {}
    entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry))
    known = {entry: name for entry in entries if (name := name_of(entry)) in names}
    findings.ignored += [
        f"{folder.name}/{entry.name} (the inventory has no such name)" for entry in entries if entry not in known
    ]
    found: dict[str, dict[str, Variable]] = {}
    for entry, name in known.items():
        for file in files_in(entry):
            found.setdefault(name, {}).update(read_file(file, folder, findings))
    return found


def name_of(entry: Path) -> str:
    return entry.stem if entry.is_file() and entry.suffix in SUFFIXES else entry.name


def files_in(entry: Path) -> Iterator[Path]:
    if not entry.is_dir():
        yield entry
        return
    for file in sorted(entry.iterdir()):
        if not is_hidden(file) and (file.is_dir() or file.suffix in SUFFIXES):
            yield from files_in(file)


def read_file(file: Path, folder: Path, findings: Findings) -> dict[str, Variable]:
    shown = str(file.relative_to(folder.parent))
    try:
        if read_text(file).startswith(VAULT_FILE):
            findings.unusable.append(
                f"{shown} is encrypted by ansible-vault: what it holds is not known here; set it in the stack by hand"
            )
            return {}
        values = read_mapping(file, shown)
    except ImportProblems as error:
        findings.problems += error.problems
        return {}
    return {key: Variable(value=value, source=f"{shown}: {key}") for key, value in values.items()}


def is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(("~", ".bak", ".orig", ".swp"))
