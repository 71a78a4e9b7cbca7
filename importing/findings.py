"""What an import says: each value with the place that it comes from, and what became of the rest."""

from dataclasses import dataclass, field


class ImportProblems(Exception):  # noqa: N818 - several at once
    """What keeps the files from being imported at all, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value as text, and where it stands. It may be a secret."""

    text: str = field(repr=False)
    source: str


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """Something is set, but what it is can't be known here: nothing else may be taken in its place."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source} {self.reason}"


Found = Given | Unusable | None


@dataclass(kw_only=True)
class Findings:
    """Collects the lines of the report; `problems` end the import."""

    ignored: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def usable(self, found: Found) -> Given | None:
        if isinstance(found, Unusable):
            self.unusable.append(str(found))
            return None
        return found


def first(*found: Found) -> Found:
    """The first that is set. One that can't be used is set too: what comes after it is not what its owner meant."""
    return next((item for item in found if item is not None), None)
