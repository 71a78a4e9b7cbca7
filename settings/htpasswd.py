"""The htpasswd file that protects the cache, checked before it is deployed: the registry itself looks at it only when it runs.

Distribution takes bcrypt entries alone, ignores others, and does not start with a file that it can't parse.
"""

import base64
import binascii
import warnings
from dataclasses import dataclass, field

from passlib.apache import HtpasswdFile
from passlib.hash import bcrypt


@dataclass(frozen=True, kw_only=True)
class Htpasswd:
    """A file's text, its users whose entry is bcrypt, and those whose entry the registry ignores."""

    text: str = field(repr=False)
    users: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One entry."""

    user: str
    is_bcrypt: bool


def parse_htpasswd(encoded: str) -> Htpasswd:
    """Raises ValueError with every problem of the file, a line each; none shows a hash."""
    text = decode(encoded)
    lines: list[Line] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            lines.append(parse_line(line))
        except ValueError:
            problems.append(f"its line {number} is not `user:hash`: write it with `htpasswd -B`")
    names = [line.user for line in lines]
    problems += [
        f'it has the user "{name}" twice: keep one line' for name in sorted({n for n in names if names.count(n) > 1})
    ]
    users = tuple(line.user for line in lines if line.is_bcrypt)
    if not users and not problems:
        problems.append("it has no bcrypt entry, and the registry ignores all others: write it with `htpasswd -B`")
    if problems:
        raise ValueError("\n".join(problems))
    return Htpasswd(text=text, users=users, ignored=tuple(line.user for line in lines if not line.is_bcrypt))


def decode(encoded: str) -> str:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("it is not the base64 of a text file: use `base64 --wrap=0 htpasswd`") from None


def parse_line(line: str) -> Line:
    """Raises ValueError where there is no `user:hash`."""
    parsed = HtpasswdFile.from_string(line.encode("utf-8"))
    (user,) = parsed.users()
    hashed = parsed.get_hash(user).decode("utf-8")
    if not user or not hashed:
        raise ValueError
    return Line(user=user, is_bcrypt=is_bcrypt(hashed))


def is_bcrypt(hashed: str) -> bool:
    try:
        with warnings.catch_warnings():
            # Padding bits that passlib would set otherwise are no concern of Go's bcrypt.
            warnings.simplefilter("ignore")
            bcrypt.from_string(hashed)
    except ValueError:
        return False
    return True
