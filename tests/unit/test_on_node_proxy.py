"""Which addresses docker asks without its proxy: each row was seen to be so with golang.org/x/net/http/httpproxy."""

import pytest

from on_node.address import parse_entry
from on_node.proxy import Proxies, proxies_of, proxy_problems


@pytest.mark.parametrize(
    ("url", "exceptions", "is_proxied"),
    [
        ("http://10.0.0.1:30500", "", True),
        ("http://10.0.0.1:30500", "*", False),
        ("http://10.0.0.1:30500", "a, *", False),
        ("http://10.0.0.1:30500", " 10.0.0.2 , 10.0.0.1", False),
        ("http://10.0.0.1:30500", "10.0.0.1:30500", False),
        ("http://10.0.0.1:30500", "10.0.0.1:80", True),
        ("http://10.0.0.1:30500", "10.0.0.0/8", False),
        ("http://10.0.0.1:30500", "10.0.0.9/8", False),
        ("http://10.0.0.1:30500", "10.0.0.0/255.0.0.0", True),
        ("http://10.0.0.1:30500", "10.0.0.0/33", True),
        ("http://10.0.0.1:30500", "0.0.1", True),
        ("http://10.0.0.1:30500", "[10.0.0.1]:30500", False),
        ("http://10.0.0.1:30500", ":30500", True),
        ("http://127.0.0.1:30500", "", False),
        ("http://localhost:30500", "", False),
        ("https://cache.example.com", "example.com", False),
        ("https://cache.example.com", "EXAMPLE.com:443", False),
        ("https://cache.example.com", "example.com:80", True),
        ("https://cache.example.com", ".example.com", False),
        ("https://cache.example.com", "*.example.com", False),
        ("https://cache.example.com", "ample.com", True),
        ("https://example.com:443", ".example.com", True),
        ("https://example.com:443", "example.com", False),
        ("https://[fd00::1]:30500", "fd00::1", False),
        ("https://[fd00::1]:30500", "[fd00::1]", True),
        ("https://[fd00::1]:30500", "[fd00::1]:30500", False),
        ("https://[fd00::1]:30500", "fd00::/16", False),
        ("https://[::1]:30500", "", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(url: str, exceptions: str, is_proxied: bool) -> None:
    problems = proxy_problems([parse_entry(url)], Proxies("http://p", "http://p", exceptions), "docker")
    assert bool(problems) == is_proxied


def test_a_proxy_is_taken_from_either_case_of_its_variable() -> None:
    assert proxies_of({"http_proxy": "a", "HTTPS_PROXY": "b", "https_proxy": "c", "NO_PROXY": "", "no_proxy": "d"}) == (
        "a",
        "b",
        "d",
    )
