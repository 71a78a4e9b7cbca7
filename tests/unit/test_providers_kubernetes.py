"""The kubernetes stand-in names, compares and replaces as the plugin does."""

from __future__ import annotations

import pytest

from sandbox.providers.kubernetes import KubernetesStandIn, adopted_entries
from sandbox.providers.kubernetes_readiness import judge_claim, judge_deployment, judge_job, judge_service, pod_reasons
from sandbox.providers.kubernetes_rules import (
    Defaults,
    Mutability,
    ObjectType,
    complete,
    difference,
    live_inputs,
    timeout_seconds,
)
from sandbox.providers.protocol import Difference, ProviderError
from sandbox.providers.values import UNKNOWN, Properties, Value, at

CONFIG_MAP = ObjectType("v1", "ConfigMap")
SECRET = ObjectType("v1", "Secret")
DEPLOYMENT = ObjectType("apps/v1", "Deployment")
DEFAULTS = Defaults("settings", "default", b"seed")


def named(data: Value = None, **extra: Value) -> Properties:
    return {"metadata": {"name": "n", "namespace": "default"}, "data": data, **extra}


def autonamed(data: Value) -> Properties:
    annotations: Value = {"pulumi.com/autonamed": "true"}
    return {"metadata": {"name": "n-1", "namespace": "default", "annotations": annotations}, "data": data}


def compared(kind: ObjectType, olds: Properties, news: Properties) -> Difference:
    return difference(kind, olds, news, Mutability())


def with_spec(**spec: Value) -> Properties:
    return {"metadata": {"name": "n", "namespace": "default"}, "spec": spec}


class Nothing:
    """A cluster that holds only the objects given."""

    def __init__(self, **objects: list[Properties]) -> None:
        self._objects = objects

    def find(self, kind: ObjectType, namespace: str, name: str) -> Properties | None:
        del namespace
        found = self._objects.get(kind.kind, [])
        return next((obj for obj in found if at(obj, "metadata", "name") == name), None)

    def list_all(self, kind: ObjectType, namespace: str, labels: str = "") -> list[Properties]:
        del namespace, labels
        return self._objects.get(kind.kind, [])


def test_type_tokens_name_an_api_and_a_kind() -> None:
    assert ObjectType.from_token("kubernetes:core/v1:Secret") == SECRET
    assert ObjectType.from_token("kubernetes:apps/v1:Deployment") == DEPLOYMENT


@pytest.mark.parametrize(
    "token", ["helm.sh/v3:Release", "core/v1:ConfigMapPatch", "core/v1:SecretList", "yaml:ConfigFile"]
)
def test_what_is_no_kind_of_an_api_is_not_served(token: str) -> None:
    assert ObjectType.from_token(f"kubernetes:{token}") is None


def test_a_nameless_object_gets_a_name_with_eight_hex_digits_and_is_marked() -> None:
    metadata = complete(CONFIG_MAP, {}, {}, Defaults("settings", "cache", b"seed"))["metadata"]
    name = str(at(metadata, "name"))
    assert name.startswith("settings-")
    assert int(name.removeprefix("settings-"), 16) >= 0
    assert len(name) == len("settings-") + 8
    assert at(metadata, "annotations", "pulumi.com/autonamed") == "true"
    assert at(metadata, "namespace") == "cache"


def test_the_same_seed_gives_the_same_name_in_preview_and_update() -> None:
    first, second = (complete(CONFIG_MAP, {}, {}, DEFAULTS) for _ in range(2))
    assert first == second


def test_an_update_keeps_the_automatic_name() -> None:
    completed = complete(CONFIG_MAP, autonamed({}), {"data": {}}, Defaults("settings", "default", b"another"))
    assert at(completed, "metadata", "name") == "n-1"
    assert at(completed, "metadata", "annotations", "pulumi.com/autonamed") == "true"


def test_a_name_that_the_program_gave_up_is_not_kept() -> None:
    completed = complete(CONFIG_MAP, named({}), {}, DEFAULTS)
    assert str(at(completed, "metadata", "name")).startswith("settings-")


def test_given_and_unknown_names_are_left_alone() -> None:
    for name in ("mine", UNKNOWN):
        completed = complete(CONFIG_MAP, {}, {"metadata": {"name": name}}, DEFAULTS)
        assert completed["metadata"] == {"name": name, "namespace": "default"}


def test_kinds_of_the_whole_cluster_get_no_namespace() -> None:
    completed = complete(ObjectType("storage.k8s.io/v1", "StorageClass"), {}, {}, DEFAULTS)
    assert at(completed, "metadata", "namespace") is None


def test_the_programs_inputs_are_not_touched_by_completing_them() -> None:
    news: Properties = {"metadata": {"annotations": {"a": "b"}}}
    complete(CONFIG_MAP, {}, news, DEFAULTS)
    assert news == {"metadata": {"annotations": {"a": "b"}}}


@pytest.mark.parametrize(("kind", "field"), [(CONFIG_MAP, "data"), (CONFIG_MAP, "binaryData"), (SECRET, "stringData")])
def test_changed_data_needs_a_new_object(kind: ObjectType, field: str) -> None:
    olds, news = named(), named()
    olds[field], news[field] = {"a": "1"}, {"a": "2"}
    result = compared(kind, olds, news)
    assert result.replacing == {f"{field}.a"}


def test_data_that_comes_as_a_whole_needs_a_new_object_too() -> None:
    assert compared(CONFIG_MAP, named(), named({"a": "1"})).replacing == {"data"}


def test_data_changes_in_place_where_the_provider_allows_it_and_the_object_is_not_immutable() -> None:
    mutable = Mutability(config_maps=True, secrets=True)
    assert not difference(CONFIG_MAP, named({"a": "1"}), named({"a": "2"}), mutable).replacing
    immutable = difference(CONFIG_MAP, named({"a": "1"}, immutable=True), named({"a": "2"}, immutable=True), mutable)
    assert immutable.replacing == {"data.a"}


def test_a_given_name_is_deleted_before_it_is_made_again_and_an_automatic_one_is_not() -> None:
    assert compared(CONFIG_MAP, named({"a": "1"}), named({"a": "2"})).delete_first
    assert not compared(CONFIG_MAP, autonamed({"a": "1"}), autonamed({"a": "2"})).delete_first


def test_another_name_or_namespace_needs_a_new_object_beside_the_old_one() -> None:
    for metadata in ({"name": "m", "namespace": "default"}, {"name": "n", "namespace": "other"}):
        result = compared(CONFIG_MAP, named(), {"metadata": dict[str, Value](metadata)})
        assert len(result.replacing) == 1
        assert not result.delete_first


def test_a_label_changes_in_place() -> None:
    news: Properties = {"metadata": {"name": "n", "namespace": "default", "labels": {"app.kubernetes.io/name": "x"}}}
    result = compared(CONFIG_MAP, named(), news)
    assert [change.name for change in result.changes] == ["metadata.labels"]
    assert not result.replacing


def test_nothing_changed_is_no_difference() -> None:
    assert compared(CONFIG_MAP, named({"a": "1"}), named({"a": "1"})) == Difference((), frozenset())


@pytest.mark.parametrize(
    ("token", "olds", "news", "replacing"),
    [
        (
            "apps/v1:Deployment",
            {"selector": {"matchLabels": {"a": "1"}}},
            {"selector": {"matchLabels": {"a": "2"}}},
            True,
        ),
        ("apps/v1:Deployment", {"replicas": 1}, {"replicas": 2}, False),
        ("apps/v1:StatefulSet", {"serviceName": "a"}, {"serviceName": "b"}, True),
        ("batch/v1:Job", {"template": {"spec": {"nodeName": "a"}}}, {"template": {"spec": {"nodeName": "b"}}}, True),
        ("core/v1:PersistentVolumeClaim", {"storageClassName": "a"}, {"storageClassName": "b"}, True),
        ("core/v1:PersistentVolumeClaim", {"resources": {"requests": "1"}}, {"resources": {"requests": "2"}}, False),
        ("core/v1:Service", {"clusterIP": "None"}, {}, True),
        ("core/v1:Service", {"type": "ClusterIP"}, {"type": "NodePort"}, False),
        ("core/v1:Pod", {"containers": [{"image": "a"}]}, {"containers": [{"image": "b"}]}, True),
    ],
)
def test_immutable_parts_of_a_spec_need_a_new_object(
    token: str, olds: Properties, news: Properties, *, replacing: bool
) -> None:
    kind = ObjectType.from_token(f"kubernetes:{token}")
    assert kind is not None
    assert bool(compared(kind, with_spec(**olds), with_spec(**news)).replacing) is replacing


def test_an_unknown_in_an_immutable_part_is_previewed_as_a_replacement() -> None:
    assert compared(CONFIG_MAP, named({"a": "1"}), named({"a": UNKNOWN})).replacing == {"data.a"}


def test_a_job_that_failed_needs_a_new_one_if_it_says_so_though_nothing_changed() -> None:
    job: Properties = autonamed(None)
    found = difference(ObjectType("batch/v1", "Job"), job, job, Mutability(), unready=True)
    assert found.replacing == {'metadata.annotations["pulumi.com/replaceUnready"]'}
    assert [change.name for change in found.changes] == list(found.replacing), "without a change there is no step"
    assert not found.delete_first, "an automatic name is free for the new one"


def test_the_timeout_is_the_resources_own_then_the_annotations_then_the_kinds() -> None:
    annotated: Properties = {"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "30"}}}
    assert timeout_seconds(5, annotated, 600) == 5
    assert timeout_seconds(0, annotated, 600) == 30
    assert timeout_seconds(0, {}, 600) == 600


def test_a_refresh_takes_drift_in_what_the_program_set_and_nothing_else() -> None:
    olds = with_spec(replicas=1, containers=[{"name": "c"}])
    live = with_spec(replicas=5, containers=[{"name": "c", "imagePullPolicy": "Always"}], strategy={})
    assert live_inputs(live, olds) == with_spec(replicas=5, containers=[{"name": "c"}])


def test_a_refresh_keeps_the_programs_spelling_of_an_amount() -> None:
    assert live_inputs(with_spec(storage="1Gi"), with_spec(storage="1024Mi")) == with_spec(storage="1024Mi")
    assert live_inputs(with_spec(storage="2Gi"), with_spec(storage="1024Mi")) == with_spec(storage="2Gi")


def test_a_refresh_reads_a_secrets_strings_back_from_its_data() -> None:
    live: Properties = {"kind": "Secret", "data": {"a": "bmV3", "other": "eA=="}}
    assert live_inputs(live, {"kind": "Secret", "stringData": {"a": "old"}})["stringData"] == {"a": "new"}


def test_an_import_takes_all_but_the_servers_own_fields() -> None:
    live: Properties = {"kind": "ConfigMap", "metadata": {"name": "n", "uid": "1"}, "data": {"a": "1"}, "status": {}}
    assert live_inputs(live, {}) == {"kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"a": "1"}}


def test_what_a_post_made_is_taken_over_as_applied_without_the_servers_defaults() -> None:
    fields: Value = {
        "f:spec": {"f:accessModes": {}, "f:storageClassName": {}, "f:ports": {'k:{"port":80}': {"f:port": {}}}}
    }
    posted: Value = {"manager": "me", "operation": "Update", "fieldsV1": fields}
    status: Value = {"manager": "me", "operation": "Update", "subresource": "status", "fieldsV1": {}}
    claimed: Value = {"spec": {"accessModes": ["ReadWriteOnce"], "ports": [{"port": 80}]}}
    kept: Value = {"f:spec": {"f:accessModes": {}, "f:ports": {'k:{"port":80}': {"f:port": {}}}}}
    applied: Value = {"manager": "me", "operation": "Apply", "fieldsV1": kept}
    assert adopted_entries([posted, status], "me", claimed) == [applied, status]


def test_another_managers_fields_stay_its_own() -> None:
    entries: list[Value] = [{"manager": "someone", "operation": "Update", "fieldsV1": {"f:data": {}}}]
    assert adopted_entries(entries, "me", {"data": {}}) == entries


def test_a_deployment_is_ready_only_when_its_rollout_is_complete() -> None:
    status: Properties = {
        "observedGeneration": 2,
        "replicas": 1,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    live: Properties = {"metadata": {"name": "n", "generation": 2}, "spec": {"replicas": 1}, "status": status}
    assert judge_deployment(live, Nothing()).ready
    assert not judge_deployment({**live, "status": {**status, "observedGeneration": 1}}, Nothing()).ready
    assert not judge_deployment({**live, "status": {**status, "replicas": 2}}, Nothing()).ready


def test_an_unready_deployment_tells_what_its_pods_say() -> None:
    def owned(name: str, uid: str, owner: str, **extra: Value) -> Properties:
        return {"metadata": {"name": name, "uid": uid, "ownerReferences": [{"uid": owner}]}, **extra}

    waiting: Value = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    pod = owned(
        "n-1",
        "p",
        "r",
        status={
            "conditions": [{"type": "Ready", "status": "False", "message": "containers with unready status: [c]"}],
            "containerStatuses": [{"name": "c", "ready": False, "state": waiting}],
        },
    )
    live: Properties = {"metadata": {"name": "n", "uid": "d"}, "status": {}}
    reasons = judge_deployment(live, Nothing(ReplicaSet=[owned("n", "r", "d")], Pod=[pod])).reasons
    expected = "[Pod n-1]: containers with unready status: [c] -- [ImagePullBackOff] Back-off pulling image"
    assert reasons == ("Minimum number of live Pods was not attained", expected)


def test_a_pod_that_cant_be_scheduled_tells_why() -> None:
    condition: Value = {"type": "PodScheduled", "status": "False", "message": "no nodes available"}
    pod: Properties = {"metadata": {"name": "n", "namespace": "x"}, "status": {"conditions": [condition]}}
    assert pod_reasons([pod]) == ["[Pod x/n]: no nodes available"]


def test_a_failed_job_tells_what_its_container_said_last() -> None:
    owner: Value = [{"uid": "u"}]
    terminated: Value = {"reason": "Error", "exitCode": 1, "message": "no container"}
    pod: Properties = {
        "metadata": {"name": "p", "namespace": "default", "ownerReferences": owner},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "proof", "state": {"terminated": terminated}}]},
    }
    failed: Value = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"}]
    job: Properties = {"metadata": {"name": "j", "namespace": "default", "uid": "u"}, "status": {"conditions": failed}}
    readiness = judge_job(job, Nothing(Pod=[pod]))
    assert readiness.hopeless
    assert readiness.reasons == (
        "[Job default/j]: [BackoffLimitExceeded] limit",
        "[Pod default/p]: [Error] no container",
    )


def test_a_service_waits_for_a_ready_endpoint_unless_it_leads_to_no_pods() -> None:
    selecting: Properties = {"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "clusterIP": "10.0.0.1"}}
    endpoint: Properties = {"endpoints": [{"addresses": ["10.1.1.1"], "conditions": {"ready": True}}]}
    assert not judge_service(selecting, Nothing()).ready
    assert judge_service(selecting, Nothing(EndpointSlice=[endpoint])).ready
    assert judge_service({"spec": {"selector": {"a": "b"}, "clusterIP": "None"}}, Nothing()).ready
    assert judge_service({"spec": {"clusterIP": "10.0.0.1"}}, Nothing()).ready


def test_a_claim_is_waited_for_unless_its_class_waits_for_a_pod() -> None:
    claim: Properties = {"spec": {"storageClassName": "c"}, "status": {"phase": "Pending"}}
    waiting: Properties = {"metadata": {"name": "c"}, "volumeBindingMode": "WaitForFirstConsumer"}
    assert not judge_claim(claim, Nothing()).ready
    assert judge_claim(claim, Nothing(StorageClass=[waiting])).ready


def kubeconfig(server: str, token: str = "t") -> Properties:  # noqa: S107 - no real one
    cluster = f'"clusters": [{{"name": "c", "cluster": {{"server": "{server}"}}}}]'
    user = f'"users": [{{"name": "u", "user": {{"token": "{token}"}}}}]'
    context = '"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"'
    return {"kubeconfig": f"{{{cluster}, {user}, {context}}}"}


def test_one_process_serves_one_cluster_but_takes_new_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_NETWORKS", "127.0.0.0/8")
    stand_in = KubernetesStandIn()
    stand_in.configure(kubeconfig("https://127.0.0.1:1"))
    stand_in.configure(kubeconfig("https://127.0.0.1:1", token="renewed"))
    with pytest.raises(ProviderError, match=r"already serves https://127.0.0.1:1 .*can't serve https://127.0.0.1:2"):
        stand_in.configure(kubeconfig("https://127.0.0.1:2"))


def test_another_server_replaces_the_provider() -> None:
    stand_in = KubernetesStandIn()
    one, other = kubeconfig("https://127.0.0.1:1"), kubeconfig("https://127.0.0.1:2")
    assert stand_in.replaces_itself(one, kubeconfig("https://127.0.0.1:1", token="renewed")) == []
    assert stand_in.replaces_itself(one, other) == ["kubeconfig"]


def test_a_provider_without_kubeconfig_is_refused() -> None:
    with pytest.raises(ProviderError, match="explicit Provider"):
        KubernetesStandIn().configure({})
