"""Private keys as pulumi-command can use them: ssh itself would name each node, and not the key, for one that it can't."""

from dataclasses import dataclass
from functools import lru_cache

import asyncssh

LOCKED_PKCS8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
"""What openssl writes; Go's ssh does not open it (golang.org/x/crypto/ssh, `ParseRawPrivateKeyWithPassphrase`)."""


@dataclass(frozen=True, kw_only=True)
class PrivateKeyPlace:
    """The names, in the configuration, of a key and of its passphrase."""

    key: str
    passphrase: str


@lru_cache
def load_private_key(text: str, passphrase: str | None) -> asyncssh.SSHKey:
    """Raises ValueError. Cached, since to open a locked key takes a tenth of a second, and a thousand nodes have the same."""
    return asyncssh.import_private_key(text, passphrase)


def is_locked(text: str) -> bool:
    try:
        load_private_key(text, None)
    except ValueError as error:
        # asyncssh has no kind of its own for a key that is locked.
        return "passphrase" in str(error).lower()
    return False


def private_key_problems(place: PrivateKeyPlace, text: str, passphrase: str | None) -> list[str]:
    if not is_locked(text):
        try:
            load_private_key(text, None)
        except ValueError:
            return [f"{place.key} is not a private key (its value is not shown): give a file as ssh-keygen writes it"]
        return []
    if LOCKED_PKCS8 in text:
        return [
            f"{place.key} is locked in openssl's form, which can't be used: `ssh-keygen -p -f FILE` writes it in ssh's own"
        ]
    if passphrase is None:
        return [f"{place.key} has a passphrase: set {place.passphrase} to it (a secret), or use an ssh agent"]
    try:
        load_private_key(text, passphrase)
    except ValueError:
        return [f"{place.passphrase} does not open {place.key} (its value is not shown)"]
    return []
