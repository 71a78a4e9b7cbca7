"""Where things are on a node."""

import os


class Places:
    """Where things are on a node."""

    def __init__(self, root: str = "/") -> None:
        self.proc = os.path.join(root, "proc")
        self.pid_file = os.path.join(root, "var/run/docker.pid")
        self.config = os.path.join(root, "etc/docker/daemon.json")
        self.certificates = os.path.join(root, "etc/docker/certs.d")
        self.containers = os.path.join(root, "etc/containers")
        self.root_containers = os.path.join(root, "root/.config/containers")
        self.crio = os.path.join(root, "etc/crio")
        self.state = os.path.join(root, "var/lib/docker-cache")
        self.record = os.path.join(self.state, "record.json")
        self.original = os.path.join(self.state, "daemon.json.original")
        self.was_absent = os.path.join(self.state, "daemon.json.was-absent")
