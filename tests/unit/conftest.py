"""Remembers every message that the tests produce, for the test that compares them with docs/errors.md."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from operations.cache_metrics import MetricsError
from operations.ssh import NodeError
from operations.stacks import OperationError
from settings import cautions
from settings.cluster import ClusterError
from settings.loading import SettingsError
from tests.unit.messages import remember
from tests.unit.recording import Recorder, recording


def watch_errors(kind: type[Exception]) -> None:
    """From now on, a message of this kind is remembered when it is made."""
    original: Callable[..., None] = kind.__init__

    def remembering(self: Exception, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        remember([str(self)])

    kind.__init__ = remembering  # type: ignore[assignment, method-assign]


def watch_cautions() -> None:
    original = cautions.cautions

    def remembering(*args: Any, **kwargs: Any) -> list[str]:
        found = original(*args, **kwargs)
        remember(found)
        return found

    cautions.cautions = remembering


for error in (SettingsError, OperationError, ClusterError, NodeError, MetricsError):
    watch_errors(error)
watch_cautions()
# A test that is right on a busy machine too has no time limit for each example.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    with recording(monkeypatch) as mocks:
        yield mocks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The comparison comes after everything that produces messages."""
    items.sort(key=lambda item: "test_errors_page" in item.nodeid)
