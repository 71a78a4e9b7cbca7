"""Configurations that the unit tests start from, as the engine hands them to the program: text by key."""

import base64
import json

import asyncssh

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: kubeconfig-token}}]
contexts: [{name: prod, context: {cluster: c, user: u}}]
current-context: prod
"""
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO3Hc4uQ0rPBRk7dMBEHFzeCnbJ1P3TIjzxCkmGZBRM1"
PRIVATE_KEY = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode().strip()


BCRYPT = "$2y$05$8VOCNDCGRpTh4STOqyYyT.H8uKBA3A9zjKFlpBqJ1Cw1V7bXTZvHW"


def htpasswd(*lines: str) -> str:
    return base64.b64encode("".join(f"{line}\n" for line in lines).encode()).decode()


HTPASSWD = htpasswd(f"alice:{BCRYPT}")


def node(name: str, host: str, **keys: object) -> dict[str, object]:
    return {"name": name, "host": host, "host_key": HOST_KEY, **keys}


def configuration(nodes: list[dict[str, object]] | None = None, /, **keys: str) -> dict[str, str]:
    """A valid enabled configuration with one master and one worker; `keys` are set on top."""
    listed = nodes if nodes is not None else [node("m1", "10.0.0.1", kube_master=True), node("w1", "10.0.0.2")]
    return {
        "enable_docker_cache": "true",
        "docker_cache_kubeconfig": KUBECONFIG,
        "docker_cache_kube_context": "prod",
        "docker_cache_ssh_private_key": PRIVATE_KEY,
        "docker_cache_nodes": json.dumps(listed),
        **keys,
    }
