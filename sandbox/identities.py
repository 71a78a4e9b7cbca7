"""Keys and certificates of one sandbox run: its CA, Hub's face, the cluster's components, ssh, the Azure account."""

import base64
import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.layout import AZURE_ADDRESS, ROBOT, ROBOT_FILE

API_SERVER = "https://10.30.0.10:6443"
CONTEXT = "sandbox"
HUB_NAMES = ("registry-1.docker.io", "auth.docker.io", "mirror.example", "quay.io", "ghcr.io", "private.example")
COMPONENT_USERS = {
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "kubelet": ("system:node:pai-master", "system:nodes"),
}
AZURE_KEY_FILES = ("account_key", "account_key2")
"""An account has two keys, so that one can be renewed while the other is in use."""
VALIDITY = datetime.timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate with its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs what one sandbox run needs."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = subject("docker-cache sandbox CA", None)
        builder = certificate(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = pem(builder.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, group: str | None = None, hosts: tuple[str, ...] = ()) -> Pair:
        """A certificate for a client, and for a server where `hosts` are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = certificate(subject(name, group), self._name, key.public_key())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(host) for host in hosts]), critical=False
            )
        return Pair(certificate=pem(builder.sign(self._key, hashes.SHA256())), key=private_pem(key))

    def kubeconfig(self, name: str, group: str | None) -> str:
        pair = self.issue(name, group)
        cluster = {"server": API_SERVER, "certificate-authority-data": as_base64(self.certificate)}
        user = {"client-certificate-data": as_base64(pair.certificate), "client-key-data": as_base64(pair.key)}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": CONTEXT, "cluster": cluster}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
                "current-context": CONTEXT,
            }
        )


def write(folder: Path, kubeconfig: Path) -> None:
    """Write everything below `folder`: `hub/`, `kubernetes/`, `ssh/`, `azurite/`, `azure/` and `ca.crt`."""
    authority = Authority()
    save(folder / "ca.crt", authority.certificate)
    save_pair(
        folder / "hub" / "hub",
        authority.issue("registry-1.docker.io", None, (*HUB_NAMES, "10.30.0.2")),
    )
    save(folder / "hub" / ROBOT_FILE.name, f"{ROBOT}:{secrets.token_hex(16)}".encode())
    write_kubernetes(folder / "kubernetes", authority)
    save(kubeconfig, authority.kubeconfig("kubernetes-admin", "system:masters").encode())
    for name in ("ssh_host_ed25519_key", "id_ed25519"):
        write_ssh_key(folder / "ssh" / name)
    save_pair(folder / "azurite" / "azurite", authority.issue("azurite", None, (AZURE_ADDRESS, "127.0.0.1")))
    for name in AZURE_KEY_FILES:
        write_azure_key(folder / "azure" / name)


def write_kubernetes(folder: Path, authority: Authority) -> None:
    hosts = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1", "10.30.0.10", "127.0.0.1")
    save(folder / "pki" / "ca.crt", authority.certificate)
    save_pair(folder / "pki" / "apiserver", authority.issue("kube-apiserver", None, hosts))
    save_pair(folder / "pki" / "apiserver-kubelet", authority.issue("kube-apiserver-kubelet", "system:masters"))
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    save(folder / "pki" / "sa.key", private_pem(signing))
    public = signing.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    save(folder / "pki" / "sa.pub", public)
    for component, (user, group) in COMPONENT_USERS.items():
        save(folder / f"{component}.kubeconfig", authority.kubeconfig(user, group).encode())


def write_ssh_key(path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    encoding = serialization.Encoding.PEM
    save(path, key.private_bytes(encoding, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    save(path.with_name(f"{path.name}.pub"), public + b"\n")


def write_azure_key(path: Path) -> None:
    """As Azure makes them: 64 random bytes."""
    save(path, as_base64(secrets.token_bytes(64)).encode())


def certificate(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
    )


def subject(name: str, group: str | None) -> x509.Name:
    organization = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(signed: x509.Certificate) -> bytes:
    return signed.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def save_pair(path: Path, pair: Pair) -> None:
    save(path.with_name(f"{path.name}.crt"), pair.certificate)
    save(path.with_name(f"{path.name}.key"), pair.key)


def save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
