"""Images for several platforms, in OCI's form and in docker's, their layers compressed as each allows."""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sandbox.images import CONFIG_TYPE, MANIFEST_TYPE, Image, digest

ZSTD_FRAME = b"\x28\xb5\x2f\xfd\x00\x38"
"""Magic number, no content size and no checksum, a window of 128 KiB (RFC 8878, 3.1.1.1)."""
ZSTD_BLOCK = 1 << 17
LAST = 1


@dataclass(frozen=True, kw_only=True)
class Form:
    """The names of one of the two forms, and what its layers are compressed by."""

    index: str
    manifest: str
    config: str
    layer: str
    compression: str


OCI = Form(
    index="application/vnd.oci.image.index.v1+json",
    manifest="application/vnd.oci.image.manifest.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+zstd",
    compression="zstd",
)
DOCKER = Form(
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    manifest=MANIFEST_TYPE,
    config=CONFIG_TYPE,
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
    compression="gzip",
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A manifest, or an index, with its own media type."""

    media_type: str
    text: bytes

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "size": len(self.text), "digest": digest(self.text)}


@dataclass(frozen=True, kw_only=True)
class Index:
    """One image for each architecture, all for Linux."""

    form: Form
    images: Mapping[str, Image]

    def blobs(self) -> Iterator[bytes]:
        for architecture, image in self.images.items():
            yield self._config(architecture, image)
            yield from (compressed(layer, self.form) for layer in image.layers)

    def manifests(self) -> dict[str, Document]:
        return {architecture: self._manifest(architecture, image) for architecture, image in self.images.items()}

    def document(self) -> Document:
        listed = [
            manifest.descriptor() | {"platform": {"os": "linux", "architecture": architecture}}
            for architecture, manifest in self.manifests().items()
        ]
        return document(self.form.index, {"manifests": listed})

    def _config(self, architecture: str, image: Image) -> bytes:
        return json.dumps(json.loads(image.config()) | {"architecture": architecture}).encode()

    def _manifest(self, architecture: str, image: Image) -> Document:
        layers = [compressed(layer, self.form) for layer in image.layers]
        return document(
            self.form.manifest,
            {
                "config": described(self.form.config, self._config(architecture, image)),
                "layers": [described(self.form.layer, layer) for layer in layers],
            },
        )


def document(media_type: str, content: Mapping[str, object]) -> Document:
    return Document(
        media_type=media_type, text=json.dumps({"schemaVersion": 2, "mediaType": media_type, **content}).encode()
    )


def described(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(blob), "digest": digest(blob)}


def compressed(layer: bytes, form: Form) -> bytes:
    """The same bytes at every call."""
    return zstd_frame(layer) if form.compression == "zstd" else gzip.compress(layer, mtime=0, compresslevel=1)


def zstd_frame(data: bytes) -> bytes:
    """Without a library for it: a frame of raw blocks, which every decoder takes."""
    starts = range(0, max(len(data), 1), ZSTD_BLOCK)
    blocks = [data[start : start + ZSTD_BLOCK] for start in starts]
    headers = [(len(block) << 3 | (LAST if block is blocks[-1] else 0)).to_bytes(3, "little") for block in blocks]
    return ZSTD_FRAME + b"".join(header + block for header, block in zip(headers, blocks, strict=True))
