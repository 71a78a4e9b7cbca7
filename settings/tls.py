"""The certificate that the cache shows its clients, with its key: read, and tried against what the nodes will hold it to."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from settings.model import Settings
from settings.values import read_file

CERTIFICATE, KEY, KEY_PATH = "docker_cache_tls_certificate", "docker_cache_tls_key", "docker_cache_tls_key_path"
SOON = timedelta(days=30)
"""What a certificate that is renewed in time has left at least; one that others renew, less where it does not last long."""


@dataclass(frozen=True, kw_only=True)
class TlsPair:
    """PEM texts: the server's certificate, with those between it and the CA after it, and its key."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What messages call the two halves of a pair."""

    certificate: str = CERTIFICATE
    key: str = KEY


def read_tls(settings: Settings, base: Path, entry_ca: str | None, problems: list[str]) -> TlsPair | None:
    """None where the configuration holds no pair, or one that can't be used: then the reasons are added to the list."""
    certificate, key = settings.docker_cache_tls_certificate, settings.docker_cache_tls_key
    if certificate is None or settings.docker_cache_custom_registry:
        return None
    texts = (
        read_pem(certificate, CERTIFICATE, base, problems),
        read_pem(key.get_secret_value(), KEY, base, problems)
        if key
        else read_pem(settings.docker_cache_tls_key_path, KEY_PATH, base, problems),
    )
    if texts[0] is None or texts[1] is None:
        return None
    pair = TlsPair(certificate=texts[0], key=texts[1])
    found = list(pair_problems(pair, settings, entry_ca, Source(key=KEY if key else KEY_PATH)))
    problems += found
    return None if found else pair


def read_pem(given: str | None, name: str, base: Path, problems: list[str]) -> str | None:
    """A text stands for itself, anything else is a path; without a value a rule has its message already."""
    if given is None:
        return None
    if "-----BEGIN" in given or name == KEY:
        return given.strip() + "\n"
    try:
        return read_file(given, base)
    except ValueError as error:
        problems.append(f"{name} {error}")
        return None


def pair_problems(pair: TlsPair, settings: Settings, entry_ca: str | None, source: Source) -> Iterator[str]:
    """What HAProxy would refuse, and what the nodes would."""
    if "PRIVATE KEY" in pair.certificate:
        yield f"{source.certificate} holds a private key (its value is not shown): give it by docker_cache_tls_key"
        return
    try:
        chain = x509.load_pem_x509_certificates(pair.certificate.encode())
    except ValueError:
        yield f"{source.certificate} is not a certificate: give a file with -----BEGIN CERTIFICATE-----, or its text"
        return
    yield from key_problems(pair.key, chain[0], source)
    yield from time_problems(chain, source)
    if not settings.docker_cache_entry_insecure:
        yield from host_problems(chain[0], settings, source)
        yield from ca_problems(chain, entry_ca, source)


def key_problems(text: str, server: x509.Certificate, source: Source) -> Iterator[str]:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield f"{source.key} can't be read (its value is not shown): give the key's PEM text, without a passphrase"
        return
    if public_bytes(key.public_key()) != public_bytes(server.public_key()):
        yield (
            f"{source.key} is not the key of {source.certificate}: give the two that belong together, the server's own "
            "certificate first and those between it and the CA after it"
        )


def public_bytes(key: object) -> bytes:
    """Of a key that has such a form, which all have that certificates are made with."""
    to_bytes = getattr(key, "public_bytes")  # noqa: B009 - the library's union of kinds has some without it
    return bytes(to_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def time_problems(chain: list[x509.Certificate], source: Source) -> Iterator[str]:
    now = datetime.now(UTC)
    for certificate in chain:
        if certificate.not_valid_after_utc <= now:
            yield f"{source.certificate} has ended on {certificate.not_valid_after_utc:%Y-%m-%d}: renew it"
        elif certificate.not_valid_before_utc > now:
            yield (
                f"{source.certificate} begins on {certificate.not_valid_before_utc:%Y-%m-%d}: use one that is valid, and see "
                "whether this machine's clock is right"
            )


def host_problems(server: x509.Certificate, settings: Settings, source: Source) -> Iterator[str]:
    """The engines look at the subject's alternative names alone, and no longer at its common name."""
    names = server_names(server)
    for host in entry_hosts(settings):
        if not any(covers(name, host) for name in names):
            yield (
                f"{source.certificate} is not for {host}, by which the nodes reach the cache: it is for "
                f"{', '.join(names) or 'no host'}; make one with the subjectAltName {name_of(host)}"
            )


def entry_hosts(settings: Settings) -> list[str]:
    if not settings.has_entry:
        return []
    urls = [settings.entry, *(url for urls in settings.entries.values() for url in urls)]
    return list(dict.fromkeys(urlsplit(url).hostname or "" for url in urls))


def server_names(server: x509.Certificate) -> list[str]:
    """As openssl writes them: `DNS:cache.example`, `IP:10.0.0.1`."""
    try:
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [
        *(f"DNS:{name}" for name in names.get_values_for_type(x509.DNSName)),
        *(f"IP:{address}" for address in names.get_values_for_type(x509.IPAddress)),
    ]


def name_of(host: str) -> str:
    """What a client looks for: an address is no name, even where it stands among the names."""
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host.lower().rstrip('.')}"


def covers(name: str, host: str) -> bool:
    """A wildcard stands for one label."""
    kind, _, text = name.partition(":")
    wanted_kind, _, wanted = name_of(host).partition(":")
    text = text.lower().rstrip(".")
    is_wild = kind == "DNS" and text.startswith("*.")
    return kind == wanted_kind and (text == wanted or (is_wild and wanted.partition(".")[2] == text[2:]))


def ca_problems(chain: list[x509.Certificate], entry_ca: str | None, source: Source) -> Iterator[str]:
    authorities = x509.load_pem_x509_certificates(entry_ca.encode()) if entry_ca else []
    if authorities and not leads_to(authorities, chain[0], chain[1:]):
        yield (
            f"docker_cache_entry_ca is not the CA of {source.certificate}: the nodes would refuse it; give the CA that has "
            "issued it, and with the certificate those between the two"
        )


def leads_to(authorities: list[x509.Certificate], server: x509.Certificate, others: list[x509.Certificate]) -> bool:
    """From the server's own certificate up, as a client goes: what else lies in the chain counts for nothing."""
    if any(is_issued(server, by) for by in authorities):
        return True
    return any(
        leads_to(authorities, by, [other for other in others if other is not by])
        for by in others
        if is_issued(server, by)
    )


def is_issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """Also where it is the CA's own."""
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == by
    return True


def tls_cautions(pair: TlsPair | None, settings: Settings) -> Iterator[str]:
    """Of a given pair that is right by itself."""
    if pair is None:
        return
    server = x509.load_pem_x509_certificates(pair.certificate.encode())[0]
    if server.not_valid_after_utc - datetime.now(UTC) < SOON:
        yield (
            f"{CERTIFICATE} ends on {server.not_valid_after_utc:%Y-%m-%d}: then no node can pull through the cache; renew it "
            "and run `pulumi up`, or use docker_cache_tls_secret, which is renewed without"
        )
    yield from signed_by_itself(server, settings, Source())


def secret_cautions(pair: TlsPair, settings: Settings, source: Source) -> Iterator[str]:
    """Of a Secret's pair that is right by itself, and that somebody else is to renew: cert-manager does when a third is left."""
    server = x509.load_pem_x509_certificates(pair.certificate.encode())[0]
    end = server.not_valid_after_utc
    if end - datetime.now(UTC) < min(SOON, (end - server.not_valid_before_utc) / 4):
        yield (
            f"{source.certificate} ends on {end:%Y-%m-%d} and has not been renewed: then no node can pull through the cache; see "
            "what is to renew it (`kubectl describe certificate`), or put another pair into the Secret"
        )
    yield from signed_by_itself(server, settings, source)


def signed_by_itself(server: x509.Certificate, settings: Settings, source: Source) -> Iterator[str]:
    if server.issuer == server.subject and not settings.docker_cache_entry_ca:
        yield (
            f"{source.certificate} is signed by itself, and docker_cache_entry_ca is not set: a node takes it only where it is "
            "among the node's own CAs; set docker_cache_entry_ca to the certificate as well"
        )
