"""The storage account of the sandbox's Azure: its two keys on the host, how Azurite learns them, and renewing one."""

import subprocess

from sandbox.enter import in_machine
from sandbox.identities import AZURE_KEY_FILES, write_azure_key
from sandbox.layout import AZURE_ACCOUNT, AZURE_KEYS

SETTINGS = "/etc/azurite/accounts"
"""On the machine: an environment file, since every process there can read a command line."""


def keys() -> tuple[str, ...]:
    """Both keys, Azure's `key1` first."""
    return tuple((AZURE_KEYS / name).read_text() for name in AZURE_KEY_FILES)


def settings() -> str:
    return f"AZURITE_ACCOUNTS={':'.join((AZURE_ACCOUNT, *keys()))}\n"


def renew(number: int) -> str:
    """Give the account a new `key1` or `key2`; from then on the old one is refused, as in Azure."""
    write_azure_key(AZURE_KEYS / AZURE_KEY_FILES[number - 1])
    writing = in_machine("azurite", ["sh", "-c", f"umask 077 && cat > {SETTINGS} && systemctl restart azurite"])
    subprocess.run(writing, input=settings(), text=True, check=True)
    return keys()[number - 1]
