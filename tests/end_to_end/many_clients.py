"""Many clients that ask for the same at once: `many_clients.py URL HOW_MANY [HEADER…]`, run with the sandbox's network.

Prints a list of what each got: status, digest, size, and after how many seconds its first byte and its last.
"""

import hashlib
import http.client
import json
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit


def get(url: str, headers: dict[str, str]) -> dict[str, Any]:
    parts, begun, digest, size = urlsplit(url), time.monotonic(), hashlib.sha256(), 0
    connection = http.client.HTTPConnection(parts.netloc, timeout=300)
    try:
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        first = 0.0
        while chunk := answer.read1(1 << 18):
            first = first or time.monotonic() - begun
            digest.update(chunk)
            size += len(chunk)
        whole = answer.length in {0, None}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "error": repr(error), "size": size, "seconds": time.monotonic() - begun}
    finally:
        connection.close()
    return {
        "status": answer.status,
        "digest": f"sha256:{digest.hexdigest()}",
        "size": size,
        "whole": whole,
        "cache": answer.getheader("X-Docker-Cache"),
        "first": first,
        "seconds": time.monotonic() - begun,
    }


def main() -> None:
    url, count, *lines = sys.argv[1:]
    headers = dict(line.split(": ", 1) for line in lines)
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(get(url, headers))) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
