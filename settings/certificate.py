"""The CA that the nodes trust the entry's certificate by."""

from pathlib import Path

from cryptography import x509

from settings.model import Settings
from settings.values import read_file

KEY = "docker_cache_entry_ca"


def read_certificate(settings: Settings, base: Path, problems: list[str]) -> str | None:
    """The PEM text of `docker_cache_entry_ca`, a file's path or the text itself; problems are added to the list."""
    given = settings.docker_cache_entry_ca
    if given is None:
        return None
    try:
        text = given.strip() + "\n" if "-----BEGIN" in given else read_file(given, base)
    except ValueError as error:
        problems.append(f"{KEY} {error}")
        return None
    return text if is_usable(text, problems) else None


def is_usable(text: str, problems: list[str]) -> bool:
    """A node would place whatever it is given, and docker would name the certificate of the registry and not this one."""
    if "PRIVATE KEY" in text:
        problems.append(f"{KEY} holds a private key (its value is not shown): give the CA's certificate alone")
        return False
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        problems.append(f"{KEY} is not a certificate: give a file with -----BEGIN CERTIFICATE-----, or its text")
        return False
    return True
