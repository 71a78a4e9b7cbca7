"""What stands before the front (TLS) and around the pods (network policies), recorded by mocks."""

from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.front_tls import ExistingSecret, FrontTlsArgs, GivenPair, create_front_tls
from components.pod import Sidecar
from rendering import haproxy
from settings.tls import TlsPair
from tests.unit.recording import CONFIG_MAP, DEPLOYMENT, FRONT, SECRET, SERVICE, Recorder, deploy, stack
from tests.unit.stacks import node

POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
OF_THE_CACHE = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "docker-cache"}}}


def tls(certificate: GivenPair | ExistingSecret) -> dict[str, Any]:
    """The sidecar's container and volumes, when everything that they name is made."""
    made: dict[str, Any] = {}

    def run() -> pulumi.Output[Any]:
        args = FrontTlsArgs(image="haproxy:3.2.4", certificate=certificate)
        sidecar: Sidecar = create_front_tls("tls", "images", args, 8081, pulumi.ResourceOptions())
        return pulumi.Output.from_input({"container": sidecar.container, "volumes": list(sidecar.volumes)}).apply(
            made.update
        )

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    return made


def policies(recorder: Recorder, **keys: str) -> dict[str, Any]:
    deploy(stack(**keys))
    return {resource.name: resource.inputs["spec"] for resource in recorder.of(POLICY)}


def front(recorder: Recorder) -> dict[str, Any]:
    spec: dict[str, Any] = recorder.named(DEPLOYMENT, FRONT)["spec"]["template"]["spec"]
    return spec


def test_a_given_pair_is_a_secret_of_the_kind_that_kubernetes_knows(recorder: Recorder) -> None:
    made = tls(GivenPair(certificate="the-certificate", key="the-key"))
    secret = recorder.one(SECRET)
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["stringData"] == {"tls.crt": "the-certificate", "tls.key": "the-key"}
    assert "name" not in secret["metadata"], "another pair is another Secret, so that the pods roll"
    assert made["volumes"][1]["secret"] == {"secret_name": "tls-certificate-made", "default_mode": 0o440}
    assert "the-key" not in str(recorder.one("kubernetes:core/v1:ConfigMap"))


def test_a_secret_that_exists_is_mounted_and_never_made(recorder: Recorder) -> None:
    made = tls(ExistingSecret(name="cache-tls"))
    assert recorder.of(SECRET) == []
    assert made["volumes"][1]["secret"]["secret_name"] == "cache-tls"
    mounts = {mount["name"]: mount for mount in made["container"]["volume_mounts"]}
    assert mounts["tls-certificate"] == {
        "name": "tls-certificate",
        "mount_path": haproxy.CERTIFICATES,
        "read_only": True,
    }
    assert "sub_path" not in mounts["tls-certificate"], "the kubelet renews no file that is mounted by itself"


@pytest.mark.usefixtures("recorder")
def test_what_ends_tls_has_few_rights_and_leaves_as_slowly_as_the_front() -> None:
    container = tls(ExistingSecret(name="cache-tls"))["container"]
    assert container["security_context"]["read_only_root_filesystem"] is True
    assert container["security_context"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert container["lifecycle"]["pre_stop"]["exec_"]["command"] == ["sleep", "5"]
    assert container["ports"] == [{"name": "https", "container_port": haproxy.PORT}]


def test_haproxy_hands_on_the_clients_address_and_takes_no_old_tls() -> None:
    text = haproxy.configuration(8081)
    assert "server front 127.0.0.1:8081 send-proxy-v2\n" in text, "the front decides by the client's own address"
    assert "ssl-min-ver TLSv1.2" in text
    assert "timeout client-hs 10s" in text, "else a client that never ends its handshake is waited for for minutes"
    assert "ssl-load-extra-del-ext" in text, "the key is tls.key, not tls.crt.key"


def test_the_registries_are_the_fronts_alone(recorder: Recorder) -> None:
    policy = policies(recorder)["docker-cache-registry"]
    of_registries = {"app.kubernetes.io/name": "docker-cache-registry", "app.kubernetes.io/part-of": "docker-cache"}
    assert policy["podSelector"] == {"matchLabels": of_registries}
    assert policy["policyTypes"] == ["Ingress"], "what the pods reach is not our business"
    assert policy["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": of_registries | {"app.kubernetes.io/name": "docker-cache-front"}}}]},
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": 9100}]},
    ]


ENTRIES = [{"port": 8082}, {"port": 8443}]
"""Plain and TLS: nodes that change over need both."""
CIDRS = {"docker_cache_allowed_cidrs": '["10.0.0.0/8", "fd00::/8"]'}


@pytest.mark.parametrize(
    ("keys", "entry"),
    [
        ({}, {"ports": ENTRIES}),
        (CIDRS, {"ports": ENTRIES, "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]}),
    ],
)
def test_the_entry_is_everybodys_or_that_of_the_allowed_networks(
    recorder: Recorder, keys: dict[str, str], entry: dict[str, Any]
) -> None:
    policy = policies(recorder, **keys)["docker-cache-front"]
    assert policy["ingress"] == [
        entry,
        {"from": [OF_THE_CACHE]},
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": 9100}]},
    ], "the front's other port is for the cache's own pods"


def test_policies_come_once_the_nodes_are_led_to_the_front(recorder: Recorder) -> None:
    deploy(stack())
    for name in ("docker-cache-front", "docker-cache-registry"):
        waits_for = recorder.dependencies[POLICY, name]
        assert "docker-cache-30500" in waits_for, "a cache from before the front would be cut off from its nodes"


def test_policies_can_be_left_to_others(recorder: Recorder) -> None:
    assert policies(recorder, docker_cache_network_policy="false") == {}


def test_with_a_certificate_the_nodes_come_to_what_ends_tls(recorder: Recorder) -> None:
    subject = stack(docker_cache_tls_certificate="a path", docker_cache_tls_key="a key", docker_cache_tls_image="h:3")
    deploy(replace(subject, tls=TlsPair(certificate="the-certificate", key="the-key")))
    (port,) = recorder.named(SERVICE, "docker-cache-30500")["spec"]["ports"]
    assert port["targetPort"] == "https"
    (inside,) = recorder.named(SERVICE, FRONT)["spec"]["ports"]
    assert inside["targetPort"] == "http", "what runs in the cluster needs no CA"
    (container,) = [container for container in front(recorder)["containers"] if container["name"] == "tls"]
    assert container["image"] == "h:3"
    assert "externalTrafficPolicy" not in recorder.named(SERVICE, "docker-cache-30500")["spec"]
    assert recorder.named(SECRET, "docker-cache-front-tls-certificate")["stringData"]["tls.key"] == "the-key"


def test_with_allowed_networks_the_front_sees_the_clients_and_runs_where_they_come_in(recorder: Recorder) -> None:
    deploy(stack(**CIDRS))
    service = recorder.named(SERVICE, "docker-cache-30500")["spec"]
    assert service["externalTrafficPolicy"] == "Local", "else another node's address stands for the client's"
    assert names_of_nodes(recorder) == ["m1"], "at another node's address nobody would answer, nor here for it"
    text = recorder.named(CONFIG_MAP, FRONT)["data"]["front.vcl"]
    assert 'acl allowed {\n    "10.0.0.0"/8;\n    "fd00::"/8;\n}' in text
    healthy, _, after = text.partition('if (local.socket != "http" && client.ip !~ allowed')
    assert "return (synth(403" in after
    assert 'req.url == "/healthz"' in healthy, "the kubelet's address is the node's, and it is not asked for it"


def test_without_allowed_networks_everybody_may_come_and_the_front_may_run_anywhere(recorder: Recorder) -> None:
    deploy(stack())
    assert "affinity" not in front(recorder)
    assert "acl allowed" not in recorder.named(CONFIG_MAP, FRONT)["data"]["front.vcl"]


def test_each_master_that_is_an_entry_has_a_front_of_its_own(recorder: Recorder) -> None:
    nodes = [node(name, f"10.0.0.{number}", kube_master=name != "w1") for number, name in enumerate(["m1", "w1", "m2"])]
    deploy(stack(nodes, docker_cache_entries="masters", docker_cache_replicas="2", **CIDRS))
    assert names_of_nodes(recorder) == ["m1", "m2"]
    (spread,) = front(recorder)["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["matchLabelKeys"] == ["pod-template-hash"], "the pods that are on their way out count for nothing"


def test_with_an_entry_of_the_users_own_the_front_runs_where_there_is_room(recorder: Recorder) -> None:
    deploy(stack(docker_cache_entry="https://cache.example", **CIDRS))
    assert "affinity" not in front(recorder)


def names_of_nodes(recorder: Recorder) -> list[str]:
    required = front(recorder)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [value for term in required["nodeSelectorTerms"] for value in term["matchFields"][0]["values"]]
