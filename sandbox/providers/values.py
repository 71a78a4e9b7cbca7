"""Property values as the engine sends them, as Python values that keep secrets and unknowns.

A secret is wrapped in :class:`Secret`, what a preview can't know yet is :data:`UNKNOWN`; the rest is plain JSON.
Numbers without a fraction become ``int``: the wire knows floats only, and Kubernetes refuses ``3.0`` replicas.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

from google.protobuf import struct_pb2

# The signatures are part of the protocol: sdk/go/common/resource/sig in the engine's source.
_SIGNATURE_KEY: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a marker of the protocol, not a password
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_TYPED_UNKNOWNS: Final = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)


class Unknown(enum.Enum):
    """The type of the one value that stands for "known only after the update"."""

    UNKNOWN = enum.auto()


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True)
class Secret:
    """A value that the engine keeps encrypted in the state and masked on the screen."""

    value: Value

    def __repr__(self) -> str:
        return "Secret(...)"


Value: TypeAlias = Union[bool, int, float, str, "list[Value]", "dict[str, Value]", Secret, Unknown, None]
Properties: TypeAlias = dict[str, Value]


def decode(properties: struct_pb2.Struct) -> Properties:
    """Turn a message's properties into Python values; absent and null are the same to a provider."""
    return _decode_fields(properties.fields)


def encode(properties: Mapping[str, Value]) -> struct_pb2.Struct:
    """Turn Python values into a message's properties."""
    return struct_pb2.Struct(fields={key: _encode_value(value) for key, value in properties.items()})


def reveal(value: Value) -> Value:
    """Give a deep copy without the secret wrappers, for sending on or for comparing."""
    if isinstance(value, Secret):
        return reveal(value.value)
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item) for item in value]
    return value


def revealed(properties: Mapping[str, Value]) -> Properties:
    """Do what :func:`reveal` does, for a whole set of properties."""
    return {key: reveal(value) for key, value in properties.items()}


def contains_unknown(value: Value) -> bool:
    """Tell whether any part of the value is known only after the update."""
    if isinstance(value, Secret):
        return contains_unknown(value.value)
    if isinstance(value, dict):
        return any(map(contains_unknown, value.values()))
    if isinstance(value, list):
        return any(map(contains_unknown, value))
    return value is UNKNOWN


def contains_secret(value: Value) -> bool:
    """Tell whether any part of the value is secret."""
    if isinstance(value, dict):
        return any(map(contains_secret, value.values()))
    if isinstance(value, list):
        return any(map(contains_secret, value))
    return isinstance(value, Secret)


def secret(value: Value) -> Value:
    """Wrap a value once."""
    return value if isinstance(value, Secret) else Secret(reveal(value))


def mark_like(value: Value, pattern: Value) -> Value:
    """Wrap those parts of the value that are secret in the pattern, which is the input it came from."""
    if isinstance(pattern, Secret):
        return secret(value)
    if isinstance(value, dict) and isinstance(pattern, dict):
        return {key: mark_like(item, pattern.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(pattern, list):
        if len(value) == len(pattern):
            return [mark_like(item, like) for item, like in zip(value, pattern, strict=True)]
        return secret(value) if contains_secret(pattern) else value
    return value


def marked_like(properties: Mapping[str, Value], pattern: Mapping[str, Value]) -> Properties:
    """Do what :func:`mark_like` does, for a whole set of properties."""
    return {key: mark_like(value, pattern.get(key)) for key, value in properties.items()}


def mapping(value: Value) -> Properties:
    """Give the value if it is a mapping, else an empty one: for reading where anything may be absent."""
    if isinstance(value, Secret):
        return mapping(value.value)
    return value if isinstance(value, dict) else {}


def sequence(value: Value) -> list[Value]:
    """Give the value if it is a list, else an empty one."""
    if isinstance(value, Secret):
        return sequence(value.value)
    return value if isinstance(value, list) else []


def text(value: Value) -> str:
    """Give the value if it is a string, else an empty one."""
    if isinstance(value, Secret):
        return text(value.value)
    return value if isinstance(value, str) else ""


def at(value: Value, *keys: str) -> Value:
    """Give what is found by following the keys down, or None."""
    for key in keys:
        value = mapping(value).get(key)
    return value


def integer(value: Value, default: int = 0) -> int:
    """Give the value if it is a number, else the default."""
    if isinstance(value, Secret):
        return integer(value.value, default)
    return int(value) if isinstance(value, int | float) else default


def _decode_fields(fields: Mapping[str, struct_pb2.Value]) -> Properties:
    decoded = {key: _decode_value(value) for key, value in fields.items()}
    return {key: value for key, value in decoded.items() if value is not None}


def _decode_value(value: struct_pb2.Value) -> Value:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "string_value":
            return _decode_string(value.string_value)
        case "list_value":
            return [_decode_value(item) for item in value.list_value.values]
        case "struct_value":
            return _decode_struct(value.struct_value)
        case _:
            return None


def _decode_string(value: str) -> str | Unknown:
    return UNKNOWN if value == _UNKNOWN or value in _TYPED_UNKNOWNS else value


def _decode_struct(value: struct_pb2.Struct) -> Value:
    fields = value.fields
    signature = fields[_SIGNATURE_KEY].string_value if _SIGNATURE_KEY in fields else ""
    if signature == _SECRET:
        return Secret(_decode_value(fields["value"]))
    if signature == _OUTPUT:
        inner: Value = _decode_value(fields["value"]) if "value" in fields else UNKNOWN
        return Secret(inner) if "secret" in fields and fields["secret"].bool_value else inner
    return _decode_fields(fields)


def _encode_value(value: Value) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, Secret):
        return _encode_value({_SIGNATURE_KEY: _SECRET, "value": value.value})
    if isinstance(value, Unknown):
        return struct_pb2.Value(string_value=_UNKNOWN)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, list):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_encode_value(item) for item in value]))
    return struct_pb2.Value(struct_value=encode(value))
