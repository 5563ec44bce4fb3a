"""The model file: what is refused, and that writing leaves nothing half done."""

import contextlib
import json
import os
import struct
import zipfile
from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_embed.errors import ManifestError, ModelFileError
from edge_embed.model_file.file import Identity, ModelFile, write_model_file
from edge_embed.model_file.manifest import Manifest, encode_vector
from edge_embed.names import MANIFEST_NAME, PROBES_NAME

FROM_FIXTURES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def zipped(path, graph, entries, **fields):
    """Writes a graph and a zip in which anything may be wrong; `fields` go into every entry."""
    with open(path, "wb") as handle:
        handle.write(graph)
        with zipfile.ZipFile(handle, "w") as archive:
            for name, data in entries:
                info = zipfile.ZipInfo(name)
                for field, value in fields.items():
                    setattr(info, field, value)
                archive.writestr(info, data)
    return path


def test_reads_what_was_written(tiny_model, tiny_graph, tiny_manifest):
    file = ModelFile.open(tiny_model)
    assert file.names == [MANIFEST_NAME, "tokenizer.json", PROBES_NAME]
    assert file.manifest == tiny_manifest
    assert tiny_model.read_bytes().startswith(tiny_graph)
    assert [probe.text for probe in file.probes()] == ["the red planet"]
    assert file.probes()[0].vector.shape == (tiny_manifest.dimension,)
    file.verify_graph()
    file.require_unchanged()


def test_zipfile_opens_the_same_path_and_members_are_stored(tiny_model):
    with zipfile.ZipFile(tiny_model) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read(MANIFEST_NAME))["name"] == "tiny"


def test_equal_input_gives_equal_bytes(tmp_path, parts):
    graph, members = parts
    for name in ("a", "b"):
        write_model_file(tmp_path / name, memoryview(graph), members)
    (tmp_path / "graph").write_bytes(graph)
    write_model_file(tmp_path / "c", tmp_path / "graph", members)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a model file"),
        (b"hello, this is a text file\n", "not a model file"),
        (b"PK\3\4" + b"\0" * 40, "not a model file"),
        (b"\x1c\0\0\0TFL3", "without the zip part"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 500, "without the zip part"),
    ],
)
def test_files_that_are_no_model_of_ours(tmp_path, content, message):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        ModelFile.open(path)


def test_a_plain_graph_is_told_from_garbage(tmp_path, tiny_graph):
    path = tmp_path / "plain.tflite"
    path.write_bytes(tiny_graph)
    with pytest.raises(ModelFileError, match="edge_embed convert"):
        ModelFile.open(path)


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing.tflite", tmp_path / "pipe", "/dev/null", "a\0b"):
        with pytest.raises(ModelFileError):
            ModelFile.open(path)


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.0)
@FROM_FIXTURES
def test_truncation_anywhere_is_noticed_at_once(tiny_model, tmp_path, share):
    content = tiny_model.read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError):
        ModelFile.open(path)


def test_truncation_at_every_byte_of_the_zip_directory(tiny_model, tmp_path):
    content = tiny_model.read_bytes()
    path = tmp_path / "cut.tflite"
    for missing in range(1, 400):
        path.write_bytes(content[:-missing])
        with pytest.raises(ModelFileError):
            ModelFile.open(path)


@given(data=st.data())
@FROM_FIXTURES
def test_a_changed_byte_is_noticed_or_harmless(tiny_model, tiny_graph, tmp_path, data):
    content = bytearray(tiny_model.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.tflite"
    path.write_bytes(content)
    try:
        file = ModelFile.open(path)
        assert file.manifest.name == "tiny"  # its checksum held
        file.verify_graph()
        tokenizer = file.read("tokenizer.json")
        file.probes()
    except ModelFileError:
        return
    assert place >= len(tiny_graph)
    assert tokenizer == ModelFile.open(tiny_model).read("tokenizer.json")


@given(tail=st.binary(max_size=400))
@FROM_FIXTURES
def test_any_bytes_after_the_graph(tiny_graph, tmp_path, tail):
    path = tmp_path / "tail.tflite"
    path.write_bytes(tiny_graph + tail + b"PK\5\6" + tail[:16].ljust(16, b"\1") + b"\0\0")
    with pytest.raises(ModelFileError):
        ModelFile.open(path)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../escape", "a/../../b", "..", "C:evil", "c:/evil", "a\\b", "dir/", "line\nbreak", ""],
)
def test_hostile_names(tmp_path, parts, name):
    graph, members = parts
    path = zipped(tmp_path / "x.tflite", graph, [*members.items(), (name or "placeholder", b"x")])
    if not name:
        path.write_bytes(path.read_bytes().replace(b"placeholder", b"\0" * len("placeholder")))
    with pytest.raises(ModelFileError, match="unsafe name"):
        ModelFile.open(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(tmp_path, parts):
    graph, members = parts
    path = zipped(tmp_path / "x.tflite", graph, [*members.items(), ("tokenizer.json", b"{}")])
    with pytest.raises(ModelFileError, match="two members are named"):
        ModelFile.open(path)


def test_compressed_members(tmp_path, parts):
    graph, members = parts
    path = zipped(tmp_path / "x.tflite", graph, members.items(), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="compressed"):
        ModelFile.open(path)


def central_entry(content, name):
    """Returns where the central directory's entry of a member begins."""
    end = struct.unpack_from("<L", content, len(content) - 6)[0]
    return content.rindex(b"PK\1\2", end, content.index(name.encode(), end))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, struct.pack("<H", 1), "encrypted"),
        (20, struct.pack("<LL", 0x7FFFFFFF, 0x7FFFFFFF), "declares"),
        (20, struct.pack("<LL", 10, 10**9), "compressed"),
        (42, struct.pack("<L", 0), "no local header|overlap"),
        (42, struct.pack("<L", 0x7FFFFFFF), "outside|damaged"),
        (16, struct.pack("<L", 12345), "checksum"),
    ],
)
def test_hostile_directory_entries(tmp_path, tiny_model, offset, value, message):
    content = bytearray(tiny_model.read_bytes())
    place = central_entry(content, "tokenizer.json") + offset
    content[place : place + len(value)] = value
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        ModelFile.open(path).read("tokenizer.json")


def test_members_that_overlap(tmp_path, tiny_model):
    content = bytearray(tiny_model.read_bytes())
    target, source = central_entry(content, PROBES_NAME), central_entry(content, "tokenizer.json")
    content[target + 42 : target + 46] = content[source + 42 : source + 46]
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        ModelFile.open(path)


def test_a_zip_without_a_manifest(tmp_path, parts):
    path = zipped(tmp_path / "x.tflite", parts[0], [("labels.txt", b"a\nb\n")])
    with pytest.raises(ManifestError, match=r"without edge_embed\.json"):
        ModelFile.open(path)


def test_a_graph_that_reaches_into_the_zip(tmp_path, build_model, tiny_manifest):
    graph = replace(tiny_manifest.graph, bytes=tiny_manifest.graph.bytes + 10)
    path = build_model(tmp_path / "x.tflite", graph=graph, self_check=tiny_manifest.self_check)
    with pytest.raises(ModelFileError, match="overlap"):
        ModelFile.open(path)


def test_a_newer_schema(tmp_path, parts):
    graph, members = parts
    raw = json.loads(members[MANIFEST_NAME]) | {"schema_version": 2, "unknown": True}
    path = zipped(tmp_path / "x.tflite", graph, [(MANIFEST_NAME, json.dumps(raw))])
    with pytest.raises(ManifestError, match="newer edge_embed") as caught:
        ModelFile.open(path)
    assert "pip install --upgrade" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("where", "value", "problem"),
    [
        ("tokenizer.pad_id", 512, "outside the vocabulary of 512: [512]"),
        ("tokenizer.pad_id", -1, "outside the vocabulary of 512: [-1]"),
        ("tokenizer.prefix_ids", [2, 600], "outside the vocabulary of 512: [600]"),
        ("tokenizer.suffix_ids", [-7], "outside the vocabulary of 512: [-7]"),
        ("self_check.tokens", [2, 10**12], f"outside the vocabulary of 512: [{10**12}]"),
        ("tokenizer.vocab_size", 0, "outside the vocabulary of 0"),
        ("similarity", "jaccard", "unknown similarity 'jaccard'"),
        ("similarity", "Cosine", "unknown similarity 'Cosine'"),
        ("self_check.min_cosine", 0, "least cosine is 0.0"),
        ("self_check.min_cosine", -0.5, "least cosine is -0.5"),
        ("self_check.min_cosine", 1.001, "least cosine is 1.001"),
        ("self_check.min_cosine", float("nan"), "least cosine is nan"),
    ],
)
def test_a_manifest_whose_numbers_cannot_be_meant(tiny_manifest, where, value, problem):
    raw = asdict(tiny_manifest)
    *parents, key = where.split(".")
    holder = raw
    for parent in parents:
        holder = holder[parent]
    holder[key] = value
    with pytest.raises(ManifestError, match="is inconsistent") as caught:
        Manifest.from_json(json.dumps(raw))
    assert problem in str(caught.value)


def test_the_limits_of_a_manifest_are_within_it(tiny_manifest):
    raw = asdict(tiny_manifest)
    raw["tokenizer"] |= {"pad_id": 511, "prefix_ids": [0]}
    raw["self_check"]["min_cosine"] = 1
    for raw["similarity"] in ("cosine", "dot", "euclidean", "manhattan"):
        assert Manifest.from_json(json.dumps(raw)).similarity == raw["similarity"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON)
@example(value={"schema_version": 10**30})
@FROM_FIXTURES
def test_any_json_is_no_manifest(value):
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps(value))


@given(data=st.data())
@FROM_FIXTURES
def test_a_manifest_with_any_field_replaced_is_read_or_refused(tiny_manifest, data):
    raw = asdict(tiny_manifest)
    holder = raw
    while True:
        key = data.draw(st.sampled_from(sorted(holder)))
        if not isinstance(holder[key], dict) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    if data.draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = data.draw(JSON)
    with contextlib.suppress(ManifestError):  # any other error fails the test
        Manifest.from_json(json.dumps(raw))


def test_damaged_probes(tmp_path, build_model, tiny_manifest):
    good = {"text": "a", "prompt_name": None, "tokens": [2, 3], "length": 8}
    good["embedding"] = tiny_manifest.self_check.embedding
    bad = [
        b"not json",
        b"[]",
        b"{}",
        b'{"probes": [1]}',
        b'{"probes": [{"text": "a"}]}',
        *(
            json.dumps({"probes": [good | change]}).encode()
            for change in (
                {"length": 9},
                {"tokens": []},
                {"tokens": ["a"]},
                {"text": 1},
                {"embedding": "???"},
                {"embedding": encode_vector([1.0])},
                {"prompt_name": 3},
            )
        ),
    ]
    for index, content in enumerate(bad):
        path = build_model(
            tmp_path / f"{index}.tflite", members={PROBES_NAME: content}, self_check=tiny_manifest.self_check
        )
        with pytest.raises(ModelFileError, match="damaged"):
            ModelFile.open(path).probes()


def test_a_file_without_probes_has_none(tmp_path, build_model, tiny_manifest):
    path = build_model(tmp_path / "x.tflite", self_check=tiny_manifest.self_check)
    assert ModelFile.open(path).probes() == []


def test_a_damaged_graph_is_found_by_its_hash(tmp_path, tiny_model):
    content = bytearray(tiny_model.read_bytes())
    content[len(content) // 4] ^= 1
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"graph .* is damaged"):
        ModelFile.open(path).verify_graph()


def test_another_tokenizer_in_the_archive(tmp_path, build_model, tiny_manifest):
    path = build_model(
        tmp_path / "x.tflite", members={"tokenizer.json": b"{}"}, self_check=tiny_manifest.self_check
    )
    with pytest.raises(ModelFileError, match="not the one that its manifest describes"):
        ModelFile.open(path).read("tokenizer.json")


def test_a_file_replaced_while_in_use(tmp_path, tiny_model):
    path = tmp_path / "x.tflite"
    path.write_bytes(tiny_model.read_bytes())
    file = ModelFile.open(path)
    os.utime(path, ns=(1, 1))
    for use in (file.require_unchanged, file.verify_graph, lambda: file.read("tokenizer.json")):
        with pytest.raises(ModelFileError, match="changed while"):
            use()
    path.unlink()
    with pytest.raises(ModelFileError, match="no model file"):
        file.require_unchanged()


def test_an_unknown_member(tiny_model):
    with pytest.raises(ModelFileError, match="no member 'nothing'"):
        ModelFile.open(tiny_model).read("nothing")


def test_identity_follows_the_file(tiny_model):
    assert Identity.of(tiny_model.stat()) == ModelFile.open(tiny_model).identity
