"""`make new`: a stack for another cluster, with a file to fill in."""

import re
from pathlib import Path

from operations import stacks
from operations.stacks import OperationError, StackName

TEMPLATE = Path(__file__).with_name("Pulumi.stack.yaml")


def new(stack: StackName, *, secrets_provider: str | None) -> int:
    """Make the stack and write its file. Nothing is left of it where pulumi refuses. Raises OperationError."""
    check_name(stack)
    if stack.file.exists():
        raise OperationError(
            f"{stack.file.name} exists already: describe the cluster there, then `make preview STACK={stack.name}`"
        )
    stacks.require_pulumi(stack)
    stacks.create(stack, secrets_provider=secrets_provider)
    # pulumi has written what its secrets provider needs.
    of_pulumi = stack.file.read_text(encoding="utf-8") if stack.file.exists() else ""
    text = TEMPLATE.read_text(encoding="utf-8").replace("{stack}", stack.name)
    stack.file.write_text(text + of_pulumi, encoding="utf-8")
    print(f"{stack.file.name} is written: describe the cluster there, then `make preview STACK={stack.name}`.")
    return 0


def check_name(stack: StackName) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", stack.name):
        raise OperationError(f'STACK is "{stack.name}": use letters, digits, dots, dashes and underscores')
    if stack.name == "dev":
        raise OperationError(
            "STACK is dev, the sandbox's stack: give the new one a name of its own, such as STACK=prod"
        )
