"""Programs that stand first on PATH while a script of `in_pod/` is tested: each a few lines of shell."""

from collections.abc import Mapping
from pathlib import Path


def write_programs(folder: Path, texts: Mapping[str, str]) -> None:
    """Beside those that are there already."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
