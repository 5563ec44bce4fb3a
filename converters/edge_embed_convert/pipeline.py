"""The pipeline: load, rewrite, export, quantize, verify, save. Nothing is saved that was not verified."""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from typing_extensions import Unpack

from edge_embed import Embedder, __version__
from edge_embed._manifest import (
    MANIFEST_NAME,
    PROBES_NAME,
    Architecture,
    Graph,
    Licence,
    Manifest,
    Parity,
    SelfCheck,
    Source,
    encode_vector,
)
from edge_embed._modelfile import Probe, write_model_file
from edge_embed._progress import Step, Ticker
from edge_embed._tokenizer import Tokenizer, load_tokenizer
from edge_embed.errors import ConversionError, ParityError
from edge_embed_convert import verify
from edge_embed_convert.checkpoint import Checkpoint, CheckpointOptions, load
from edge_embed_convert.compact import compact
from edge_embed_convert.encoders import build, family_of, survives_float16
from edge_embed_convert.export import EXPORT_STEPS, check_buckets, default_buckets, export
from edge_embed_convert.planes import split_planes
from edge_embed_convert.probes import SELF_CHECK_TEXT, probe_texts
from edge_embed_convert.quantize import quantize
from edge_embed_convert.recipes import Recipe
from edge_embed_convert.reference import Reference
from edge_embed_convert.tokenizers import ConvertedTokenizer, convert_tokenizer

FIXED_STEPS = 8
"""Steps of a conversion that are there whatever the model: see the calls of `ticker` below."""

FLOAT16_SHORT, FLOAT16_LONGEST = 4, 1024
"""How many short probes are run in float16 to see whether the graph may, and how long the long one may be:
PyTorch computes float16 slowly on most processors, and 1024 tokens go by every path of the graph."""

TOOLS = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert", "torch", "transformers")


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        path: The model file.
        manifest: Its manifest, with the parity report.
        notes: Remarks on choices that were made, for instance of the tokenizer's form.
    """

    path: Path
    manifest: Manifest
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    recipe: str | None = None,
    buckets: Sequence[int] | None = None,
    name: str | None = None,
    num_threads: int | None = None,
    force: bool = False,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> Conversion:
    """Turns a checkpoint into one verified model file.

    Args:
        source: A sentence-transformers or transformers directory, or a hub id.
        output: The file to write, or a directory to write `NAME.RECIPE.tflite` into; by default the
            working directory.
        recipe: A known recipe or a spelling of the grammar in `recipes`; by default the family's.
        buckets: Input lengths; by default the powers of two from 16 up to the maximum.
        name: What the manifest calls the model; by default the checkpoint's own name.
        num_threads: Threads for the runtime while verifying.
        force: Saves a file that failed verification; its manifest says so.
        progress: Called as each step begins with its name, the steps done, and the steps in all.
        **options: What the checkpoint leaves open; see `checkpoint.CheckpointOptions`.

    Returns:
        The file and its manifest.

    Raises:
        CheckpointError: If the checkpoint is absent, incomplete or wrong.
        RecipeError: If the recipe is unknown or does not apply.
        ParityError: If the file does not agree with its source; nothing was written.
        ConversionError: If the file cannot be written.
    """
    parsed = Recipe.parse(recipe) if recipe is not None else None
    ticker = Ticker(progress, FIXED_STEPS)
    ticker("reading the checkpoint")
    checkpoint = load(source, **options)
    chosen = parsed or Recipe.parse(family_of(checkpoint).default_recipe)
    lengths = (
        default_buckets(checkpoint.max_tokens)
        if buckets is None
        else check_buckets(buckets, checkpoint.max_tokens)
    )
    label = name or checkpoint.id.rsplit("/", 1)[-1]
    target = _target(output, f"{label}.{chosen.name}.tflite")
    with _workspace(target) as scratch:
        work = Path(scratch)
        ticker("converting the tokenizer")
        tokenizer = convert_tokenizer(
            checkpoint.transformer_path,
            lowercase=checkpoint.lowercase,
            extra_texts=tuple(checkpoint.prompts.values()),
        )
        # Built once ahead of everything slow: a damaged checkpoint ends here, in words of ours, and not
        # in those that transformers finds for it.
        ticker("checking the weights")
        build(checkpoint, tokenizer.record.pad_id)
        probes = _ask_source(checkpoint, tokenizer, lengths, ticker)
        float_graph = work / "float32.tflite"
        blank = replace(
            _export(checkpoint, tokenizer, probes, lengths, chosen, float_graph, ticker), name=label
        )
        exact = verify.measure_graph(float_graph, blank, probes, num_threads, ticker)
        if not exact.passed and not force:
            raise _refusal(
                exact, "float32 graph, not yet quantized,", "report it: the recipe has no part in this"
            )
        graph = _quantize(float_graph, chosen, ticker)
        size, digest = len(graph), hashlib.sha256(graph).hexdigest()
        unproved = replace(blank, graph=replace(blank.graph, bytes=size, sha256=digest))
        members = _members(checkpoint, tokenizer)
        draft = work / "draft.tflite"
        _write(draft, graph, unproved, members)
        unproved = replace(unproved, self_check=_answer(draft, unproved, chosen))
        parity = verify.measure(draft, probes, chosen.thresholds.as_dict(), num_threads, ticker)
        draft.unlink()
        if not parity.passed and not force:
            raise _refusal(
                parity,
                f"{chosen.name} file",
                "choose a finer recipe (int8, fp32), or insist with --force, which the manifest then tells",
            )
        ticker("saving")
        manifest = replace(unproved, parity=_with_failures(parity, exact))
        members[PROBES_NAME] = _probes_member(probes)
        finished = work / "finished.tflite"
        _write(finished, graph, manifest, members)
        with Embedder(finished, weight_cache="memory", num_threads=num_threads):
            pass  # the file proves itself, as at every later load, ahead of taking its place
        _move(finished, target)
    return Conversion(target, manifest, (tokenizer.note,) if tokenizer.note else ())


def _ask_source(
    checkpoint: Checkpoint, tokenizer: ConvertedTokenizer, lengths: Sequence[int], ticker: Ticker
) -> list[Probe]:
    """Returns the source's answers to the probes; the source is gone from memory afterwards."""
    texts = probe_texts(lengths, checkpoint.prompts, _counter(tokenizer))
    ticker.expect(3 * len(texts) + len(lengths) + EXPORT_STEPS)
    ticker("loading the source model")
    probes = verify.ask_source(Reference(checkpoint), texts, checkpoint.prompts, lengths, ticker)
    gc.collect()
    return probes


def _export(
    checkpoint: Checkpoint,
    tokenizer: ConvertedTokenizer,
    probes: Sequence[Probe],
    lengths: list[int],
    recipe: Recipe,
    path: Path,
    ticker: Ticker,
) -> Manifest:
    """Writes the float32 flatbuffer; returns a manifest that lacks its name, its graph and every proof."""
    ticker("rewriting the encoder")
    model = build(checkpoint, tokenizer.record.pad_id)
    parameters = sum(p.numel() for p in model.parameters())
    fp16_safe = survives_float16(model, _float16_probes(probes))
    split_planes(model, recipe)
    export(model, lengths, path, ticker)
    del model
    gc.collect()
    family = family_of(checkpoint)
    return Manifest(
        name="",
        source=Source(checkpoint.id, checkpoint.revision, checkpoint.weights_sha256()),
        architecture=Architecture(family.name, parameters, checkpoint.config),
        recipe=recipe.record(),
        graph=Graph(bytes=0, sha256="", fp16_safe=fp16_safe),
        buckets=lengths,
        max_tokens=checkpoint.max_tokens,
        pooling=list(checkpoint.pooling),
        normalize=checkpoint.normalize,
        dimension=checkpoint.dimension,
        matryoshka_dimensions=_matryoshka(family.matryoshka, checkpoint.dimension),
        similarity=checkpoint.similarity,
        prompts=checkpoint.prompts,
        default_prompt_name=checkpoint.default_prompt_name,
        tokenizer=tokenizer.record,
        licence=Licence(checkpoint.licence, [file.name for file in checkpoint.licence_files]),
        tools={"edge-embed": __version__, **{tool: importlib.metadata.version(tool) for tool in TOOLS}},
        parity=_NOT_YET,
        self_check=_self_check_tokens(tokenizer, lengths, checkpoint.dimension),
    )


def _float16_probes(probes: Sequence[Probe]) -> list[list[int]]:
    """Returns the ids of a few short probes and of the longest one that is not too slow to try."""
    by_length = sorted((probe.tokens for probe in probes), key=len)
    affordable = [ids for ids in by_length if len(ids) <= FLOAT16_LONGEST]
    return [*affordable[:FLOAT16_SHORT], *affordable[-1:]]


def _quantize(float_graph: Path, recipe: Recipe, ticker: Ticker) -> bytes:
    """Returns the finished flatbuffer; the float32 one is gone from disk afterwards."""
    ticker(f"quantizing to {recipe.name}")
    quantized = quantize(float_graph, recipe)
    float_graph.unlink()
    ticker("compacting the graph")
    return compact(quantized)


def _with_failures(parity: Parity, exact: Parity) -> Parity:
    """Returns the file's report, failed if the graph ahead of quantization had failed already."""
    if exact.passed:
        return parity
    failures = [*parity.failures, *(f"float32 graph: {failure}" for failure in exact.failures)]
    return replace(parity, passed=False, failures=failures)


def _refusal(parity: Parity, what: str, fix: str) -> ParityError:
    return ParityError(
        f"the {what} does not agree with its source; nothing was written",
        got="; ".join(parity.failures),
        expected=", ".join(f"{metric} {bound:g}" for metric, bound in parity.thresholds.items()),
        fix=fix,
    )


_NOT_YET = Parity(
    passed=False, failures=["not measured yet"], probes=0, cosine_mean=0.0, cosine_min=0.0,
    norm_error_max=0.0, non_finite=0, zero_vectors=0, token_mismatches=0, neighbours=0.0, neighbours_k=0,
    thresholds={}, buckets=[],
)  # fmt: skip

SELF_CHECK_COSINE = {32: 0.9999, 16: 0.999, 8: 0.995, 4: 0.99}
"""Least cosine at load by the fewest bits in the recipe. Kernels of other processors round elsewhere:
x86 and ARM agreed to 1e-7 in float32 and to better than 0.999 in int8."""


def _answer(path: Path, draft: Manifest, recipe: Recipe) -> SelfCheck:
    """Returns the probe with the file's own answer."""
    with Embedder(path, self_check=False, weight_cache="memory") as model:
        vector = model.encode_tokens(draft.self_check.tokens)
    bits = min(getattr(recipe, group).bits for group in draft.recipe.groups)
    return SelfCheck(draft.self_check.tokens, encode_vector(vector), SELF_CHECK_COSINE[bits])


def _self_check_tokens(tokenizer: ConvertedTokenizer, buckets: Sequence[int], dimension: int) -> SelfCheck:
    record = tokenizer.record
    room = buckets[0] - len(record.prefix_ids) - len(record.suffix_ids)
    content = _runtime(tokenizer).encode(SELF_CHECK_TEXT)[: max(room, 1)]
    blank = encode_vector([0.0] * dimension)
    return SelfCheck([*record.prefix_ids, *content, *record.suffix_ids], blank, 1.0)


def _counter(tokenizer: ConvertedTokenizer) -> Callable[[str], int]:
    runtime, record = _runtime(tokenizer), tokenizer.record
    return lambda text: len(record.prefix_ids) + len(runtime.encode(text)) + len(record.suffix_ids)


def _runtime(tokenizer: ConvertedTokenizer) -> Tokenizer:
    return load_tokenizer(tokenizer.record, tokenizer.data)


def _members(checkpoint: Checkpoint, tokenizer: ConvertedTokenizer) -> dict[str, bytes]:
    members = {tokenizer.record.file: tokenizer.data}
    members |= {file.name: file.read_bytes() for file in checkpoint.licence_files}
    return members


def _write(path: Path, graph: bytes, manifest: Manifest, members: dict[str, bytes]) -> None:
    # The manifest is the archive's first member, where a reader on a slow medium looks.
    write_model_file(path, graph, {MANIFEST_NAME: manifest.to_json().encode(), **members})


def _matryoshka(released: Sequence[int], dimension: int) -> list[int]:
    """Returns the released dimensions where this model has the released size, else only its own."""
    return list(released) if dimension in released else [dimension]


def _probes_member(probes: Sequence[Probe]) -> bytes:
    record = {"schema_version": 1, "probes": [asdict(probe) for probe in probes]}
    return json.dumps(record, ensure_ascii=False).encode()


def _target(output: str | Path | None, default_name: str) -> Path:
    path = Path(output or ".").expanduser()
    return path / default_name if path.is_dir() else path


def _move(finished: Path, target: Path) -> None:
    try:
        os.replace(finished, target)
    except OSError as error:
        raise ConversionError(
            f"cannot write {target}",
            got=error.strerror or str(error),
            expected="a path for a file",
            fix="choose another place with --output",
        ) from error


def _workspace(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Returns a scratch directory beside the output, so that the last step is a rename on one disk."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ConversionError(
            f"cannot write into {target.parent}",
            got=error.strerror or str(error),
            expected="an existing, writable directory",
            fix="create it, or choose another place with --output",
        ) from error
