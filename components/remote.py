"""A script of `on_node/` as a `remote.Command`."""

from dataclasses import dataclass

import pulumi
from pulumi_command import remote

from rendering import node_command
from settings.access import Access

DIAL_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class NodeScript:
    """A script with the words of its two directions, and the certificate (PEM) that it places."""

    script: str
    create: tuple[str, ...]
    delete: tuple[str, ...]
    certificate: str | None = None


def connection(access: Access) -> remote.ConnectionArgs:
    return remote.ConnectionArgs(
        host=access.host,
        port=access.port,
        user=access.user,
        private_key=pulumi.Output.secret(access.private_key) if access.private_key else None,
        password=pulumi.Output.secret(access.password) if access.password else None,
        host_key=access.host_key,
        dial_error_limit=DIAL_ATTEMPTS,
    )


def run_on_node(name: str, access: Access, script: NodeScript, opts: pulumi.ResourceOptions) -> remote.Command:
    """Run it as root on the node. The name must carry the node's identity: a changed host would be an update in place and
    leave the old host as it is.
    """
    password = access.sudo_password
    text = node_command.standard_input(node_command.payload(script.script, script.certificate), password)
    return remote.Command(
        name,
        connection=connection(access),
        create=node_command.command(*script.create, sudo=access.sudo, sudo_password=password is not None),
        delete=node_command.command(*script.delete, sudo=access.sudo, sudo_password=password is not None),
        stdin=text if password is None else pulumi.Output.secret(text),
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(hide_diffs=["stdin"])),
    )
