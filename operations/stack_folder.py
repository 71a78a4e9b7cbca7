"""A project folder of its own in which pulumi encrypts: the stack's file is not touched before everything is done."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from importing.existing import CONFIG
from operations import stacks
from operations.stacks import ROOT, OperationError, StackName
from settings.stack import PREFIX

PROJECT_FILE = "Pulumi.yaml"


class StackFolder:
    """Holds Pulumi.yaml and a copy of the stack's file. Its secrets are encrypted in it and nowhere else."""

    def __init__(self, stack: StackName, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._has_created = False
        shutil.copy(ROOT / PROJECT_FILE, folder)

    @property
    def file(self) -> Path:
        return self._folder / self._stack.file.name

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def ensure_stack(self) -> None:
        """Ciphers are a stack's own: without it there are none. Raises OperationError."""
        stacks.require_pulumi(self._stack)
        # Nothing is selected: pulumi would remember it for this folder, which is soon gone.
        if self._run("stack", "--show-name").returncode == 0:
            return
        created = self._run("stack", "init", "--no-select")
        if created.returncode:
            raise OperationError(f"pulumi can't make the stack {self._stack.name}: {created.stderr.strip()}")
        self._has_created = True

    def forget_stack(self) -> None:
        """Take back a stack that was made here for a file that is not written."""
        if self._has_created:
            self._run("stack", "rm", "--yes", "--preserve-config")

    def decrypt(self) -> dict[str, object]:
        """The values of the file that stands here, by key; secrets in plain text. Raises OperationError."""
        self.ensure_stack()
        result = self._run("config", "--json", "--show-secrets")
        if result.returncode:
            raise OperationError(f"pulumi can't read the configuration of {self._stack.name}: {result.stderr.strip()}")
        items: dict[str, dict[str, object]] = json.loads(result.stdout)
        return {key: item.get("objectValue", item.get("value")) for key, item in items.items()}

    def encrypt(self, texts: Iterable[str]) -> list[str]:
        """Pulumi's ciphers of the texts, which go by standard input. Raises OperationError."""
        keys = {f"{PREFIX}import{number}": text for number, text in enumerate(texts)}
        if not keys:
            return []
        self.ensure_stack()
        for key, text in keys.items():
            result = self._run("config", "set", "--secret", "--raw", key, text=text)
            if result.returncode:
                raise OperationError(f"pulumi can't encrypt for the stack {self._stack.name}: {result.stderr.strip()}")
        written = yaml.safe_load(self.file.read_text(encoding="utf-8"))[CONFIG]
        return [written[key]["secure"] for key in keys]

    def of_pulumi(self) -> Mapping[str, object]:
        """What the encryption has left beside the configuration, such as encryptionsalt."""
        document = yaml.safe_load(self.file.read_text(encoding="utf-8")) if self.file.exists() else None
        return {key: value for key, value in (document or {}).items() if key != CONFIG}

    def _run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self._stack.pulumi(*arguments, "--non-interactive", "--cwd", str(self._folder))
        return subprocess.run(
            command,
            cwd=self._folder,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def stack_folder(stack: StackName) -> Iterator[StackFolder]:
    """A folder that only its user can enter, and that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="docker-cache-import-") as name:
        yield StackFolder(stack, Path(name))


def replace_file(file: Path, text: str) -> None:
    """All of the text or nothing: a reader never sees half of it."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
