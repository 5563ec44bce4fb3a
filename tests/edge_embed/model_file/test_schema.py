"""JSON to dataclasses: what is read and refused, and that versions of a format understand each other."""

import json
from dataclasses import asdict, dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.errors import InputError, ManifestError
from edge_embed.model_file.manifest import Manifest
from edge_embed.model_file.schema import from_json, to_json
from edge_embed.model_file.upgrade import upgrade


@dataclass(frozen=True)
class Part:
    size: int
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    name: str
    parts: list[Part]
    by_name: dict[str, Part] = field(default_factory=dict)
    flag: bool = True


def test_defaults_stand_in_for_missing_fields():
    assert from_json(Whole, {"name": "a", "parts": [{"size": 1}]}, "it") == Whole("a", [Part(1)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "a"}, "^it lacks fields\n  got: no parts"),
        ({"name": "a", "parts": [{"size": 1}, {}]}, r"^it.parts\[1\] lacks fields\n  got: no size"),
        ({"name": "a", "parts": [], "by_name": {"x": 3}}, "^it.by_name.x is not an object"),
        ({"name": None, "parts": []}, "^it.name has the wrong type\n  got: NoneType\n  expected: str"),
        ({"name": "a", "parts": {}}, "^it.parts has the wrong type"),
        ({"name": "a", "parts": [{"size": True}]}, "size has the wrong type\n  got: bool\n  expected: int"),
        ({"name": "a", "parts": [{"size": 1.0}]}, "size has the wrong type"),
        ({"name": "a", "parts": [], "flag": 1}, "flag has the wrong type"),
        ({"name": "a", "parts": [{"size": 1, "share": 10**400}]}, "share is out of range"),
        ([], "^it is not an object"),
    ],
)
def test_a_value_that_does_not_fit_is_named(value, message):
    with pytest.raises(InputError, match=message):
        from_json(Whole, value, "it")


def test_unknown_fields_are_kept_at_their_place():
    raw = {
        "name": "a",
        "parts": [{"size": 1, "new": [1]}, {"size": 2}],
        "by_name": {"p": {"size": 3, "x": {}}},
    }
    raw |= {"later": {"deep": None}, "flag": False}
    unknown = {}
    whole = from_json(Whole, raw, "it", unknown=unknown)
    for value in (raw["parts"][1], raw["parts"][0], raw["by_name"]["p"]):
        value["share"] = None
    assert to_json(whole, unknown) == raw
    # Of an object that is gone nothing is kept, and a field that became known is not overwritten.
    unknown[()]["name"] = "old"
    assert to_json(replace(whole, parts=[]), unknown) == raw | {"parts": []}


def test_a_manifest_keeps_the_fields_of_a_later_version(tiny_manifest):
    raw = asdict(tiny_manifest)
    del raw["unknown_fields"]
    raw["recorded"] = {"by": "a later version"}
    raw["tokenizer"]["normalizer"] = "NFKC"
    raw["parity"]["buckets"][0]["median"] = 0.5
    manifest = Manifest.from_json(json.dumps(raw))
    assert replace(manifest, unknown_fields={}) == tiny_manifest
    assert json.loads(manifest.to_json()) == raw
    again = replace(manifest, name="renamed")
    assert json.loads(again.to_json()) == raw | {"name": "renamed"}
    assert Manifest.from_json(again.to_json()) == again


def test_a_manifest_of_an_earlier_version_takes_the_defaults(tiny_manifest):
    @dataclass(frozen=True)
    class Later(Manifest):
        note: str = "none"

    raw = tiny_manifest.to_dict()
    assert Later.from_json(json.dumps(raw)).note == "none"
    assert Later.from_json(json.dumps(raw | {"note": "x"})).note == "x"
    assert Manifest.from_json(json.dumps(raw | {"licence": {}})).licence.files == []


@pytest.mark.parametrize("place", [("parity", "cosine_min"), ("parity", "buckets", 0, "cosine_mean")])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 4000, "1" + "0" * 5000])
def test_an_integer_too_large_for_a_float_is_a_manifest_error(tiny_manifest, place, number):
    raw = holder = tiny_manifest.to_dict()
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = "NUMBER"
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps(raw).replace('"NUMBER"', number))


def test_steps_lead_from_each_schema_to_the_newest():
    steps = {
        1: lambda raw: {"lengths" if key == "buckets" else key: item for key, item in raw.items()},
        2: lambda raw: {**raw, "unit": "tokens"},
    }
    old = {"schema_version": 1, "buckets": [16], "kept": 1}
    new = {"schema_version": 3, "lengths": [16], "kept": 1, "unit": "tokens"}
    assert upgrade(old, steps=steps, newest=3) == new
    assert old == {"schema_version": 1, "buckets": [16], "kept": 1}
    assert upgrade({"schema_version": 2, "lengths": [16], "kept": 1}, steps=steps, newest=3) == new
    assert upgrade(new, steps=steps, newest=3) == new
    with pytest.raises(ManifestError, match="newer edge_embed"):
        upgrade({"schema_version": 4}, steps=steps, newest=3)


@given(version=st.none() | st.booleans() | st.text() | st.floats() | st.integers(max_value=0))
def test_a_manifest_without_a_version_is_refused(version):
    with pytest.raises(ManifestError, match="no schema version"):
        upgrade({"schema_version": version})
