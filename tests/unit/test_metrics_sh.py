"""The scripts that write metrics, with a shell and an awk of this machine; the programs that they ask are in-test ones on PATH."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.programs import write_programs

IN_POD = Path(__file__).resolve().parents[2] / "in_pod"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
SECONDS = 30
"""Ample: a busy machine is no reason to fail."""
STAT = """MAIN.busy_sleep 7 0.00 Number
MAIN.busy_wakeup 3 0.00 Number
MAIN.busy_killed 1 0.00 Number
MAIN.n_lru_nuked 12 0.00 Number
MEMPOOL.busyobj.live 2 . In use
MEMPOOL.req0.live 4 . In use
MEMPOOL.req1.live 5 . In use
SMF.hot.c_fail 656 0.00 Allocator failures
SMF.hot.g_bytes 6442450944 . Bytes outstanding
SMF.hot.g_space 4294967296 . Bytes available
"""


def client(upstream: str, kind: str, cache: str, status: str = "200", size: str = "10", joined: str = "-") -> str:
    return f"c\t{upstream}\t{kind}\t{cache}\t-\t-\t{status}\t{size}\t0.200000\t{joined}\t-\t-"


def fetch(
    upstream: str,
    kind: str,
    status: str = "200",
    size: str = "10",
    backend: str = "upstream_docker_io",
    error: str = "-",
) -> str:
    return f"b\t-\t-\t-\t{upstream}\t{kind}\t{status}\t{size}\t0.300000\t-\t{backend}\t{error}"


def parsed(text: str) -> Samples:
    return {
        (sample.name.removeprefix("docker_cache_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Counting:
    """`front_metrics.awk`, round after round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.text = ""

    def count(self, *lines: str, stat: str = STAT) -> None:
        files = {"totals": self.text, "log": "".join(f"{line}\n" for line in lines), "varnishstat": stat}
        arguments = []
        for name, content in files.items():
            (self._folder / name).write_text(content)
            arguments += [f"from={name}", str(self._folder / name)]
        script = ["awk", "-v", "upstreams=docker.io ghcr.io", "-f", str(IN_POD / "front_metrics.awk")]
        self.text = subprocess.run([*script, *arguments], capture_output=True, text=True, check=True).stdout

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        found = [
            value
            for (sample, its_labels), value in parsed(self.text).items()
            if sample == name and labels.items() <= dict(its_labels).items()
        ]
        assert found, f"{name} {labels} is not in\n{self.text}"
        return sum(found)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


def test_requests_are_counted_by_upstream_kind_result_and_status(counting: Counting) -> None:
    counting.count(
        client("docker.io", "blob", "miss", size="100"),
        client("docker.io", "blob", "hit", size="100", joined="0"),
        client("docker.io", "blob", "hit", size="100"),
        client("ghcr.io", "tag", "stale", size="7"),
    )
    assert counting.value("requests_total", upstream="docker.io", kind="blob", result="hit", code="200") == 2
    assert counting.value("requests_total", upstream="docker.io", kind="blob", result="miss", code="200") == 1
    assert counting.value("requests_total", upstream="ghcr.io", kind="tag", result="stale", code="200") == 1
    assert counting.value("served_bytes_total", upstream="docker.io") == 300
    assert counting.value("joined_requests_total", upstream="docker.io") == 1, (
        "one came while the download was under way"
    )
    assert counting.value("answer_seconds_bucket", upstream="docker.io", le="0.25") == 3
    assert counting.value("answer_seconds_bucket", upstream="docker.io", le="0.1") == 0
    assert counting.value("answer_seconds_count", upstream="docker.io") == 3


def test_fetches_are_counted_apart_from_what_clients_got(counting: Counting) -> None:
    counting.count(
        fetch("docker.io", "blob", size="100"),
        fetch("docker.io", "tag", "429"),
        fetch("ghcr.io", "tag", "503", "0", backend="-"),
        fetch("docker.io", "blob", backend="credentials"),
    )
    assert counting.value("fetches_total", upstream="docker.io", kind="blob", code="200") == 1, (
        "the question about credentials is none of an upstream's"
    )
    assert counting.value("fetched_bytes_total", upstream="docker.io", kind="blob") == 100
    assert counting.value("fetches_total", upstream="docker.io", code="429") == 1
    assert counting.value("fetches_total", upstream="ghcr.io", code="none") == 1, "no registry was reached"
    assert counting.value("fetch_seconds_count", upstream="docker.io") == 2


def test_what_the_front_asks_itself_is_no_request(counting: Counting) -> None:
    counting.count(client("-", "-", "-", "304", "0"), fetch("docker.io", "tag", "304", backend="older"))
    assert 'upstream="none"' not in counting.text
    assert 'code="304"' not in counting.text, "no registry was asked for the older tag"
    counting.count(client("docker.io", "tag", "hit", "304", "0"))
    assert counting.value("requests_total", upstream="docker.io", result="hit", code="304") == 1, (
        "a client's own counts"
    )


def test_no_room_is_a_download_that_was_cut_short_and_not_each_try_before_an_eviction(counting: Counting) -> None:
    counting.count(fetch("docker.io", "blob"))
    assert counting.value("hot_failures_total") == 0
    cut = fetch("docker.io", "blob", error="Could not get storage")
    counting.count(cut, cut, fetch("docker.io", "blob", error="http first read error: EOF"), stat="")
    counting.count(fetch("docker.io", "blob"))
    assert counting.value("hot_failures_total") == 2


def test_totals_go_on_from_what_was_written_last(counting: Counting) -> None:
    big = 5_000_000_000
    counting.count(client("docker.io", "blob", "hit", size=str(big)))
    counting.count(client("docker.io", "blob", "hit", size=str(big)))
    counting.count()
    assert counting.value("served_bytes_total", upstream="docker.io", kind="blob", result="hit") == 2 * big, (
        "more than 32 bits hold, and digit by digit"
    )
    assert counting.value("answer_seconds_count", upstream="docker.io") == 2


def test_what_has_not_happened_yet_is_zero(counting: Counting) -> None:
    counting.count()
    assert counting.value("requests_total", upstream="ghcr.io", kind="tag", result="miss", code="200") == 0, (
        "else the first miss would be no increase"
    )
    assert counting.value("fetches_total", upstream="ghcr.io", kind="tag", code="429") == 0
    assert counting.value("joined_requests_total", upstream="ghcr.io") == 0
    assert counting.value("fetch_seconds_count", upstream="ghcr.io") == 0


def test_a_client_makes_no_series_of_its_own(counting: Counting) -> None:
    counting.count(
        client('evil"} 1\n', "blob", "none", "404"),
        client("evil.example", "what", "none", "404"),
        client("docker.io", "manifest", "none", "4x4"),
    )
    known = {"docker.io", "ghcr.io", "none"}
    assert {dict(labels).get("upstream", "none") for _, labels in parsed(counting.text)} == known
    assert counting.value("requests_total", upstream="none", kind="other", result="refused", code="404") == 1


def test_probes_do_not_count_and_a_failure_is_told_from_a_refusal(counting: Counting) -> None:
    counting.count(
        client("-", "-", "none", "200"), client("-", "-", "none", "405"), client("docker.io", "tag", "none", "503")
    )
    assert counting.value("requests_total", upstream="none", code="405", result="refused") == 1
    assert counting.value("requests_total", upstream="none") == 1
    assert counting.value("requests_total", upstream="docker.io", result="failed", code="503") == 1


def test_what_varnish_says_of_itself(counting: Counting) -> None:
    counting.count()
    assert counting.value("waiting_requests") == 3, "asleep, less those woken and those killed"
    assert counting.value("requests_in_flight") == 9, "of all pools"
    assert counting.value("downloads_in_flight") == 2
    assert counting.value("hot_used_bytes") == 6442450944
    assert counting.value("hot_evictions_total") == 12


def test_a_varnish_that_does_not_answer_leaves_the_gauges_out(counting: Counting) -> None:
    counting.count(client("docker.io", "blob", "hit"), stat="")
    assert "waiting_requests" not in counting.text, "0 would be a lie"
    assert counting.value("requests_total", result="hit") == 1


REGISTRY_METRICS = """# HELP go_goroutines Number of goroutines.
# TYPE go_goroutines gauge
go_goroutines 10
# HELP registry_proxy_pulled_bytes_total The size of total bytes pulled from the upstream
# TYPE registry_proxy_pulled_bytes_total counter
registry_proxy_pulled_bytes_total{type="blob"} 42
# HELP registry_http_in_flight_requests The in-flight HTTP requests
# TYPE registry_http_in_flight_requests gauge
registry_http_in_flight_requests{handler="base"} 0
"""
PROGRAMS = {
    # The port tells which registry runs.
    "wget": 'for url; do :; done; case $url in *:$(cat "$STAGE/port")/*) while [ "$1" != -O ]; do shift; done; '
    'cat "$STAGE/registry" > "$2";; *) exit 1;; esac\n',
    "df": 'echo header; echo "fs 1000 600 400 60% /x"\n',
    "regctl": 'echo "$*" >> "$STAGE/asked"; case $* in *login*) cat >> "$STAGE/password"; exit;; esac; cat "$STAGE/answer"\n',
}


class Observer:
    """`registry_metrics.sh` for one round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_folder = folder / "bin"
        write_programs(bin_folder, PROGRAMS)
        (folder / "registry").write_text(REGISTRY_METRICS)
        (folder / "port").write_text("5001")
        self.environment = os.environ | {"STAGE": str(folder), "PATH": f"{bin_folder}:{os.environ['PATH']}"}

    def see(
        self, answer: str, store: str = "/store", image: str = "registry-1.docker.io/ratelimitpreview/test:latest"
    ) -> Samples:
        (self.folder / "answer").write_text(answer)
        written = self.folder / "registry.prom"
        written.unlink(missing_ok=True)
        script = [
            "sh",
            str(IN_POD / "registry_metrics.sh"),
            str(self.folder),
            "docker.io",
            image,
            "enabled",
            store,
            "15",
        ]
        with subprocess.Popen(
            script, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            deadline = time.monotonic() + SECONDS
            while not written.exists():
                assert time.monotonic() < deadline, "nothing was written"
                time.sleep(0.02)
            process.terminate()
        return {key: value for key, value in parsed(written.read_text()).items() if ("upstream", "docker.io") in key[1]}


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    return Observer(tmp_path)


DOCKER_IO = (("upstream", "docker.io"),)


def test_the_hub_says_how_many_pulls_are_left(observer: Observer) -> None:
    seen = observer.see("true 76 100\n")
    assert seen["ratelimit_remaining", DOCKER_IO] == 76
    assert seen["ratelimit_limit", DOCKER_IO] == 100
    assert seen["upstream_answers", DOCKER_IO] == 1
    assert ("upstream_answer_seconds", DOCKER_IO) in seen


@pytest.mark.parametrize(
    ("answer", "answers", "remaining"),
    [
        ("false 0 0", 1, None),
        ("failed to request manifest head x: request failed: not found [http 404]: ", 1, None),
        ("failed to request manifest head x: request failed: unauthorized [http 401]: ", 1, None),
        ("failed to request manifest head x: request failed: rate limit exceeded [http 429]: ", 1, 0),
        ('failed to request manifest head x: Head "https://x": dial tcp: connect: connection refused', 0, None),
        ("sh: regctl: not found", 0, None),
    ],
)
def test_an_upstream_that_answers_is_told_from_one_that_does_not(
    observer: Observer, answer: str, answers: int, remaining: int | None
) -> None:
    seen = observer.see(answer)
    assert seen["upstream_answers", DOCKER_IO] == answers
    assert seen.get(("ratelimit_remaining", DOCKER_IO)) == remaining
    assert seen["upstream_failures_total", DOCKER_IO] == 1 - answers


def test_of_the_registrys_counters_those_of_the_cache_are_handed_on_with_its_upstream(observer: Observer) -> None:
    seen = observer.see("true 76 100")
    assert seen["registry_proxy_pulled_bytes_total", (("type", "blob"), *DOCKER_IO)] == 42
    assert not [name for name, _ in seen if "goroutines" in name or "in_flight" in name]
    assert seen["registry_proxies", DOCKER_IO] == 1


def test_a_registry_that_serves_what_is_stored_shows_and_so_does_one_that_is_away(observer: Observer) -> None:
    (observer.folder / "port").write_text("5002")
    seen = observer.see("true 76 100")
    assert seen["registry_answers", DOCKER_IO] == 1
    assert seen["registry_proxies", DOCKER_IO] == 0
    (observer.folder / "port").write_text("none")
    seen = observer.see("true 76 100")
    assert seen["registry_answers", DOCKER_IO] == 0
    assert ("registry_proxies", DOCKER_IO) not in seen


def test_the_disk_is_told_where_the_store_has_one(observer: Observer) -> None:
    seen = observer.see("true 76 100")
    assert seen["store_size_bytes", DOCKER_IO] == 1000 * 1024
    assert seen["store_free_bytes", DOCKER_IO] == 400 * 1024
    assert seen["store_min_free_ratio", DOCKER_IO] == 0.15
    assert ("store_free_bytes", DOCKER_IO) not in observer.see("true 76 100", store="/"), "a store on Azure"


def test_credentials_go_by_standard_input_alone(observer: Observer) -> None:
    observer.environment |= {"REGISTRY_PROXY_USERNAME": "puller", "REGISTRY_PROXY_PASSWORD": "the-password"}
    observer.see("true 180 200")
    asked = (observer.folder / "asked").read_text()
    assert (observer.folder / "password").read_text() == "the-password"
    assert "registry login registry-1.docker.io --skip-check --user puller --pass-stdin" in asked
    assert "the-password" not in asked, "every process of the node would see it"


def test_an_upstream_over_plain_http_is_asked_so(observer: Observer) -> None:
    observer.see("true 76 100")
    assert "--host reg=registry-1.docker.io,tls=enabled" in (observer.folder / "asked").read_text()


FRONT_PROGRAMS = {
    # A daemon that opens its log anew when it is told to, and writes what the test gives it.
    "varnishncsa": 'while [ $# -gt 0 ]; do case $1 in -P) pid=$2;; -w) log=$2;; esac; shift; done; echo begun >> "$STAGE/begun"\n'
    '(trap ": >> \\"$log\\"" HUP; : > "$log"; while true; do\n'
    '  if mv "$STAGE/requests" "$STAGE/written" 2>/dev/null; then cat "$STAGE/written" >> "$log"; fi; sleep 0.05\n'
    'done) >/dev/null 2>&1 & echo $! > "$pid"\n',
    "varnishstat": 'cat "$STAGE/stat"\n',
}


class FrontMetrics:
    """A running `front_metrics.sh`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_folder = folder / "bin"
        write_programs(bin_folder, FRONT_PROGRAMS)
        (folder / "stat").write_text(STAT)
        (folder / "varnish/_.vsm_mgt").mkdir(parents=True)
        (folder / "varnish/_.vsm_mgt/_.index").touch()
        self.reader = folder / "varnishncsa.pid"
        # As one is left that the container had before it was restarted; the number is another process' now.
        self.reader.write_text(str(os.getpid()))
        environment = os.environ | {"STAGE": str(folder), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            ["sh", str(IN_POD / "front_metrics.sh"), str(folder), str(folder / "varnish"), "docker.io"],
            env=environment | {"CONFIGURATION": str(IN_POD), "ROUND_SECONDS": "0.1"},
            start_new_session=True,
        )

    def request(self) -> None:
        (self.folder / "new").write_text(client("docker.io", "blob", "hit") + "\n")
        (self.folder / "new").rename(self.folder / "requests")

    def wait_for_hits(self, number: int) -> None:
        deadline = time.monotonic() + SECONDS
        sample = f'docker_cache_requests_total{{upstream="docker.io",kind="blob",result="hit",code="200"}} {number}\n'
        written = self.folder / "front.prom"
        while not (written.exists() and sample in written.read_text()):
            assert time.monotonic() < deadline, f"not {number} hits"
            time.sleep(0.02)

    def begun(self) -> int:
        return len((self.folder / "begun").read_text().splitlines())


@pytest.fixture
def front_metrics(tmp_path: Path) -> Iterator[FrontMetrics]:
    made = FrontMetrics(tmp_path)
    yield made
    os.killpg(made.process.pid, signal.SIGKILL)
    made.process.wait()


def test_the_log_is_counted_round_after_round_and_no_request_twice(front_metrics: FrontMetrics) -> None:
    for number in range(1, 4):
        front_metrics.request()
        front_metrics.wait_for_hits(number)
    time.sleep(0.5)
    front_metrics.wait_for_hits(3)
    assert front_metrics.begun() == 1


def test_a_reader_that_ended_is_begun_anew_and_the_script_goes_on(front_metrics: FrontMetrics) -> None:
    front_metrics.request()
    front_metrics.wait_for_hits(1)
    os.kill(int(front_metrics.reader.read_text()), signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while front_metrics.begun() < 2:
        assert time.monotonic() < deadline, "nothing reads the log any more"
        time.sleep(0.02)
    front_metrics.request()
    front_metrics.wait_for_hits(2)
    assert front_metrics.process.poll() is None, "a container that ends takes the whole pod's traffic away"
