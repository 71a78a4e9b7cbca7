"""The stand-ins reach the sandbox's networks and nothing else."""

from __future__ import annotations

import pytest

from sandbox.providers.boundary import Boundary, OutsideSandboxError

NETWORKS = {"SANDBOX_NETWORKS": "10.30.0.0/24, 127.0.0.0/8,"}
NAMES = {"node": ["10.30.0.11"], "public": ["203.0.113.7"], "both": ["10.30.0.11", "203.0.113.7"], "nothing": []}


def resolve(host: str) -> list[str]:
    return NAMES.get(host, [host])


@pytest.mark.parametrize(("host", "address"), [("10.30.0.11", "10.30.0.11"), ("node", "10.30.0.11")])
def test_a_host_inside_is_admitted_by_its_address(host: str, address: str) -> None:
    assert Boundary.from_environment(NETWORKS, resolve).admit(host) == address


@pytest.mark.parametrize("host", ["10.30.1.1", "public", "both", "nothing", "::1"])
def test_a_host_of_which_anything_lies_outside_is_refused_by_name(host: str) -> None:
    with pytest.raises(OutsideSandboxError, match=rf'"{host}".*only serve the sandbox'):
        Boundary.from_environment(NETWORKS, resolve).admit(host)


@pytest.mark.parametrize("environment", [{}, {"SANDBOX_NETWORKS": ""}, {"SANDBOX_NETWORKS": " , "}])
def test_without_networks_everything_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(OutsideSandboxError, match=r'"127\.0\.0\.1".*names no network'):
        Boundary.from_environment(environment, resolve).admit("127.0.0.1")


def test_a_malformed_network_is_refused_rather_than_ignored() -> None:
    with pytest.raises(OutsideSandboxError, match=r"SANDBOX_NETWORKS holds something that is no network"):
        Boundary.from_environment({"SANDBOX_NETWORKS": "10.30.0.1/24"})
