"""The proof's judgement on counters as the registry gives them."""

import pytest

from operations.cache_metrics import Counts, parse
from operations.proof import judge
from operations.stacks import StackName

METRICS = """\
# TYPE registry_http_requests counter
registry_http_requests_total{code="200",handler="manifest",method="get"} 2
registry_http_requests_total{code="200",handler="manifest",method="head"} 3
registry_http_requests_total{code="404",handler="manifest",method="get"} 7
registry_http_requests_total{code="200",handler="blob",method="get"} 4
registry_proxy_misses_total{type="blob"} 1
registry_proxy_misses_total{type="manifest"} 1
registry_proxy_pushed_bytes_total{type="blob"} 1.6e+07
"""


def test_only_answered_manifest_requests_count() -> None:
    assert parse(METRICS) == Counts(manifest_requests=5, misses=2, bytes_served=16_000_000), (
        "a 404 of the cache is what sends docker to the hub"
    )


@pytest.mark.parametrize(
    ("counted", "is_mirror_live", "verdict", "is_good"),
    [
        (Counts(manifest_requests=1, misses=2), True, "miss", True),
        (Counts(manifest_requests=1), True, "hit", True),
        (Counts(), True, "failed: the cache saw nothing, docker went elsewhere", False),
        (
            Counts(manifest_requests=1),
            False,
            "failed: docker does not have the mirror (README: a node that drifted)",
            False,
        ),
    ],
)
def test_a_pull_that_the_cache_did_not_see_proves_nothing(
    counted: Counts, is_mirror_live: bool, verdict: str, is_good: bool
) -> None:
    assert judge(counted, is_mirror_live=is_mirror_live) == (verdict, is_good)


def test_only_dev_is_the_sandboxs_stack() -> None:
    assert StackName(name="dev").in_sandbox
    assert not StackName(name="dev-eu").in_sandbox, "a cluster of the user's would be answered for with --yes"
