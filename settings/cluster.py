"""The Kubernetes cluster that a stack names: its kubeconfig, its context, and whether it is new enough."""

import re
from dataclasses import dataclass
from pathlib import Path

import kubernetes
import urllib3
import yaml

from settings.loading import SettingsError
from settings.model import Settings
from settings.values import read_file

OLDEST = (1, 22)
"""Server-side apply, which the provider updates with, is stable from 1.22 on."""
CONNECT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the Kubernetes provider needs: a kubeconfig's text and the context in it."""

    kubeconfig: str
    context: str


def find_cluster(settings: Settings, base: Path) -> Cluster:
    """Read the kubeconfig (its text, or the path of a file) and check the context. Raises SettingsError."""
    given = settings.docker_cache_kubeconfig.get_secret_value()
    if "\n" in given or given.startswith("{"):
        text, shown = given, "docker_cache_kubeconfig"
    else:
        try:
            text, shown = read_file(given, base), f'docker_cache_kubeconfig ("{given}")'
        except ValueError as error:
            raise SettingsError([f"docker_cache_kubeconfig {error}"]) from error
    contexts = context_names(text, shown)
    if settings.docker_cache_kube_context not in contexts:
        names = ", ".join(contexts) or "none"
        raise SettingsError(
            [f'docker_cache_kube_context is "{settings.docker_cache_kube_context}": {shown} has {names}']
        )
    return Cluster(kubeconfig=text, context=settings.docker_cache_kube_context)


def context_names(text: str, shown: str) -> list[str]:
    try:
        document = yaml.safe_load(text)
        return [str(context["name"]) for context in document["contexts"]]
    except (yaml.YAMLError, TypeError, KeyError):
        raise SettingsError([f"{shown} is not a kubeconfig: give the path of one, or its text as a secret"]) from None


def check_version(cluster: Cluster) -> None:
    """Ask the API server for its version. Raises SettingsError where it is too old or does not answer."""
    look = f"look at it with `kubectl --context {cluster.context} version`"
    try:
        client = api_client(cluster)
        version = kubernetes.client.VersionApi(client).get_code(_request_timeout=CONNECT_SECONDS)
    except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
        reason = str(getattr(error, "reason", None) or type(error).__name__)
        raise SettingsError(
            [f'the cluster of docker_cache_kube_context "{cluster.context}" does not answer: {reason}; {look}']
        ) from error
    except (kubernetes.config.ConfigException, ValueError, TypeError, AttributeError, KeyError) as error:
        # Their texts may quote the kubeconfig.
        raise SettingsError(
            [f'docker_cache_kubeconfig can\'t be used with context "{cluster.context}": {look}']
        ) from error
    problem = version_problem(str(version.git_version))
    if problem:
        raise SettingsError([problem])


def version_problem(git_version: str) -> str | None:
    """`v1.21.14` is too old; `v1.34.2-eks-1` is not. None where it is new enough."""
    found = re.match(r"v?(\d+)\.(\d+)", git_version)
    if found and (int(found[1]), int(found[2])) >= OLDEST:
        return None
    oldest = ".".join(str(number) for number in OLDEST)
    return f"the cluster runs Kubernetes {git_version}: {oldest} is the oldest that is supported (server-side apply)"


def api_client(cluster: Cluster) -> kubernetes.client.ApiClient:
    """A client of that cluster and no other. Raises kubernetes.config.ConfigException."""
    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    document = yaml.safe_load(cluster.kubeconfig)
    kubernetes.config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
        document, context=cluster.context, client_configuration=configuration
    )
    return kubernetes.client.ApiClient(configuration)
