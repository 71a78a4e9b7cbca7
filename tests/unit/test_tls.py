"""The certificate that the cache shows: what is refused before a node would refuse it."""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import kubernetes
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sandbox.identities import Authority
from settings import cluster
from settings.loading import SettingsError, load
from settings.model import Settings
from settings.stack import Stack, read_stack
from settings.tls import TlsPair, covers, read_tls, tls_cautions
from tests.unit.messages import remember
from tests.unit.stacks import HTPASSWD, configuration

AUTHORITY = Authority()
SOUND = AUTHORITY.issue("cache", None, ("10.0.0.1", "cache.example"))
CERTIFICATE, KEY = SOUND.certificate.decode(), SOUND.key.decode()
PAIR = {"docker_cache_tls_certificate": CERTIFICATE, "docker_cache_tls_key": KEY}
NUMBERS = itertools.count()


def checked(**keys: str) -> Settings:
    settings = load(configuration(**keys).get)
    assert isinstance(settings, Settings)
    return settings


def problems(**keys: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_stack(configuration(**keys).get, Path(), {}, ask=lambda *_: cluster.Answer())
    remember(caught.value.problems)
    return caught.value.problems


def read(**keys: str) -> Stack:
    stack = read_stack(configuration(**keys).get, Path(), {}, ask=lambda *_: cluster.Answer())
    assert isinstance(stack, Stack)
    remember(stack.cautions)
    return stack


@dataclass(frozen=True, kw_only=True)
class Made:
    certificate: str
    key: str

    def keys(self, chain: str = "") -> dict[str, str]:
        return {"docker_cache_tls_certificate": chain or self.certificate, "docker_cache_tls_key": self.key}


def made(
    begins: timedelta = timedelta(days=-2),
    lasts: timedelta = timedelta(days=365),
    passphrase: str = "",
    names: Sequence[str] = (),
    by: Made | None = None,
) -> Made:
    """A certificate for 10.0.0.1 (or for names), signed by another one or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"cache {next(NUMBERS)}")])
    issuer = x509.load_pem_x509_certificate(by.certificate.encode()).subject if by else name
    signing = load_pem_private_key(by.key.encode(), None) if by else key
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    listed: list[x509.GeneralName] = [x509.DNSName(each) for each in names] or [x509.IPAddress(ip_address("10.0.0.1"))]
    begin = datetime.now(UTC) + begins
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + lasts)
        .add_extension(x509.SubjectAlternativeName(listed), critical=False)
    )
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return Made(
        certificate=builder.sign(signing, SHA256()).public_bytes(Encoding.PEM).decode(),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode(),
    )


def test_with_a_certificate_the_entry_is_https() -> None:
    assert checked(**PAIR).entry == "https://10.0.0.1:30500"
    assert checked(docker_cache_tls_secret="cache-tls").entry == "https://10.0.0.1:30500"


def test_a_pair_is_read_from_texts_and_from_files(tmp_path: Path) -> None:
    files = {"docker_cache_tls_certificate": tmp_path / "tls.crt", "docker_cache_tls_key_path": tmp_path / "tls.key"}
    (tmp_path / "tls.crt").write_text(CERTIFICATE)
    (tmp_path / "tls.key").write_text(KEY)
    expected = TlsPair(certificate=CERTIFICATE, key=KEY)
    assert read(**PAIR).tls == expected
    assert read(**{key: str(path) for key, path in files.items()}).tls == expected
    assert KEY.splitlines()[1] not in repr(read(**PAIR)), "the key is a secret"
    (message,) = problems(**{key: str(path) for key, path in files.items()} | {"docker_cache_tls_key_path": "absent"})
    assert message == 'docker_cache_tls_key_path is "absent": the file can\'t be read: No such file or directory'


def test_the_halves_go_together_and_there_is_one_certificate() -> None:
    (message,) = problems(docker_cache_tls_certificate=CERTIFICATE)
    assert message.startswith("docker_cache_tls_key is missing: docker_cache_tls_certificate is set")
    (message,) = problems(docker_cache_tls_key=KEY)
    assert message.startswith("docker_cache_tls_certificate is missing: docker_cache_tls_key is set")
    assert KEY.splitlines()[1] not in message
    (message,) = problems(**PAIR, docker_cache_tls_key_path="key.pem")
    assert message == "docker_cache_tls_key and docker_cache_tls_key_path are both set: keep one of the two"
    (message,) = problems(**PAIR, docker_cache_tls_secret="cache-tls")
    assert message.startswith('docker_cache_tls_certificate is set and docker_cache_tls_secret is "cache-tls"')


def test_an_entry_of_the_users_own_is_https_too() -> None:
    (message,) = problems(**PAIR, docker_cache_entry="cache.example:443")
    assert message == (
        "docker_cache_entry is http://cache.example:443, but the cache answers by https, with its certificate: give the entry "
        "as https://cache.example:443"
    )
    assert read(**PAIR, docker_cache_entry="https://cache.example").tls


def test_what_is_no_certificate_and_what_is_no_key_are_named_without_their_values() -> None:
    (message,) = problems(**PAIR | {"docker_cache_tls_certificate": "-----BEGIN CERTIFICATE-----\nnonsense"})
    assert message.startswith("docker_cache_tls_certificate is not a certificate")
    (message,) = problems(**PAIR | {"docker_cache_tls_certificate": CERTIFICATE + KEY})
    assert message.startswith("docker_cache_tls_certificate holds a private key (its value is not shown)")
    (message,) = problems(**PAIR | {"docker_cache_tls_key": "the-key-of-keys"})
    assert message.startswith("docker_cache_tls_key can't be read (its value is not shown)")
    assert "the-key-of-keys" not in message
    (message,) = problems(**made(passphrase="opens").keys())
    assert message.startswith("docker_cache_tls_key can't be read"), "HAProxy asks nobody for a passphrase"


def test_the_key_of_another_certificate_is_found() -> None:
    (message,) = problems(**PAIR | {"docker_cache_tls_key": made().key})
    assert message.startswith("docker_cache_tls_key is not the key of docker_cache_tls_certificate")


def test_a_certificate_that_has_ended_or_not_begun_is_refused_and_one_that_ends_soon_is_warned_of() -> None:
    (message,) = problems(**made(lasts=timedelta(days=1)).keys())
    assert message.startswith("docker_cache_tls_certificate has ended on ")
    (message,) = problems(**made(begins=timedelta(days=1)).keys())
    assert message.startswith("docker_cache_tls_certificate begins on ")
    ending = made(lasts=timedelta(days=20))
    (caution,) = read(**ending.keys(), docker_cache_entry_ca=ending.certificate).cautions
    assert caution.startswith("docker_cache_tls_certificate ends on ")
    lasting = made()
    assert read(**lasting.keys(), docker_cache_entry_ca=lasting.certificate).cautions == ()
    assert list(tls_cautions(None, checked())) == []


def test_a_certificate_signed_by_itself_is_warned_of_where_no_node_is_given_it() -> None:
    (caution,) = read(**made().keys()).cautions
    assert "docker_cache_tls_certificate is signed by itself, and docker_cache_entry_ca is not set" in caution


def test_a_certificate_for_another_host_is_refused_unless_the_nodes_do_not_look() -> None:
    other = AUTHORITY.issue("10.0.0.1", None, ("cache.example",))
    keys = {"docker_cache_tls_certificate": other.certificate.decode(), "docker_cache_tls_key": other.key.decode()}
    (message,) = problems(**keys)
    assert message.startswith(
        "docker_cache_tls_certificate is not for 10.0.0.1, by which the nodes reach the cache: it is for DNS:cache.example;"
    ), "its common name counts for nothing"
    assert message.endswith("make one with the subjectAltName IP:10.0.0.1")
    assert read(**keys, docker_cache_entry="https://cache.example:30500").tls
    assert read(**keys, docker_cache_entry_insecure="true").tls


def test_a_certificate_has_to_be_for_every_entry_that_a_node_gets() -> None:
    (message,) = problems(**PAIR, docker_cache_entries="node")
    assert message.startswith("docker_cache_tls_certificate is not for 10.0.0.2, by which the nodes reach the cache")


@pytest.mark.parametrize(
    ("name", "host", "is_covered"),
    [
        ("DNS:cache.example", "CACHE.example", True),
        ("DNS:*.example", "cache.example", True),
        ("DNS:*.example", "a.cache.example", False),
        ("DNS:*.example", "example", False),
        ("IP:10.0.0.1", "10.0.0.1", True),
        ("IP:::1", "0:0:0:0:0:0:0:1", True),
        ("IP:10.0.0.1", "10.0.0.10", False),
        ("DNS:10.0.0.1", "10.0.0.1", False),
        ("DNS:*.0.0.1", "10.0.0.1", False),
    ],
)
def test_a_name_covers_what_a_client_would_take_it_for(name: str, host: str, is_covered: bool) -> None:
    assert covers(name, host) == is_covered


def test_the_ca_that_the_nodes_get_has_to_be_the_certificates() -> None:
    (message,) = problems(**PAIR, docker_cache_entry_ca=Authority().certificate.decode())
    assert message.startswith("docker_cache_entry_ca is not the CA of docker_cache_tls_certificate")
    assert read(**PAIR, docker_cache_entry_ca=AUTHORITY.certificate.decode()).tls


def test_an_address_among_the_names_is_none_that_a_node_would_take() -> None:
    named = made(names=("10.0.0.1",))
    (message,) = problems(**named.keys(), docker_cache_entry_ca=named.certificate)
    assert message.startswith("docker_cache_tls_certificate is not for 10.0.0.1,")
    assert "it is for DNS:10.0.0.1; make one with the subjectAltName IP:10.0.0.1" in message


def test_what_leads_to_the_ca_is_the_servers_own_certificate_and_not_what_lies_beside_it() -> None:
    root, other = made(), Authority().certificate.decode()
    between = made(by=root)
    server = made(by=between)
    chain = server.certificate + between.certificate
    assert read(**server.keys(chain), docker_cache_entry_ca=root.certificate).tls
    assert read(**server.keys(chain + root.certificate + other), docker_cache_entry_ca=root.certificate).tls
    for beside in (other, between.certificate + other):
        (message,) = problems(**server.keys(server.certificate + beside), docker_cache_entry_ca=other)
        assert message.startswith("docker_cache_entry_ca is not the CA of docker_cache_tls_certificate")
    (message,) = problems(**server.keys(server.certificate + root.certificate), docker_cache_entry_ca=root.certificate)
    assert message.startswith("docker_cache_entry_ca is not the CA of"), "the one between the two is missing"


def test_with_a_registry_of_the_users_own_the_pair_is_not_looked_at() -> None:
    settings = checked(**PAIR | {"docker_cache_tls_key": "nonsense"}, docker_cache_custom_registry="https://r.example")
    found: list[str] = []
    assert read_tls(settings, Path(), None, found) is None
    assert found == []


def secret_problems(monkeypatch: pytest.MonkeyPatch, secret: dict[str, object] | int) -> list[str]:
    return list(looked_at(monkeypatch, secret).problems)


def looked_at(
    monkeypatch: pytest.MonkeyPatch, secret: dict[str, object] | int, entry_ca: str | None = None
) -> cluster.Answer:
    """What is said of a Secret that the cluster has, or of the status that it answers with."""

    def get(*_: object, **__: object) -> dict[str, object]:
        if isinstance(secret, int):
            raise kubernetes.client.ApiException(status=secret)
        return secret

    monkeypatch.setattr(cluster, "get", get)
    given = {"docker_cache_entry_ca": entry_ca} if entry_ca else {}
    settings = checked(docker_cache_tls_secret="cache-tls", **given)
    found = cluster.look_at_tls_secret(kubernetes.client.ApiClient(), settings, entry_ca)
    remember([*found.problems, *found.cautions])
    return found


def tls_secret(certificate: str, key: str) -> dict[str, object]:
    data = {"tls.crt": certificate, "tls.key": key}
    return {
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }


def test_a_secret_that_is_named_has_to_be_there_with_a_pair_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = secret_problems(monkeypatch, 404)
    assert message.startswith('docker_cache_tls_secret is "cache-tls": there is no such Secret; make it with `kubectl ')
    assert secret_problems(monkeypatch, 403) == [], "who may not see it may still deploy"
    with pytest.raises(kubernetes.client.ApiException):
        secret_problems(monkeypatch, 500)
    assert secret_problems(monkeypatch, tls_secret(CERTIFICATE, KEY)) == []
    (message,) = secret_problems(monkeypatch, tls_secret(CERTIFICATE, KEY) | {"type": "Opaque"})
    assert message.endswith("that Secret is not of type kubernetes.io/tls, with tls.crt and tls.key; name one that is")
    (message,) = secret_problems(monkeypatch, tls_secret(CERTIFICATE, made().key))
    assert message.startswith(
        "tls.key of docker_cache_tls_secret cache-tls is not the key of tls.crt of docker_cache_tls_secret cache-tls"
    )


def test_without_the_key_no_secret_is_asked_for() -> None:
    assert cluster.look_at_tls_secret(kubernetes.client.ApiClient(), checked(), None) == cluster.Answer()


def test_a_secrets_pair_is_held_against_the_ca_that_the_nodes_get(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tls_secret(CERTIFICATE, KEY)
    assert looked_at(monkeypatch, secret, AUTHORITY.certificate.decode()) == cluster.Answer()
    (message,) = looked_at(monkeypatch, secret, Authority().certificate.decode()).problems
    assert message.startswith("docker_cache_entry_ca is not the CA of tls.crt of docker_cache_tls_secret cache-tls")


@pytest.mark.parametrize(
    ("lasts", "left", "is_said"), [(365, 29, True), (365, 31, False), (90, 29, False), (90, 20, True), (4, 1.1, False)]
)
def test_a_secrets_certificate_that_nobody_has_renewed_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, lasts: float, left: float, *, is_said: bool
) -> None:
    pair = made(begins=timedelta(days=left - lasts), lasts=timedelta(days=lasts))
    cautions = looked_at(monkeypatch, tls_secret(pair.certificate, pair.key), pair.certificate).cautions
    assert [caution.partition(" ends on ")[0] for caution in cautions] == [
        "tls.crt of docker_cache_tls_secret cache-tls"
    ] * is_said


def test_a_secrets_certificate_that_is_signed_by_itself_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made()
    (caution,) = looked_at(monkeypatch, tls_secret(pair.certificate, pair.key)).cautions
    assert "tls.crt of docker_cache_tls_secret cache-tls is signed by itself" in caution


def test_a_pair_without_nodes_is_one_problem_among_others() -> None:
    keys = {"docker_cache_nodes": "[]", "docker_cache_entry_ca": AUTHORITY.certificate.decode()}
    (message,) = problems(**PAIR, **keys)
    assert message.startswith("docker_cache_nodes is missing")
    credentials = {
        "docker_cache_entry_username": "u",
        "docker_cache_entry_password": "p",
        "docker_cache_htpasswd": HTPASSWD,
    }
    (message,) = problems(docker_cache_nodes="[]", **credentials)
    assert message.startswith("docker_cache_nodes is missing")
