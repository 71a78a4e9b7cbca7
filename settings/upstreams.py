"""What belongs to an upstream is called after its host: objects in the cluster, labels, the folder in the store. Pure text."""

import hashlib
import re

LONGEST_SLUG = 41
"""What a Service's name of 63 characters has left beside `docker-cache-registry-`."""
LONGEST_LABEL = 63


def slug(host: str) -> str:
    """As a part of an object's name: `registry.example:5000` is `registry-example-5000`."""
    return shortened(re.sub("[.:]", "-", host), LONGEST_SLUG)


def label(host: str) -> str:
    return shortened(folder(host), LONGEST_LABEL)


def folder(host: str) -> str:
    """Without the colon, which paths have trouble with."""
    return host.replace(":", "-")


def shortened(text: str, longest: int) -> str:
    """A long text's end gives way to a checksum, so that two that begin the same stay two."""
    if len(text) <= longest:
        return text
    checksum = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: longest - 9].rstrip('-.')}-{checksum}"
