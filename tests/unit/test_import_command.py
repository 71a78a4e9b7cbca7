"""What `make import` shows, asks and writes. Pulumi's place is taken by ciphers that can be read here."""

import base64
import itertools
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from importing.host_keys import Place
from operations import import_stack as command
from operations import stacks
from operations.host_key_scan import Progress, Scanned
from operations.import_stack import Options
from operations.stacks import OperationError, StackName
from settings.access import Hop
from tests.unit.import_files import AZURE_CONFIG, CONFIG, HOSTS, LAYOUT, write
from tests.unit.messages import remember
from tests.unit.stacks import HOST_KEY, KUBECONFIG, PRIVATE_KEY

STACK = StackName(name="prod")
SALT = "encryptionsalt: v1:salt\n"
NUMBERS = itertools.count()


class ReadableCiphers:
    """In the place of a StackFolder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scratch.yaml"
        self.forgotten = 0
        self.encrypted: list[str] = []
        self.fails_after: int | None = None

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def forget_stack(self) -> None:
        self.forgotten += 1

    def decrypt(self) -> dict[str, object]:
        keys = yaml.safe_load(self.file.read_text())["config"]
        return {key: self.decrypt_tree(value) for key, value in keys.items()}

    def decrypt_tree(self, value: object) -> object:
        if isinstance(value, dict) and "secure" in value:
            return base64.b64decode(value["secure"].split(":")[1]).decode()
        if isinstance(value, dict):
            return {key: self.decrypt_tree(item) for key, item in value.items()}
        return [self.decrypt_tree(item) for item in value] if isinstance(value, list) else value

    def encrypt(self, texts: Iterable[str]) -> list[str]:
        texts = list(texts)
        self.encrypted += texts
        if self.fails_after is not None and len(self.encrypted) > self.fails_after:
            raise OperationError("pulumi can't encrypt for the stack prod: no key")
        if texts and not self.file.exists():
            self.file.write_text(SALT)
        return [f"v1:{base64.b64encode(text.encode()).decode()}:{next(NUMBERS)}" for text in texts]

    def of_pulumi(self) -> Mapping[str, object]:
        document = yaml.safe_load(self.file.read_text() if self.file.exists() else "") or {}
        return {key: value for key, value in document.items() if key != "config"}


@pytest.fixture(name="pulumi")
def readable_ciphers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadableCiphers]:
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(stacks, "ROOT", tmp_path / "root")
    monkeypatch.setattr(command, "ROOT", tmp_path / "root")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    ciphers = ReadableCiphers(tmp_path)

    @contextmanager
    def folder(_stack: StackName) -> Iterator[ReadableCiphers]:
        ciphers.file.unlink(missing_ok=True)
        yield ciphers

    monkeypatch.setattr(command, "stack_folder", folder)
    yield ciphers
    assert {file.name for file in (tmp_path / "root").iterdir()} <= {"Pulumi.prod.yaml", "key"}, "nothing else is left"


def answers(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> list[str]:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer or ""

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", ask)
    return asked


def scan_of(keys: Mapping[str, str], bastions: list[Hop | None] | None = None) -> command.Scan:
    """A scan in which the hosts with a key answer; it remembers the bastion that it was given."""

    def scan(places: Sequence[Place], _progress: Progress, bastion: Hop | None) -> list[Scanned]:
        if bastions is not None:
            bastions.append(bastion)
        return [
            Scanned(place=place, key=keys[place.host], fingerprint="ssh-ed25519 SHA256:abc")
            if place.host in keys
            else Scanned(place=place, problem="nothing within 5 seconds")
            for place in places
        ]

    return scan


def run(tmp_path: Path, *, yes: bool = False, scan: Mapping[str, str] | None = None, **more: str) -> int:
    options = Options(folder=str(tmp_path / "files"), yes=yes, scan=scan is not None, **more)
    try:
        return command.import_stack(STACK, options, scan_nodes=scan_of(scan or {}))
    finally:
        remember([command.IS_OFF])


def files(tmp_path: Path, **texts: str) -> None:
    names = {"config": "config.yaml", "layout": "layout.yaml", "hosts": "hosts.yml"}
    write(tmp_path / "files", {names.get(name, name): text for name, text in texts.items()})


def written(tmp_path: Path) -> str:
    return (tmp_path / "root/Pulumi.prod.yaml").read_text()


def test_a_new_stack_is_written_without_a_question_and_its_secrets_are_ciphers(
    tmp_path: Path, pulumi: ReadableCiphers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, None)
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    assert run(tmp_path) == 0
    assert not asked
    document = yaml.safe_load(written(tmp_path))
    assert set(document["config"]["docker-cache:docker_cache_ssh_password"]) == {"secure"}
    assert document["encryptionsalt"] == "v1:salt"
    assert pulumi.encrypted == ["pass-of-admin", "pass-of-admin"], (
        "a cipher for each place: equal ones would say that both are equal"
    )
    assert stat.S_IMODE((tmp_path / "root/Pulumi.prod.yaml").stat().st_mode) == 0o600


@pytest.mark.usefixtures("pulumi")
def test_secrets_are_in_plain_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, "y")
    files(tmp_path, config=AZURE_CONFIG.replace('key: "forexample"', "key: c2VjcmV0LWtleQ=="), hosts=HOSTS)
    run(tmp_path)
    files(tmp_path, hosts=HOSTS.replace("pass-of-admin", "new-pass"))
    run(tmp_path)
    shown = capsys.readouterr()
    for secret in ("pass-of-admin", "new-pass", "c2VjcmV0LWtleQ=="):
        assert secret not in shown.out + shown.err
        assert secret not in written(tmp_path)
    assert "docker_cache_ssh_password: [secret, another one]" in shown.out


@pytest.mark.usefixtures("pulumi")
def test_each_key_says_where_it_comes_from(tmp_path: Path) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path)
    text = written(tmp_path)
    assert (
        "  # config.yaml: docker_cache_fs_mount_path\n  docker-cache:docker_cache_fs_mount_path: /mnt/cache\n" in text
    )
    assert "      host: 10.0.0.2 # layout.yaml: machine-list[pai-worker1].hostip\n" in text
    assert "      kube_master: true # layout.yaml: machine-list[pai-master]\n" in text


@pytest.mark.usefixtures("pulumi")
def test_the_report_has_three_lists_and_what_is_still_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config=AZURE_CONFIG, layout=LAYOUT)
    run(tmp_path)
    shown = capsys.readouterr().out
    taken, ignored, unusable, needed = (
        shown.index(f"\n{title}:\n") for title in ("Taken", "Ignored", "Could not be used", "The stack still needs")
    )
    assert taken < ignored < unusable < needed
    assert "docker_cache_azure_account_name: forexample" in shown[taken:ignored]
    assert "config.yaml: docker_image_tag" in shown[ignored:unusable]
    assert "docker_cache_kube_context is missing" in shown[needed:]
    assert 'it is "forexample", the placeholder' in shown[needed:]
    assert "docker_cache_nodes[pai-worker1].host_key is missing" in shown[needed:]


def test_the_same_import_again_changes_nothing_and_encrypts_nothing(
    tmp_path: Path, pulumi: ReadableCiphers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT, hosts=HOSTS)
    run(tmp_path)
    before, encrypted = written(tmp_path), len(pulumi.encrypted)
    asked = answers(monkeypatch, None)
    assert run(tmp_path) == 0
    assert "Pulumi.prod.yaml: nothing to change" in capsys.readouterr().out
    assert written(tmp_path) == before
    assert len(pulumi.encrypted) == encrypted
    assert not asked


def test_only_what_changed_is_encrypted_anew(tmp_path: Path, pulumi: ReadableCiphers) -> None:
    files(tmp_path, config=CONFIG + "docker_cache_htpasswd: YTpi\n", layout=LAYOUT)
    run(tmp_path)
    cipher = yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_htpasswd"]
    pulumi.encrypted.clear()
    files(tmp_path, config=CONFIG.replace("pass-of-admin", "new") + "docker_cache_htpasswd: YTpi\n")
    run(tmp_path, yes=True)
    assert pulumi.encrypted == ["new", "new"]
    assert yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_htpasswd"] == cipher


EXISTING = """\
# Our cluster in Graz.
config:
  # the other one is for tests
  docker-cache:docker_cache_kube_context: graz
  docker-cache:docker_cache_fs_mount_path: /old
  aws:region: eu-central-1
  docker-cache:docker_cache_remote_password:
    secure: v1:a2VwdC1zZWNyZXQ=:x
environment:
  - shared
encryptionsalt: v1:mine
"""


def test_hand_set_keys_are_kept_with_their_comments_and_shown_as_kept(
    tmp_path: Path, pulumi: ReadableCiphers, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": EXISTING})
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    assert run(tmp_path, yes=True) == 0
    shown = capsys.readouterr().out
    kept = shown[shown.index("Kept in Pulumi.prod.yaml") : shown.index("The stack still needs")]
    assert kept.split() == [
        "Kept",
        "in",
        "Pulumi.prod.yaml:",
        "docker_cache_kube_context",
        "aws:region",
        "docker_cache_remote_password",
    ]
    text = written(tmp_path)
    assert "# Our cluster in Graz.\n" in text
    assert "  # the other one is for tests\n  docker-cache:docker_cache_kube_context: graz\n" in text
    assert "    secure: v1:a2VwdC1zZWNyZXQ=:x\n" in text
    assert "environment:\n  - shared\nencryptionsalt: v1:mine\n" in text
    assert "\n-docker_cache_fs_mount_path: /old\n" in shown
    assert "\n+docker_cache_fs_mount_path: /mnt/cache\n" in shown
    assert "kept-secret" not in shown
    assert pulumi.encrypted == ["pass-of-admin", "pass-of-admin"]


def test_what_is_kept_stays_one_over_many_imports(tmp_path: Path, pulumi: ReadableCiphers) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": EXISTING})
    for password in ("a", "b", "c"):
        files(tmp_path, config=CONFIG.replace("pass-of-admin", password), layout=LAYOUT)
        assert run(tmp_path, yes=True) == 0
    text = written(tmp_path)
    for line in (
        "# Our cluster in Graz.",
        "# the other one is for tests",
        "# host_key: what `ssh-keyscan 10.0.0.3`",
        "# The stack prod",
    ):
        assert text.count(line) == 1, line
    assert len(pulumi.encrypted) == 6


@pytest.mark.usefixtures("pulumi")
def test_a_line_to_fill_in_goes_once_it_is_filled_in(tmp_path: Path) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path)
    hint = '  # docker-cache:docker_cache_kube_context: ""\n'
    filled = written(tmp_path).replace(hint, hint + "  docker-cache:docker_cache_kube_context: graz\n")
    write(tmp_path / "root", {"Pulumi.prod.yaml": filled})
    files(tmp_path, config=CONFIG.replace("/mnt/cache", "/mnt/other"))
    assert run(tmp_path, yes=True) == 0
    assert "docker-cache:docker_cache_kube_context: graz\n" in written(tmp_path)
    assert hint not in written(tmp_path)
    assert "The cluster's context in the kubeconfig" not in written(tmp_path)


@pytest.mark.parametrize(("answer", "status", "is_written"), [("y", 0, True), ("n", 1, False), ("", 1, False)])
def test_a_file_that_exists_is_replaced_only_after_a_yes(
    answer: str, status: int, is_written: bool, tmp_path: Path, pulumi: ReadableCiphers, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": EXISTING})
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    asked = answers(monkeypatch, answer)
    assert run(tmp_path) == status
    assert asked == ["Pulumi.prod.yaml exists: write it? [y/N] "]
    assert (written(tmp_path) != EXISTING) == is_written
    assert bool(pulumi.encrypted) == is_written
    assert bool(pulumi.forgotten) != is_written, "a stack that was made for nothing is taken back"


@pytest.mark.usefixtures("pulumi")
def test_without_a_terminal_and_without_yes_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": EXISTING})
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    answers(monkeypatch, None)
    with pytest.raises(OperationError, match="There is no terminal to ask at: YES=1 answers yes"):
        run(tmp_path)
    assert written(tmp_path) == EXISTING


@pytest.mark.parametrize("text", [None, EXISTING])
def test_when_encryption_fails_everything_is_as_it_was(
    text: str | None, tmp_path: Path, pulumi: ReadableCiphers
) -> None:
    if text:
        write(tmp_path / "root", {"Pulumi.prod.yaml": text})
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    pulumi.fails_after = 0
    with pytest.raises(OperationError, match="pulumi can't encrypt"):
        run(tmp_path, yes=True)
    file = tmp_path / "root/Pulumi.prod.yaml"
    assert (file.read_text() if file.exists() else None) == text
    assert pulumi.forgotten == 1


def test_when_it_is_interrupted_everything_is_as_it_was(
    tmp_path: Path, pulumi: ReadableCiphers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)

    def interrupt(_texts: Iterable[str]) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(pulumi, "encrypt", interrupt)
    assert run(tmp_path) == 130
    assert "stopped; Pulumi.prod.yaml is as it was" in capsys.readouterr().err
    assert not (tmp_path / "root/Pulumi.prod.yaml").exists()
    assert pulumi.forgotten == 1


def test_a_text_that_pulumi_would_read_otherwise_is_not_written(
    tmp_path: Path, pulumi: ReadableCiphers, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    monkeypatch.setattr(pulumi, "decrypt", dict)
    with pytest.raises(OperationError, match="would read back otherwise"):
        run(tmp_path)
    assert not (tmp_path / "root/Pulumi.prod.yaml").exists()


@pytest.mark.usefixtures("pulumi")
def test_a_secret_that_stood_there_in_plain_is_a_difference_and_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config="user: root\npassword: plain-pass\n")
    plain = (
        "config:\n  docker-cache:docker_cache_ssh_user: root\n  docker-cache:docker_cache_ssh_password: plain-pass\n"
    )
    write(tmp_path / "root", {"Pulumi.prod.yaml": plain})
    assert run(tmp_path, yes=True) == 0
    shown = capsys.readouterr().out
    assert "-docker_cache_ssh_password: [secret, not encrypted]" in shown
    assert "plain-pass" not in shown + written(tmp_path)


@pytest.mark.usefixtures("pulumi")
def test_host_keys_are_learnt_and_their_fingerprints_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path, scan={"10.0.0.1": HOST_KEY, "10.0.0.2": HOST_KEY})
    shown = capsys.readouterr().out
    assert "pai-master 10.0.0.1:22 ssh-ed25519 SHA256:abc" in shown
    assert "pai-worker2 10.0.0.3:22: nothing within 5 seconds" in shown
    keys = [
        node.get("host_key") for node in yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_nodes"]
    ]
    assert keys == [HOST_KEY, HOST_KEY, None]
    assert "# host_key: what `ssh-keyscan 10.0.0.3` shows" in written(tmp_path)


@pytest.mark.usefixtures("pulumi")
def test_a_known_host_key_stays_and_another_one_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path, scan={"10.0.0.1": HOST_KEY})
    other = HOST_KEY.replace("AAAAIO3H", "AAAAIO3X")
    capsys.readouterr()
    assert run(tmp_path, scan={"10.0.0.1": other}) == 0
    shown = capsys.readouterr().out
    assert "ANOTHER host key" in shown
    assert HOST_KEY in written(tmp_path)
    assert other not in written(tmp_path)
    assert "nothing to change" in shown, "without a scan, too, known keys stay"


BASTION_HOSTS = """\
all:
  hosts:
    n1: {ansible_host: 10.0.0.1}
    gate: {ansible_host: 1.2.3.4, ansible_user: jump, ansible_password: bastions-pass}
  children:
    kube_control_plane: {hosts: {n1: }}
    bastion: {hosts: {gate: }}
"""


@pytest.mark.usefixtures("pulumi")
def test_a_bastion_is_entered_to_learn_host_keys_once_its_own_is_in_the_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, hosts=BASTION_HOSTS)
    seen: list[Hop | None] = []
    options = Options(folder=str(tmp_path / "files"), yes=True)
    assert command.import_stack(STACK, options, scan_nodes=scan_of({"1.2.3.4": HOST_KEY}, seen)) == 0
    shown = capsys.readouterr().out
    assert "docker_cache_ssh_bastion: {host: 1.2.3.4, user: jump, password: [secret], host_key: " in shown
    assert "bastions-pass" not in shown + written(tmp_path)
    assert "docker_cache_ssh_bastion 1.2.3.4:22 ssh-ed25519 SHA256:abc" in shown
    bastion = yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_ssh_bastion"]
    assert bastion["host_key"] == HOST_KEY
    assert set(bastion["password"]) == {"secure"}

    keys = {"1.2.3.4": HOST_KEY, "10.0.0.1": HOST_KEY}
    assert command.import_stack(STACK, options, scan_nodes=scan_of(keys, seen)) == 0
    unknown, known = seen
    assert unknown is None, "nothing is sent to a bastion that is not known"
    assert known is not None
    assert (known.host, known.user, known.password, known.host_key) == ("1.2.3.4", "jump", "bastions-pass", HOST_KEY)
    text = written(tmp_path)
    assert text.count(HOST_KEY) == 2
    capsys.readouterr()
    assert command.import_stack(STACK, options, scan_nodes=scan_of({}, seen)) == 0
    assert "nothing to change" in capsys.readouterr().out, "known keys stay, the bastion's too"
    assert written(tmp_path) == text


@pytest.mark.usefixtures("pulumi")
def test_a_bastion_with_another_host_key_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, hosts=BASTION_HOSTS)
    run(tmp_path, scan={"1.2.3.4": HOST_KEY})
    capsys.readouterr()
    run(tmp_path, scan={"1.2.3.4": HOST_KEY.replace("AAAAIO3H", "AAAAIO3X")})
    shown = capsys.readouterr().out
    assert "ANOTHER host key than the stack has" in shown
    assert "\n  docker_cache_ssh_bastion 1.2.3.4:22\n" in shown


@pytest.mark.usefixtures("pulumi")
def test_a_complete_import_needs_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "files", {"kubeconfig": KUBECONFIG})
    (tmp_path / "root/key").write_text(PRIVATE_KEY)
    files(tmp_path, config=CONFIG + "ssh_key_file_path: key\n", layout=LAYOUT)
    keys = dict.fromkeys(("10.0.0.1", "10.0.0.2", "10.0.0.3"), HOST_KEY)
    run(tmp_path, scan=keys, kubeconfig=str(tmp_path / "files/kubeconfig"), context="prod")
    assert "The stack still needs" not in capsys.readouterr().out
    assert yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_kube_context"] == "prod"


@pytest.mark.usefixtures("pulumi")
def test_a_context_is_offered_and_never_taken_unasked(tmp_path: Path) -> None:
    write(tmp_path, {".kube/config": KUBECONFIG, "files/kubeconfig": KUBECONFIG.replace("prod", "folders")})
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path)
    text = written(tmp_path)
    assert "docker-cache:docker_cache_kube_context" not in yaml.safe_load(text)["config"]
    assert "prod (in ~/.kube/config)" in text
    assert f"folders (in {tmp_path / 'files/kubeconfig'})" in text


@pytest.mark.usefixtures("pulumi")
def test_a_key_file_that_cannot_be_read_here_is_reported_and_its_path_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, config=CONFIG + "ssh_key_file_path: /nowhere/id_rsa\n", layout=LAYOUT)
    run(tmp_path)
    assert 'docker_cache_ssh_private_key_path is "/nowhere/id_rsa": the file can\'t be read' in capsys.readouterr().out
    assert "docker-cache:docker_cache_ssh_private_key_path: /nowhere/id_rsa" in written(tmp_path)


@pytest.mark.usefixtures("pulumi")
def test_a_cache_that_is_off_says_so_and_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, config=CONFIG.replace('enable_docker_cache: "true"', "enable_docker_cache: false"), layout=LAYOUT)
    run(tmp_path)
    shown = capsys.readouterr().out
    assert "enable_docker_cache is off" in shown
    assert "docker_cache_kube_context is missing" in shown


@pytest.mark.usefixtures("pulumi")
def test_a_wrong_switch_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, config="enable_docker_cache: maybe\n")
    run(tmp_path)
    assert 'enable_docker_cache is "maybe": use true or false' in capsys.readouterr().out


@pytest.mark.usefixtures("pulumi")
def test_the_cluster_id_stands_in_the_heading(tmp_path: Path) -> None:
    files(tmp_path, config=CONFIG, layout=LAYOUT)
    run(tmp_path, cluster_id="pai\nx: y")
    assert written(tmp_path).startswith("# The stack prod, the cluster with the id pai x: y. ")


@pytest.mark.usefixtures("pulumi")
def test_the_entry_has_the_port_of_the_stack(tmp_path: Path) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": "config:\n  docker-cache:docker_cache_node_port: 31111\n"})
    files(tmp_path, hosts=HOSTS.replace("ansible_host: 10.0.0.1", "ansible_host: 1.2.3.4"))
    run(tmp_path, yes=True)
    assert yaml.safe_load(written(tmp_path))["config"]["docker-cache:docker_cache_entry"] == "10.0.0.1:31111"


@pytest.mark.usefixtures("pulumi")
def test_the_sandboxs_stacks_are_refused(tmp_path: Path) -> None:
    files(tmp_path, config=CONFIG)
    with pytest.raises(OperationError, match="STACK is dev, the sandbox's stack"):
        command.import_stack(StackName(name="dev"), Options(folder=str(tmp_path / "files")))
    write(
        tmp_path / "root",
        {"Pulumi.prod.yaml": "config:\n  docker-cache:docker_cache_kubeconfig: .sandbox/kubeconfig\n"},
    )
    with pytest.raises(OperationError, match="is of the sandbox's cluster"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("config: [\n", "is not YAML: mend it, or move it away"),
        ("- a\n", "is not a stack's file"),
        ("config: {a:b: c}\n", "write its config in lines"),
    ],
)
@pytest.mark.usefixtures("pulumi")
def test_a_stacks_file_that_cannot_be_read_is_left_alone(text: str, problem: str, tmp_path: Path) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": text})
    files(tmp_path, config=CONFIG)
    with pytest.raises(OperationError, match=problem):
        run(tmp_path, yes=True)
    assert written(tmp_path) == text


@pytest.mark.usefixtures("pulumi")
def test_an_empty_stacks_file_is_filled(tmp_path: Path) -> None:
    write(tmp_path / "root", {"Pulumi.prod.yaml": "# nothing yet\n"})
    files(tmp_path, config=CONFIG)
    assert run(tmp_path, yes=True) == 0
    assert "docker-cache:docker_cache_fs_mount_path: /mnt/cache" in written(tmp_path)


@pytest.mark.usefixtures("pulumi")
def test_problems_of_the_files_are_an_operations_error_with_all_of_them(tmp_path: Path) -> None:
    files(tmp_path, config="- a\n", layout="machine-list: []\n")
    with pytest.raises(OperationError, match=r"(?s)config\.yaml is not a map.*machine-list is missing"):
        run(tmp_path)
