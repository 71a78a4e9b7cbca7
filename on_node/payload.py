"""What is given with the program and belongs on no command line: rendering/node_command.py puts it in place of this file."""

from typing import Optional  # noqa: F401

certificate = None  # type: Optional[str]
"""A CA's PEM text."""
authorization = None  # type: Optional[str]
"""The header for a cache that asks for credentials: a secret."""
