"""What an image's name says of the registry that it comes from, as docker reads it."""

from settings.model import DOCKER_IO, Settings


def registry_of(image: str) -> str:
    """The host before the first slash, where that is one: it has a dot or a port, or is localhost."""
    first, slash, _ = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else DOCKER_IO


def unserved(images: list[str], settings: Settings) -> dict[str, str]:
    """Those of the images that come from a registry which the cache does not pull through, with its host."""
    served = {upstream.host for upstream in settings.upstreams}
    return {image: registry_of(image) for image in images if registry_of(image) not in served}
