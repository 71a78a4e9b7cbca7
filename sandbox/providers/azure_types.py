"""Which properties Azure's resource types have, as the installed pulumi-azure-native SDK tells it.

The plugin itself sends on what it does not know and drops it silently; here that is an error, since it is a mistake.
"""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import threading
import types
import typing
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pulumi import Output
from pulumi import _types as sdk_types

from sandbox.providers.values import Unknown, Value, reveal

Problem: TypeAlias = tuple[str, str]
"""A property and what is wrong with it."""

_LOADING = threading.Lock()
_SCALARS = {bool: "boolean", str: "string", int: "number", float: "number"}


@functools.cache
def sdk_class(module: str, name: str) -> type:
    """A class of the SDK, loaded when first needed: most programs have nothing of Azure."""
    # The SDK loads its modules lazily, and two threads that do so at once see one that is half loaded.
    with _LOADING:
        found: type = getattr(importlib.import_module(f"pulumi_azure_native.{module}"), name)
    return found


@functools.cache
def input_names(module: str, name: str) -> frozenset[str]:
    """The properties that a program can set on a resource."""
    return frozenset(sdk_types.input_type_types(sdk_class(module, f"{name}Args")))


@functools.cache
def output_names(module: str, name: str) -> frozenset[str]:
    """The properties that a resource has."""
    return frozenset(sdk_types.resource_types(sdk_class(module, name)))


def problems(module: str, name: str, inputs: Mapping[str, Value]) -> list[Problem]:
    """Everything that the type does not have, lacks, or has as something else."""
    return list(_object_problems(sdk_class(module, f"{name}Args"), inputs, ""))


def _object_problems(arguments: type, value: Mapping[str, Value], path: str) -> Iterator[Problem]:
    known = sdk_types.input_type_types(arguments)
    for name in _required(arguments):
        if name not in value:
            yield _at(path, name), f"missing required property '{_at(path, name)}'"
    for name, item in value.items():
        if name in known:
            yield from _problems(known[name], reveal(item), _at(path, name))
        else:
            reason = f"'{_at(path, name)}' is no property of {arguments.__name__.removesuffix('Args')}"
            yield _at(path, name), f"{reason} in the pinned pulumi-azure-native"


def _problems(annotation: Any, value: Value, path: str) -> Iterator[Problem]:  # noqa: ANN401 - annotations are of any kind
    choices = list(_alternatives(annotation))
    if value is None or isinstance(value, Unknown) or Any in choices:
        return
    for choice in choices:
        if sdk_types.is_input_type(choice) and isinstance(value, dict):
            yield from _object_problems(choice, value, path)
            return
        if _is_generic(choice, Mapping) and isinstance(value, dict):
            for key, item in value.items():
                yield from _problems(typing.get_args(choice)[1], item, _at(path, key))
            return
        if _is_generic(choice, Sequence) and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _problems(typing.get_args(choice)[0], item, f"{path}[{index}]")
            return
    yield from _scalar_problems(choices, value, path)


def _scalar_problems(choices: Sequence[Any], value: Value, path: str) -> Iterator[Problem]:
    enums = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, enum.Enum)]
    allowed = [member.value for choice in enums for member in choice]
    if enums:
        if value not in allowed:
            yield path, f"'{path}' is {value!r}: Azure knows {', '.join(map(repr, allowed))}"
    elif not any(_is_scalar(value, choice) for choice in choices):
        wanted = " or ".join(dict.fromkeys(_SCALARS.get(choice, "object or list") for choice in choices))
        yield path, f"'{path}' should be of type '{wanted}'"


def _is_scalar(value: Value, choice: Any) -> bool:  # noqa: ANN401 - annotations are of any kind
    if choice not in _SCALARS:
        return False
    if isinstance(value, bool) or choice is bool:
        return isinstance(value, bool) and choice is bool
    return isinstance(value, str if choice is str else int | float)


def _required(arguments: type) -> Iterator[str]:
    names = sdk_types.input_type_py_to_pulumi_names(arguments)
    for parameter in inspect.signature(arguments).parameters.values():
        if parameter.default is parameter.empty:
            yield names[parameter.name]


def _alternatives(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - annotations are of any kind
    """What may stand there as a plain value: `Input[Optional[T]]` and the like are unions."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        for choice in typing.get_args(annotation):
            yield from _alternatives(choice)
    elif annotation is not types.NoneType and origin not in {Awaitable, Output}:
        yield annotation


def _is_generic(annotation: Any, kind: type) -> bool:  # noqa: ANN401 - annotations are of any kind
    return typing.get_origin(annotation) is kind


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
