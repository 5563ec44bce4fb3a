"""Shared fixtures: a tiny graph, two tiny tokenizers, and model files made of them. Nothing is downloaded.

The graph has signatures for `BUCKETS`, a table of `VOCABULARY` rows, and
vectors of `DIMENSION` numbers; the order of the tokens matters to it and padding does not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.model_file.file import ModelFile, write_model_file
from edge_embed.model_file.manifest import (
    Architecture,
    BucketParity,
    Graph,
    Licence,
    Manifest,
    Parity,
    RecipeRecord,
    SelfCheck,
    Source,
    TokenizerRecord,
    encode_vector,
)
from edge_embed.model_file.probes import Probe
from edge_embed.names import MANIFEST_NAME, PROBES_NAME

BUCKETS = [8, 16, 32]
DIMENSION = 8
VOCABULARY = 512
WORDS = (  # noqa: SIM905 - a list of forty lines says no more
    "the a red planet mars is known as which query document title none text search result task of and water "
    "stone river sings over old green hills while seven small birds fly home before night falls on us all"
).split()


PARITY = Parity(
    passed=True,
    failures=[],
    probes=1,
    cosine_mean=1.0,
    cosine_min=1.0,
    norm_error_max=0.0,
    non_finite=0,
    zero_vectors=0,
    token_mismatches=0,
    neighbours=1.0,
    neighbours_k=1,
    thresholds={"cosine_min": 0.99},
    buckets=[BucketParity(BUCKETS[0], 1, 1.0, 1.0)],
)


@pytest.fixture(autouse=True)
def cache_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own: no test reads or writes the user's."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(path))
    return path


@dataclass(frozen=True)
class Result:
    """The exit code of a command and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Each line of stdout, read as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def records(self) -> list[Any]:
        """The records of `bench --json`."""
        records: list[Any] = json.loads(self.out)["records"]
        return records


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`run("embed", path, "text")` runs a command in this process and returns its `Result`."""
    from edge_embed.cli import main

    def call(*words: Any) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def wordpiece_config() -> Callable[[int], bytes]:
    """`wordpiece_config(32)` returns a tokenizer_config.json for a WordPiece that reads 32 tokens."""
    names = ("pad", "unk", "cls", "sep")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": f"[{name.upper()}]" for name in names},
    }
    return lambda longest: json.dumps({**config, "model_max_length": longest}).encode()


@pytest.fixture(scope="session")
def tiny_graph() -> bytes:
    """The flatbuffer, which `golden/tiny_graph.py` made; a test of the converter compares the two."""
    return (Path(__file__).parent / "golden" / "tiny.tflite").read_bytes()


@pytest.fixture(scope="session")
def wordpiece() -> tuple[TokenizerRecord, bytes]:
    """A WordPiece tokenizer as `tokenizer.json`, with [CLS] and [SEP] around the text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz0123456789:.,|?!-'"]
    pieces += ["##" + letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces += [word for word in WORDS if word not in pieces]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.enable_truncation(4)  # as many released files do; the runtime must undo it
    data = tokenizer.to_str().encode()
    return _record("tokenizer.json", "tokenizers", data, prefix=[2], suffix=[3]), data


@pytest.fixture(scope="session")
def sentencepiece_bpe() -> tuple[TokenizerRecord, bytes]:
    """A SentencePiece BPE model with byte fallback and Gemma's special ids: pad 0, eos 1, bos 2, unk 3."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
    )
    data = model.getvalue()
    return _record("tokenizer.model", "sentencepiece", data, prefix=[2], suffix=[1]), data


def _record(file: str, kind: str, data: bytes, *, prefix: list[int], suffix: list[int]) -> TokenizerRecord:
    return TokenizerRecord(
        file=file,
        kind=kind,
        sha256=hashlib.sha256(data).hexdigest(),
        lowercase=False,
        pad_id=0,
        prefix_ids=prefix,
        suffix_ids=suffix,
        vocab_size=VOCABULARY,
    )


def make_manifest(flatbuffer: bytes, record: TokenizerRecord, /, **changes: Any) -> Manifest:
    """Returns a manifest for the tiny graph; its self-check vector is a placeholder."""
    manifest = Manifest(
        name="tiny",
        source=Source("tests/tiny", None, "0" * 64),
        architecture=Architecture("tiny", VOCABULARY * 16, {"hidden_size": 16}),
        recipe=RecipeRecord("fp32", "fp32", {}),
        graph=Graph(len(flatbuffer), hashlib.sha256(flatbuffer).hexdigest(), True),
        buckets=BUCKETS,
        max_tokens=BUCKETS[-1],
        pooling=["mean"],
        normalize=True,
        dimension=DIMENSION,
        matryoshka_dimensions=[DIMENSION, DIMENSION // 2],
        similarity="cosine",
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
        default_prompt_name=None,
        tokenizer=record,
        licence=Licence("apache-2.0", []),
        tools={"edge-embed": "0"},
        parity=PARITY,
        self_check=SelfCheck([2, 50, 60, 3], encode_vector(np.ones(DIMENSION)), 0.9999),
    )
    return replace(manifest, **changes)


ModelBuilder = Callable[..., Path]


@pytest.fixture(scope="session")
def build_model(
    tiny_graph: bytes,
    wordpiece: tuple[TokenizerRecord, bytes],
    sentencepiece_bpe: tuple[TokenizerRecord, bytes],
) -> ModelBuilder:
    """Builds a complete model file: `build_model(path, kind="tokenizers", members={...}, **manifest_fields)`.

    The self-check and one probe hold the graph's own answers, unless `self_check` is among the fields.
    """

    def build(
        path: Path, kind: str = "tokenizers", members: dict[str, bytes] | None = None, **changes: Any
    ) -> Path:
        record, data = wordpiece if kind == "tokenizers" else sentencepiece_bpe
        manifest = make_manifest(tiny_graph, record, **changes)
        extra = {record.file: data, **(members or {})}
        if "self_check" not in changes:
            write_model_file(path, tiny_graph, {MANIFEST_NAME: manifest.to_json().encode(), **extra})
            tokens = manifest.self_check.tokens
            with Embedder(path, self_check=False, weight_cache="memory", num_threads=1) as model:
                vector = encode_vector(model.encode_tokens(tokens))
                text = "the red planet"
                probe = Probe(
                    text, None, model.tokenize([text])[0], BUCKETS[0], encode_vector(model.encode(text))
                )
            manifest = replace(manifest, self_check=replace(manifest.self_check, embedding=vector))
            extra.setdefault(
                PROBES_NAME, json.dumps({"schema_version": 1, "probes": [asdict(probe)]}).encode()
            )
        write_model_file(path, tiny_graph, {MANIFEST_NAME: manifest.to_json().encode(), **extra})
        return path

    return build


@pytest.fixture(scope="session")
def tiny_model(build_model: ModelBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with the WordPiece tokenizer. Read only: tests that damage it work on a copy."""
    return build_model(tmp_path_factory.mktemp("models") / "tiny.fp32.tflite")


@pytest.fixture(scope="session")
def tiny_sentencepiece_model(build_model: ModelBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with the SentencePiece tokenizer. Read only, as `tiny_model`."""
    return build_model(tmp_path_factory.mktemp("models") / "tiny.gemma.tflite", kind="sentencepiece")


@pytest.fixture(scope="session")
def tiny_manifest(tiny_model: Path) -> Manifest:
    """The manifest of `tiny_model`, self-check included."""
    return ModelFile.open(tiny_model).manifest


@pytest.fixture
def mount_small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a disk: `mount_small_disk(megabytes, other=1)`; the file `other` takes so many of them."""
    mounted = []

    def mount(megabytes: int, *, other: int = 0) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("only root may mount a small disk")
        if done.returncode:
            pytest.skip("only root may mount a small disk")
        mounted.append(place)
        if other:
            (place / "other").write_bytes(bytes(other << 20))
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def run_python() -> Callable[[list[str], Path], str]:
    """`run_python(arguments, directory)` runs Python over this project and returns what it printed."""
    root = Path(__file__).parents[1]
    paths = [str(root), str(root / "converters"), str(root / "benchmarks")]

    def run(arguments: list[str], directory: Path) -> str:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def demo_examples(
    run_python: Callable[[list[str], Path], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The examples' directory as `make demo` leaves it, with the real all-MiniLM-L6-v2 in the default recipe.

    Converting that model takes two minutes of processor time, so it is done once for all tests that need it.
    """
    directory = tmp_path_factory.mktemp("demo") / "examples"
    ours = shutil.ignore_patterns("*.tflite", "all-MiniLM-L6-v2", "*.npy", "notes.db*")
    shutil.copytree(Path(__file__).parents[1] / "examples", directory, ignore=ours)
    printed = run_python(["demo.py"], directory)
    assert "passed" in printed
    assert "Mars looks red" in printed
    assert "notes/flat.md, characters 0 to" in printed
    return directory
