"""What runs on a node over ssh: one short, readable command line, and the script that it reads from standard input.

The script is compressed because a stack's state holds it twice for every node. zopfli gives the same bytes on every machine,
which zlib does not promise: otherwise two administrators' machines would take turns in updating every node.
"""

import ast
import base64
import functools
import hashlib
import io
import shlex
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import zopfli.zlib

PACKAGE = "on_node"
ON_NODE = Path(__file__).resolve().parent.parent / PACKAGE

LOADER = "exec(eval(input()))"
SCRIPT = "__import__('zlib').decompress(__import__('base64').b85decode('{}'))"
"""The line that the loader evaluates. No part of it gives anything that `exec` takes: an incomplete line fails, nothing runs."""
UNPACK = """import sys, types
for name, source in {modules!r}:
    module = types.ModuleType(name)
    sys.modules[name] = module
    package, _, short = name.rpartition(".")
    if package:
        setattr(sys.modules[package], short, module)
    else:
        module.__path__ = []
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules[{program!r}].main()
"""
AFTER_A_PASSWORD = f'grep ^__import__..zlib | python3 -c "{LOADER}" "$@"'
"""sudo reads the password's line only if it asks for one: what it leaves must not reach Python."""


def command(*arguments: str, sudo: bool, sudo_password: bool = False) -> str:
    """The command line that runs the script of standard input with these arguments."""
    asks = sudo and sudo_password
    program = ["sh", "-c", AFTER_A_PASSWORD, "-"] if asks else ["python3", "-c", LOADER]
    return shlex.join(as_root([*program, *arguments], sudo=sudo, asks=asks))


def as_root(words: Sequence[str], *, sudo: bool, asks: bool) -> list[str]:
    """`sudo -n` never asks: without a rule in sudoers it fails with its own message. `-S` reads the password's line."""
    if not sudo:
        return list(words)
    return ["sudo", *(["-S", "-p", ""] if asks else ["-n"]), *words]


@functools.cache
def payload(program: str, certificate: str | None = None, authorization: str | None = None) -> str:
    """The named program of `on_node/` as a line for standard input, with what goes with it and belongs on no command line: a
    certificate (PEM), and the header for a mirror that asks for credentials.
    """
    text = bundle(program, f"{certificate = }\n{authorization = }\n").encode()
    return SCRIPT.format(base64.b85encode(zopfli.zlib.compress(text)).decode()) + "\n"


def bundle(program: str, given: str) -> str:
    """One source of the program and every module of `on_node/` that it imports, each as a module of its own."""
    modules = [(name, given if name == "payload" else bare(source(name))) for name in needed(program)]
    modules = [(PACKAGE, ""), *((f"{PACKAGE}.{name}", text) for name, text in modules)]
    return UNPACK.format(modules=modules, program=f"{PACKAGE}.{program}")


def needed(program: str) -> list[str]:
    """The modules that a program is made of, each after those that it imports."""
    found: list[str] = []

    def visit(name: str) -> None:
        for each in imported(ast.parse(source(name))):
            if each not in found:
                visit(each)
        found.append(name)

    visit(program)
    return found


def imported(tree: ast.Module) -> list[str]:
    imports = [(str(node.module), node.names) for node in tree.body if isinstance(node, ast.ImportFrom)]
    whole = [alias.name for module, names in imports if module == PACKAGE for alias in names]
    parts = [module.removeprefix(f"{PACKAGE}.") for module, _ in imports if module.startswith(f"{PACKAGE}.")]
    return sorted({*whole, *parts})


def bare(text: str) -> str:
    """The same program without docstrings and lines of comment, which are a fifth of what every node's state would hold."""
    lines = text.splitlines(keepends=True)
    dropped = {number for first, last in docstrings(ast.parse(text)) for number in range(first, last + 1)}
    comments = (
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    )
    dropped |= {comment.start[0] for comment in comments if comment.line.lstrip().startswith("#")}
    return "".join(line for number, line in enumerate(lines, start=1) if number not in dropped)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """The first and the last line of each one that something follows: alone, it is what makes a body."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) and node.body[1:]:
            yield node.body[0].lineno, node.body[0].end_lineno or 0


def source(module: str) -> str:
    return (ON_NODE / f"{module}.py").read_text(encoding="utf-8")


def standard_input(line: str, sudo_password: str | None) -> str:
    """What the command reads: the password's line, where sudo may ask for one, and the script's."""
    return line if sudo_password is None else f"{sudo_password}\n{line}"


def fingerprint(certificate: str) -> str:
    """Tells one certificate from another on a command line, which would be no place for its text."""
    return hashlib.sha256(certificate.encode()).hexdigest()


def as_result(line: str | None) -> dict[str, str]:
    """A script's line as the stack puts it out: `live: mirror …` is the state `live` with the rest as its detail. None where an
    update has left out a new node's Command.
    """
    if line is None:
        return {"state": "waiting", "detail": "not done yet"}
    state, _, detail = line.strip().partition(": ")
    return {"state": state, "detail": detail}
