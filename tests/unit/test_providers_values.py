"""Property values survive the way from the engine and back."""

from __future__ import annotations

from google.protobuf import json_format, struct_pb2

from sandbox.providers.values import (
    UNKNOWN,
    Properties,
    Secret,
    contains_secret,
    contains_unknown,
    decode,
    encode,
    marked_like,
    revealed,
)

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_MARK = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def struct(fields: dict[str, object]) -> struct_pb2.Struct:
    return json_format.ParseDict(fields, struct_pb2.Struct())


def test_secrets_and_unknowns_make_the_round_trip_at_any_depth() -> None:
    properties: Properties = {
        "plain": {"list": [1, "two", {"three": Secret({"deep": "hidden"})}]},
        "whole": Secret(["a", "b"]),
        "later": UNKNOWN,
        "secret later": Secret(UNKNOWN),
        "flag": True,
    }
    assert decode(encode(properties)) == properties


def test_a_secret_is_written_with_the_protocols_signature() -> None:
    written = json_format.MessageToDict(encode({"password": Secret("x"), "later": UNKNOWN}))
    assert written == {"password": {SIGNATURE: SECRET, "value": "x"}, "later": UNKNOWN_MARK}


def test_numbers_without_a_fraction_become_integers_and_stay_apart_from_booleans() -> None:
    decoded = decode(struct({"replicas": 3.0, "ratio": 0.5, "flag": True}))
    assert decoded == {"replicas": 3, "ratio": 0.5, "flag": True}
    assert [type(decoded[key]) for key in ("replicas", "ratio", "flag")] == [int, float, bool]


def test_absent_and_null_properties_are_the_same() -> None:
    assert decode(struct({"here": "x", "gone": None, "nested": {"gone": None}})) == {"here": "x", "nested": {}}


def test_outputs_become_what_they_hold() -> None:
    fields = {
        "known": {SIGNATURE: OUTPUT, "value": "x", "dependencies": []},
        "hidden": {SIGNATURE: OUTPUT, "value": "x", "secret": True},
        "unknown": {SIGNATURE: OUTPUT},
    }
    assert decode(struct(fields)) == {"known": "x", "hidden": Secret("x"), "unknown": UNKNOWN}


def test_unknowns_of_every_type_are_recognised() -> None:
    assert decode(struct({"number": "3eeb2bf0-c639-47a8-9e75-3b44932eb421"})) == {"number": UNKNOWN}


def test_a_secret_shows_nothing_in_its_representation() -> None:
    assert "hunter2" not in repr({"password": Secret("hunter2")})


def test_outputs_are_secret_where_their_inputs_are() -> None:
    live: Properties = {"data": {"a": "x", "b": "y"}, "list": ["p", "q"], "uid": "1"}
    inputs: Properties = {"data": {"a": Secret("x"), "b": "y"}, "list": ["p", Secret("q")]}
    expected = {"data": {"a": Secret("x"), "b": "y"}, "list": ["p", Secret("q")], "uid": "1"}
    assert marked_like(live, inputs) == expected


def test_a_list_that_has_grown_is_secret_as_a_whole_if_any_item_was() -> None:
    assert marked_like({"list": ["p", "q", "r"]}, {"list": ["p", Secret("q")]}) == {"list": Secret(["p", "q", "r"])}


def test_revealing_goes_all_the_way_down() -> None:
    hidden: Properties = {"a": Secret({"b": [Secret("c")]}), "later": Secret(UNKNOWN)}
    assert not contains_secret(revealed(hidden))
    assert contains_unknown(hidden)
    assert revealed(hidden) == {"a": {"b": ["c"]}, "later": UNKNOWN}
