"""A storage account of our own making, with the cache's container in it; kept when the stack goes, unless asked otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pulumi
from pulumi_azure_native import authorization, resources, storage

BLOB_DATA_CONTRIBUTOR = "/providers/Microsoft.Authorization/roleDefinitions/ba92f5b4-2d11-453d-a403-e96b0029c9fe"
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage."""


@final
@dataclass(frozen=True, kw_only=True)
class AzureAccountArgs:
    """`networks` are those that may reach the account (all, where there are none). `key_name` says which of the account's keys
    the registry gets; without one the account takes no keys. `principal_id` is the identity that then gets the role on it.
    """

    account_name: str
    container_name: str
    resource_group: str
    location: str
    sku: str
    networks: Sequence[str]
    delete_unread_after_days: int | None
    key_name: str | None
    principal_id: str | None
    delete_data: bool


class AzureAccount(pulumi.ComponentResource):
    """Resource group, account, container; a lifecycle and a role assignment where configured."""

    key: pulumi.Output[str] | None = None

    def __init__(self, name: str, args: AzureAccountArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("docker-cache:azure:AzureAccount", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        kept = pulumi.ResourceOptions(parent=self, retain_on_delete=not args.delete_data)
        group = resources.ResourceGroup(
            name, resource_group_name=args.resource_group, location=args.location, opts=kept
        )
        account = create_account(name, args, group.name, kept)
        storage.BlobContainer(
            name,
            container_name=args.container_name,
            account_name=account.name,
            resource_group_name=group.name,
            public_access=storage.PublicAccess.NONE,
            opts=kept,
        )
        if args.delete_unread_after_days:
            create_lifecycle(name, args.delete_unread_after_days, account, group.name, child)
        if args.principal_id:
            authorization.RoleAssignment(
                name,
                principal_id=args.principal_id,
                principal_type=authorization.PrincipalType.SERVICE_PRINCIPAL,
                role_definition_id=BLOB_DATA_CONTRIBUTOR,
                scope=account.id,
                opts=child,
            )
        if args.key_name:
            self.key = read_key(args.key_name, account.name, group.name)
        self.register_outputs({})


def create_account(
    name: str, args: AzureAccountArgs, group_name: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> storage.StorageAccount:
    """What Azure leaves open by default is closed: TLS before 1.2, public blobs, plain http."""
    return storage.StorageAccount(
        name,
        account_name=args.account_name,
        resource_group_name=group_name,
        location=args.location,
        kind=storage.Kind.STORAGE_V2,
        sku={"name": args.sku},
        access_tier=storage.AccessTier.HOT,
        minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
        allow_blob_public_access=False,
        enable_https_traffic_only=True,
        allow_shared_key_access=args.key_name is not None,
        network_rule_set=firewall(args.networks) if args.networks else None,
        opts=opts,
    )


def read_key(key_name: str, account_name: pulumi.Input[str], group_name: pulumi.Input[str]) -> pulumi.Output[str]:
    """Anew at each update. The provider does not say that the keys are secrets."""
    listed = storage.list_storage_account_keys_output(account_name=account_name, resource_group_name=group_name)
    value = listed.keys.apply(lambda keys: next(key.value for key in keys if key.key_name == key_name))
    return pulumi.Output.secret(value)


def firewall(networks: Sequence[str]) -> storage.NetworkRuleSetArgsDict:
    return {
        "default_action": storage.DefaultAction.DENY,
        "bypass": storage.Bypass.NONE,
        "ip_rules": [{"action": storage.Action.ALLOW, "i_p_address_or_range": network} for network in networks],
    }


def create_lifecycle(
    name: str, days: int, account: storage.StorageAccount, group_name: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> None:
    """Azure refuses the rule while it does not note when a blob was read."""
    tracking = storage.BlobServiceProperties(
        name,
        blob_services_name="default",
        account_name=account.name,
        resource_group_name=group_name,
        last_access_time_tracking_policy={"enable": True, "name": storage.Name.ACCESS_TIME_TRACKING},
        opts=opts,
    )
    storage.ManagementPolicy(
        name,
        management_policy_name="default",
        account_name=account.name,
        resource_group_name=group_name,
        # Distribution writes layers as append blobs, of which Azure does not note when they were read: of the tracking policy's
        # blob types "only blockBlob is the supported value" (pulumi_azure_native's LastAccessTimeTrackingPolicyArgs).
        policy={
            "rules": [
                rule("delete-unread", "blockBlob", {"days_after_last_access_time_greater_than": days}),
                rule("delete-old", "appendBlob", {"days_after_modification_greater_than": days}),
            ]
        },
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[tracking])),
    )


def rule(
    name: str, blob_type: str, after: storage.DateAfterModificationArgsDict
) -> storage.ManagementPolicyRuleArgsDict:
    return {
        "name": name,
        "enabled": True,
        "type": storage.RuleType.LIFECYCLE,
        "definition": {"actions": {"base_blob": {"delete": after}}, "filters": {"blob_types": [blob_type]}},
    }
