"""The resource types of Azure that the stand-in knows: their paths, names, defaults, and what can't be changed in place.

From the plugin's source (provider/pkg/gen/replacement.go, provider/pkg/provider/provider.go) and Azure's API.
"""

from __future__ import annotations

import enum
import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.layout import AZURE_BLOB_SERVICE
from sandbox.providers.azure_types import Problem
from sandbox.providers.values import Properties, Value, mapping, text

CREATE_BEFORE_DELETE: Final = "__createBeforeDelete"
"""The plugin's own mark on inputs whose name is random, so that old and new can stand side by side."""
_SUBSCRIPTION: Final = "subscriptionId"


class Naming(enum.Enum):
    """How a resource is called whose name the program leaves open."""

    RANDOM = enum.auto()
    COPY = enum.auto()
    UUID = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One resource type."""

    module: str
    name: str
    api_version: str
    arm_type: str
    path: str
    naming: Naming
    forcing: frozenset[str] = frozenset()
    """Properties beside those in the path whose change needs a new resource."""
    located: bool = False
    singleton: bool = False
    """It is there with its parent: created it is changed, and deleted it is reset."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The properties that make up the identity."""
        return tuple(name for name in re.findall(r"{(\w+)}", self.path) if name != _SUBSCRIPTION)

    @property
    def named_by(self) -> str:
        """The property that holds the resource's own name."""
        return self.parameters[-1]

    @property
    def replacing(self) -> frozenset[str]:
        """Properties whose change needs a new resource."""
        return self.forcing | {*self.parameters}

    def identity(self, inputs: Mapping[str, Value], subscription: str) -> str:
        """The resource's ID."""
        parts = {name: text(inputs.get(name)).strip("/") for name in self.parameters}
        return self.path.format(**parts, subscriptionId=subscription)

    def parsed(self, identity: str) -> Properties:
        """The properties that an ID holds, for an import; empty if it is none of this type."""
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.path.replace(".", r"\.")).replace("<scope>[^/]", "<scope>.")
        match = re.fullmatch(pattern, identity)
        found = match.groupdict() if match else {}
        return {
            name: f"/{value}" if name == "scope" else value for name, value in found.items() if name != _SUBSCRIPTION
        }


_GROUP: Final = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"
_ACCOUNT: Final = _GROUP + "/providers/Microsoft.Storage/storageAccounts/{accountName}"

GROUP = Kind(
    module="resources",
    name="ResourceGroup",
    api_version="2024-03-01",
    arm_type="Microsoft.Resources/resourceGroups",
    path=_GROUP,
    naming=Naming.RANDOM,
    forcing=frozenset({"location"}),
    located=True,
)
ACCOUNT = Kind(
    module="storage",
    name="StorageAccount",
    api_version="2024-01-01",
    arm_type="Microsoft.Storage/storageAccounts",
    path=_ACCOUNT,
    naming=Naming.RANDOM,
    forcing=frozenset({"location", "isHnsEnabled"}),
    located=True,
)
CONTAINER = Kind(
    module="storage",
    name="BlobContainer",
    api_version="2024-01-01",
    arm_type="Microsoft.Storage/storageAccounts/blobServices/containers",
    path=_ACCOUNT + "/blobServices/default/containers/{containerName}",
    naming=Naming.COPY,
)
SERVICE_PROPERTIES = Kind(
    module="storage",
    name="BlobServiceProperties",
    api_version="2024-01-01",
    arm_type="Microsoft.Storage/storageAccounts/blobServices",
    path=_ACCOUNT + "/blobServices/{blobServicesName}",
    naming=Naming.COPY,
    singleton=True,
)
POLICY = Kind(
    module="storage",
    name="ManagementPolicy",
    api_version="2024-01-01",
    arm_type="Microsoft.Storage/storageAccounts/managementPolicies",
    path=_ACCOUNT + "/managementPolicies/{managementPolicyName}",
    naming=Naming.COPY,
)
ROLE = Kind(
    module="authorization",
    name="RoleAssignment",
    api_version="2022-04-01",
    arm_type="Microsoft.Authorization/roleAssignments",
    path="/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}",
    naming=Naming.UUID,
    forcing=frozenset({"principalId"}),
)
KINDS: Final = {
    f"azure-native:{kind.module}:{kind.name}": kind
    for kind in (GROUP, ACCOUNT, CONTAINER, SERVICE_PROPERTIES, POLICY, ROLE)
}


@dataclass(frozen=True)
class NameRule:
    """What Azure takes as a name."""

    shortest: int
    longest: int
    pattern: str

    def problems(self, name: str, value: str) -> list[Problem]:
        found = []
        if len(value) < self.shortest:
            found.append(f"'{name}' is too short ({len(value)}): at least {self.shortest} characters required")
        if len(value) > self.longest:
            found.append(f"'{name}' is too long ({len(value)}): at most {self.longest} characters allowed")
        if not re.search(self.pattern, value):
            found.append(f"'{name}' does not match expression '{self.pattern}'")
        return [(name, reason) for reason in found]


NAME_RULES: Final = {
    "resourceGroupName": NameRule(1, 90, r"^[-\w\._\(\)]*[-\w_\(\)]$"),
    "accountName": NameRule(3, 24, r"^[a-z0-9]+$"),
    "containerName": NameRule(3, 63, r"^(\$root|\$web|[a-z0-9]+(-[a-z0-9]+)*)$"),
}


def automatic_name(kind: Kind, resource: str, seed: bytes) -> str:
    """The name of a resource that the program does not name."""
    random = hashlib.sha256(seed).hexdigest() if seed else secrets.token_hex(32)
    match kind.naming:
        case Naming.RANDOM:
            return f"{resource}{random[:8]}"
        case Naming.UUID:
            return str(uuid.UUID(random[:32]))
        case Naming.COPY:
            return resource


def name_problems(inputs: Mapping[str, Value]) -> list[Problem]:
    return [
        problem
        for name, rule in NAME_RULES.items()
        if isinstance(value := inputs.get(name), str)
        for problem in rule.problems(name, value)
    ]


def normalized_location(value: Value) -> Value:
    """Azure takes "West US 2" and "westus2" for the same."""
    return value.lower().replace(" ", "") if isinstance(value, str) else value


def service_defaults(kind: Kind, properties: Properties) -> Properties:
    """What Azure adds to what the program says."""
    if kind is ACCOUNT:
        return _account_defaults(properties)
    if kind is CONTAINER:
        return {"deleted": False, "hasImmutabilityPolicy": False, "hasLegalHold": False, "publicAccess": "None"}
    if kind is GROUP:
        return {"properties": {"provisioningState": "Succeeded"}}
    return {}


def _account_defaults(properties: Properties) -> Properties:
    network: Properties = {
        "bypass": "AzureServices",
        "defaultAction": "Allow",
        "ipRules": [],
        "virtualNetworkRules": [],
    }
    sku = mapping(properties.get("sku"))
    return {
        "accessTier": "Hot",
        "allowBlobPublicAccess": False,
        "enableHttpsTrafficOnly": True,
        "minimumTlsVersion": "TLS1_0",
        "networkRuleSet": network,
        "primaryEndpoints": {"blob": f"{AZURE_BLOB_SERVICE}/"},
        "primaryLocation": properties.get("location"),
        "privateEndpointConnections": [],
        "provisioningState": "Succeeded",
        "sku": {**sku, "tier": text(sku.get("name")).partition("_")[0]},
        "statusOfPrimary": "available",
    }
