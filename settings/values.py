"""Types of single values, each with the message that says how to mend a wrong one."""

import base64
import binascii
import ipaddress
import re
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from settings.htpasswd import parse_htpasswd

TRUE_WORDS = {"true", "yes", "on"}
FALSE_WORDS = {"false", "no", "off", ""}
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?")
USER = re.compile(r"[A-Za-z_][-\w.]*\$?")
PLAIN_PATH = re.compile(r"[-\w./~@+ ]{1,255}")
PORTS = range(1, 65536)
PRIVATE_NETWORKS = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
LONGEST_PREFIX = 30
"""Of a network in Azure's firewall."""
AMOUNT = re.compile(r"(?P<number>\d{1,5})\s*(?P<percent>%?)")
DURATION = re.compile(r"(?P<number>\d{1,6})\s*(?P<unit>[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
REGISTRY_HOST = re.compile(r"(?=[^/]*[.:])[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:\d{1,5})?")
PLACEHOLDER = "forexample"
GET_ACCOUNT_KEY = "copy a key that `az storage account keys list --account-name …` shows"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """So many nodes, or so many percent of them."""

    number: int
    is_percent: bool

    def of(self, nodes: int) -> int:
        """A percentage is rounded up: 10% of three nodes are one."""
        return -(-nodes * self.number // 100) if self.is_percent else self.number


UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bool(value: object) -> bool:
    """YAML's spellings and the strings found in the wild (`true`, `"True"`, `yes`); the engine hands every value on as text."""
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("use true or false")


def parse_percent(value: object) -> int:
    """A share of a disk: `15`, `"15%"`, `"15 %"`."""
    match = re.fullmatch(r"(\d{1,3})\s*%?", str(value).strip())
    if not match or not 1 <= int(match[1]) <= 90:  # noqa: PLR2004 - the bounds stand in the message
        raise ValueError("use a share of the disk from 1% to 90%, such as 15%")
    return int(match[1])


def parse_amount(value: object) -> Amount:
    """`40`, `"25%"`. Raises ValueError for what is neither."""
    match = AMOUNT.fullmatch(str(value).strip())
    amount = Amount(number=int(match["number"]), is_percent=bool(match["percent"])) if match else None
    if amount is None or (amount.is_percent and amount.number > 100):  # noqa: PLR2004 - the bound stands in the message
        raise ValueError("use a number of nodes, or a share of them up to 100%, such as 25%")
    return amount


def parse_positive_amount(value: object) -> Amount:
    amount = parse_amount(value)
    if not amount.number:
        raise ValueError("use at least one node, or 1% of them")
    return amount


def check_url(value: str) -> str:
    """An http(s) URL without user info, query or fragment; a trailing slash is dropped."""
    remedy = "use a URL such as https://registry-1.docker.io"
    try:
        parts = urlsplit(value)
        port_is_wrong = parts.port == 0
    except ValueError as error:
        raise ValueError(remedy) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port_is_wrong or re.search(r"\s", value):
        raise ValueError(remedy)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("use a URL without user, query or fragment")
    return value.rstrip("/")


def check_entry(value: str) -> str:
    """What the nodes are given: `host:port` (taken as http) or an http(s) URL without a path."""
    parts = urlsplit(check_url(value if "://" in value else f"http://{value}"))
    if parts.path:
        raise ValueError("use host:port or a URL without a path, such as http://10.0.0.1:30500")
    # docker shows a mirror's host in lower case: as it is compared, so it is kept.
    return f"{parts.scheme}://{parts.netloc.lower()}"


def check_folder(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or str(path) == "/":
        raise ValueError("use an absolute path such as /var/lib/registry")
    return str(path)


def check_host(value: str) -> str:
    if not HOST.fullmatch(value):
        raise ValueError("use an IPv4 address or a host name")
    return value


def check_node_name(value: str) -> str:
    """The name of the Kubernetes node (a DNS subdomain); it is also part of a resource's name."""
    if not value or any(not DNS_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError("use the node's name in Kubernetes: lower-case letters, digits, dots and dashes")
    return value


def check_object_name(value: str) -> str:
    if not value or any(not DNS_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError("use the object's name in Kubernetes: lower-case letters, digits, dots and dashes")
    return value


def parse_port(value: object) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal() or int(str(value)) not in PORTS:
        raise ValueError("use a port from 1 to 65535")
    return int(str(value))


def check_user(value: str) -> str:
    if not USER.fullmatch(value):
        raise ValueError("use a user's name, such as root")
    return value


def check_proxy(value: SecretStr) -> SecretStr:
    """A proxy's URL; user info is allowed, and so the value is never shown."""
    try:
        parts = urlsplit(value.get_secret_value())
        is_right = parts.scheme in {"http", "https", "socks5"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError("use a URL such as http://proxy.example:3128")
    return value


def check_image(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?", value):
        raise ValueError("use an image reference such as registry:3.1.2")
    return value


def check_quantity(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d*(Mi|Gi|Ti|M|G|T)", value):
        raise ValueError("use a size such as 100Gi")
    return value


def size_in_bytes(quantity: str) -> int:
    """A size as Kubernetes writes it: `10Gi`."""
    match = re.fullmatch(r"(\d+)(\D+)", quantity)
    if not match:
        raise ValueError(f"{quantity} is no size")
    return int(match[1]) * UNITS[match[2]]


def check_account_name(value: str) -> str:
    """https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftstorage."""
    if not re.fullmatch(r"[a-z0-9]{3,24}", value):
        raise ValueError("use the storage account's name: 3 to 24 lower-case letters and digits")
    return value


def check_account_key(value: SecretStr) -> SecretStr:
    """Base64; what the manual's example has in its place is no key."""
    text = value.get_secret_value()
    if not text:
        raise ValueError(f"it is empty: {GET_ACCOUNT_KEY}")
    if text == PLACEHOLDER:
        raise ValueError(f'it is "{PLACEHOLDER}", the placeholder of OpenPAI\'s manual: {GET_ACCOUNT_KEY}')
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"it is not base64: {GET_ACCOUNT_KEY}") from None
    return value


def check_location(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{2,30}", value):
        raise ValueError("use one of `az account list-locations --query [].name`, such as westeurope")
    return value


def check_resource_group(value: str) -> str:
    """https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftresources."""
    if not re.fullmatch(r"[-\w.()]{0,89}[-\w()]", value):
        raise ValueError("use a resource group's name: letters, digits, dashes, underscores, dots and brackets")
    return value


def check_realm(value: str) -> str:
    if "." not in value or not HOST.fullmatch(value):
        raise ValueError("use the cloud's domain, such as core.windows.net or core.chinacloudapi.cn")
    return value


def parse_days(value: object) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", str(value).strip()):
        raise ValueError("use a number of days from 1 to 9999")
    return int(str(value))


def parse_generation(value: object) -> int:
    if not re.fullmatch(r"\d{1,9}", str(value).strip()):
        raise ValueError("use a whole number, such as 1")
    return int(str(value))


def check_network(value: str) -> str:
    """An address or a network in CIDR form, as Azure's firewall takes them: https://learn.microsoft.com/azure/storage/common/storage-network-security-limitations."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError("use an IPv4 address or a network such as 203.0.113.0/24") from error
    if any(network.subnet_of(private) for private in PRIVATE_NETWORKS):
        raise ValueError(
            "use the public addresses that the cluster and this machine come from: Azure's firewall refuses private ones "
            "(RFC 1918)"
        )
    if "/" in value and network.prefixlen > LONGEST_PREFIX:
        raise ValueError("use each address by itself, such as 203.0.113.7: Azure's firewall refuses /31 and /32")
    return value


def parse_duration(value: object) -> int:
    """Seconds: `90s`, `15m`, `12h`, `30d`. Raises ValueError for what is none."""
    match = DURATION.fullmatch(str(value).strip())
    if not match or not int(match["number"]):
        raise ValueError("use a time such as 90s, 15m, 12h or 30d")
    return int(match["number"]) * SECONDS[match["unit"]]


def parse_count(value: object) -> int:
    if not re.fullmatch(r"[1-9]\d?", str(value).strip()):
        raise ValueError("use a number from 1 to 99")
    return int(str(value))


def check_registry_host(value: str) -> str:
    """What stands before the first slash of an image's name, where that is a registry: it has a dot or a port."""
    if not REGISTRY_HOST.fullmatch(value):
        raise ValueError("use the registry's host as images name it, such as ghcr.io or registry.example:5000")
    return value


def check_cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError("use an address or a network such as 10.0.0.0/8") from error


def check_platform(value: str) -> str:
    """https://github.com/opencontainers/image-spec/blob/main/image-index.md: operating system, architecture and its variant."""
    if not re.fullmatch(r"[a-z0-9]+(/[a-z0-9]+){1,2}", value):
        raise ValueError("use a platform such as linux/amd64 or linux/arm/v7")
    return value


def check_uuid(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError as error:
        raise ValueError("use an id such as 00000000-0000-0000-0000-000000000000") from error


def check_container_name(value: str) -> str:
    """https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata."""
    if not re.fullmatch(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*", value):
        raise ValueError("use a blob container's name: 3 to 63 lower-case letters, digits and single dashes")
    return value


def check_htpasswd(value: SecretStr) -> SecretStr:
    parse_htpasswd(value.get_secret_value())
    return value


def check_one_line(value: SecretStr) -> SecretStr:
    """What is handed on as a line of standard input, or as a header."""
    if re.search(r"[\r\n]", value.get_secret_value()):
        raise ValueError("use a single line")
    return value


def check_namespace(value: str) -> str:
    if not DNS_LABEL.fullmatch(value):
        raise ValueError("use a Kubernetes namespace: lower-case letters, digits and dashes")
    return value


def read_file(path: str, base: Path) -> str:
    """The text of a file named in the configuration; a relative path counts from the project's folder.

    Raises ValueError with the value, as far as it may be shown, and the reason.
    """
    if not PLAIN_PATH.fullmatch(path):
        raise ValueError(
            "is not a path (its value is not shown, it may be the secret itself): give the file's path here"
        )
    try:
        return (base / Path(path).expanduser()).read_text(encoding="utf-8").strip() + "\n"
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text, or its ~user is unknown"
        raise ValueError(f'is "{path}": the file can\'t be read: {reason}') from error


Bool = Annotated[bool, BeforeValidator(parse_bool)]
AmountOfNodes = Annotated[Amount, BeforeValidator(parse_amount)]
SomeNodes = Annotated[Amount, BeforeValidator(parse_positive_amount)]
Percent = Annotated[int, BeforeValidator(parse_percent)]
Url = Annotated[str, AfterValidator(check_url)]
Entry = Annotated[str, AfterValidator(check_entry)]
Folder = Annotated[str, AfterValidator(check_folder)]
Host = Annotated[str, AfterValidator(check_host)]
NodeName = Annotated[str, AfterValidator(check_node_name)]
ObjectName = Annotated[str, AfterValidator(check_object_name)]
Port = Annotated[int, BeforeValidator(parse_port)]
User = Annotated[str, AfterValidator(check_user)]
Proxy = Annotated[SecretStr, AfterValidator(check_proxy)]
ImageReference = Annotated[str, AfterValidator(check_image)]
Quantity = Annotated[str, AfterValidator(check_quantity)]
AccountName = Annotated[str, AfterValidator(check_account_name)]
AccountKey = Annotated[SecretStr, AfterValidator(check_account_key)]
AzureLocation = Annotated[str, AfterValidator(check_location)]
AzureRealm = Annotated[str, AfterValidator(check_realm)]
ResourceGroupName = Annotated[str, AfterValidator(check_resource_group)]
Days = Annotated[int, BeforeValidator(parse_days)]
Duration = Annotated[int, BeforeValidator(parse_duration)]
Count = Annotated[int, BeforeValidator(parse_count)]
RegistryHost = Annotated[str, AfterValidator(check_registry_host)]
Platform = Annotated[str, AfterValidator(check_platform)]
Cidr = Annotated[str, AfterValidator(check_cidr)]
Generation = Annotated[int, BeforeValidator(parse_generation)]
Network = Annotated[str, AfterValidator(check_network)]
Uuid = Annotated[str, AfterValidator(check_uuid)]
ContainerName = Annotated[str, AfterValidator(check_container_name)]
HtpasswdText = Annotated[SecretStr, AfterValidator(check_htpasswd)]
OneLine = Annotated[SecretStr, AfterValidator(check_one_line)]
Namespace = Annotated[str, AfterValidator(check_namespace)]
