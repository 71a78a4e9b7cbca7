"""docs/errors.md, docs/import.md and the messages are the same: each message has its line there, and each line was produced by a test."""

import re
from pathlib import Path

import pytest

from tests.unit.messages import PRODUCED

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (DOCS / "errors.md", DOCS / "import.md")
ROW = re.compile(r"^\| ``(?P<message>.+?)`` \|", re.MULTILINE)


def patterns() -> dict[str, re.Pattern[str]]:
    """Each documented message, with `<placeholders>`, as a pattern for whole lines."""
    rows = [row["message"].strip().replace("\\|", "|") for page in PAGES for row in ROW.finditer(page.read_text())]
    return {
        row: re.compile(".*?".join(re.escape(part) for part in re.split(r"<[^<>]+>", row)), re.DOTALL) for row in rows
    }


@pytest.fixture(autouse=True)
def _whole_run(request: pytest.FixtureRequest) -> None:
    files = {item.path for item in request.session.items}
    if not set(Path(__file__).parent.glob("test_*.py")) <= files or request.config.option.keyword:
        pytest.skip("only a run of all unit tests produces all messages")


def test_every_message_has_a_line_on_the_page() -> None:
    known = patterns().values()
    missing = sorted(message for message in PRODUCED if not any(pattern.fullmatch(message) for pattern in known))
    assert not missing, "docs/errors.md and docs/import.md do not have:\n" + "\n".join(missing)


def test_every_line_of_the_page_is_produced_by_a_test() -> None:
    unproduced = [row for row, pattern in patterns().items() if not any(map(pattern.fullmatch, PRODUCED))]
    assert not unproduced, "no test produces:\n" + "\n".join(unproduced)
