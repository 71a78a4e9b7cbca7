"""A script of `on_node/` as a `remote.Command`."""

from dataclasses import dataclass, field

import pulumi
from pulumi_command import remote

from rendering import node_command
from settings.access import Access, Hop

DIAL_ATTEMPTS = 3
DIAL_ATTEMPTS_THROUGH_BASTION = 0
"""pulumi-command would try a failed handshake again on the channel that it has closed, and tell of that: `handshake failed: EOF`
in the place of a wrong host key.
"""
DIAL_ATTEMPTS_OF_BASTION = 6
"""All nodes knock at once, and a bastion's sshd turns some away (MaxStartups)."""
INPUTS = [
    "add_previous_output_in_env", "connection", "create", "delete", "environment", "logging", "stdin", "triggers", "update",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NodeScript:
    """A script with the words of its two directions, and what it places on the node."""

    script: str
    create: tuple[str, ...]
    delete: tuple[str, ...]
    certificate: str | None = None
    """PEM text."""
    authorization: str | None = field(default=None, repr=False)
    """The header for a mirror that asks for credentials."""


def connection(access: Access) -> remote.ConnectionArgs:
    return remote.ConnectionArgs(
        host=access.host,
        port=access.port,
        user=access.user,
        private_key=secret(access.private_key),
        private_key_password=secret(access.passphrase),
        password=secret(access.password),
        host_key=access.host_key,
        dial_error_limit=DIAL_ATTEMPTS_THROUGH_BASTION if access.bastion else DIAL_ATTEMPTS,
        proxy=proxy(access.bastion) if access.bastion else None,
    )


def proxy(bastion: Hop) -> remote.ProxyConnectionArgs:
    return remote.ProxyConnectionArgs(
        host=bastion.host,
        port=bastion.port,
        user=bastion.user,
        private_key=secret(bastion.private_key),
        private_key_password=secret(bastion.passphrase),
        password=secret(bastion.password),
        host_key=bastion.host_key,
        dial_error_limit=DIAL_ATTEMPTS_OF_BASTION,
    )


def secret(text: str | None) -> pulumi.Output[str] | None:
    return pulumi.Output.secret(text) if text else None


def run_on_node(name: str, access: Access, script: NodeScript, opts: pulumi.ResourceOptions) -> remote.Command:
    """Run it as root on the node. The name must carry the node's identity: a changed host would be an update in place and
    leave the old host as it is.
    """
    password = access.sudo_password
    program = node_command.payload(script.script, script.certificate, script.authorization)
    text = node_command.standard_input(program, password)
    is_secret = password is not None or script.authorization is not None
    return remote.Command(
        name,
        connection=connection(access),
        create=node_command.command(*script.create, sudo=access.sudo, sudo_password=password is not None),
        delete=node_command.command(*script.delete, sudo=access.sudo, sudo_password=password is not None),
        stdin=pulumi.Output.secret(text) if is_secret else text,
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(hide_diffs=["stdin"])),
    )


def forget_on_node(name: str, access: Access, opts: pulumi.ResourceOptions) -> None:
    """Keep the resource of a node that is gone, and connect to it never again.

    A recorded Command stays as it is, whatever else has changed, and its deletion runs nothing; one that was never made is made
    without anything to run.
    """
    gone = pulumi.ResourceOptions(retain_on_delete=True, ignore_changes=INPUTS, hide_diffs=["stdin"])
    remote.Command(
        name,
        connection=connection(access),
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions.merge(opts, gone),
    )
