"""Prepare: what all files of one checkpoint share, whatever the recipe. It is made and proven once.

The tokenizer, the source's answers to the probes, and the float32 graph, which must agree with the source
before anything is quantized.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge_embed import Embedder, __version__
from edge_embed.errors import ParityError
from edge_embed.model_file.file import Probe, write_model_file
from edge_embed.model_file.manifest import (
    Architecture,
    Graph,
    Licence,
    Manifest,
    Parity,
    RecipeRecord,
    SelfCheck,
    Source,
    encode_vector,
)
from edge_embed.names import MANIFEST_NAME, PROBES_NAME
from edge_embed.progress import Ticker
from edge_embed.text.tokenizers import Tokenizer, load_tokenizer
from edge_embed_convert import verify
from edge_embed_convert.graph.export import EXPORT_STEPS, export
from edge_embed_convert.graph.passes.compact import compact
from edge_embed_convert.graph.passes.patch import operators_of, patch_weights
from edge_embed_convert.graph.rewrite import EmbeddingModel, build, survives_float16
from edge_embed_convert.probes import SELF_CHECK_TEXT, ProbeText, probe_texts
from edge_embed_convert.recipes.calibrate.rounding import (
    Moments,
    collect_moments,
    rounded_weights,
)
from edge_embed_convert.recipes.calibrate.texts import LONGEST, Calibration
from edge_embed_convert.recipes.grammar import CALIBRATED, Recipe
from edge_embed_convert.recipes.placement import check_places, place_of, projections, scheme_of
from edge_embed_convert.recipes.planes import split_planes
from edge_embed_convert.recipes.quantize import quantize
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizers import ConvertedTokenizer, convert_tokenizer

FLOAT16_SHORT, FLOAT16_LONGEST = 4, 1024
"""How many short probes are run in float16 to see whether the graph may, and how long the long one may be:
PyTorch computes float16 slowly on most processors, and 1024 tokens go by every path of the graph."""

TOOLS = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert", "torch", "transformers")

CALIBRATION_TOOL = "calibration texts"
"""Under what name the manifest's tools list the texts that a calibrated recipe was fitted to."""


@dataclass(frozen=True)
class Prepared:
    """A checkpoint ready to be quantized, in a scratch directory.

    Attributes:
        checkpoint: The source.
        tokenizer: Its tokenizer as the file carries it.
        buckets: Input lengths, ascending.
        probes: The source's answers to the fixed probes.
        measured: The source's answers to the calibration texts that only judge; empty unless asked for.
        float_graph: The float32 flatbuffer.
        exact: How that agrees with the source.
        blank: A manifest that lacks its recipe, its graph and every proof.
        work: The scratch directory.
        num_threads: For the runtime.
        calibration: Texts for recipes that need them.
    """

    checkpoint: Checkpoint
    tokenizer: ConvertedTokenizer
    buckets: list[int]
    probes: list[Probe]
    measured: list[Probe]
    float_graph: Path
    exact: Parity
    blank: Manifest
    work: Path
    num_threads: int | None
    calibration: Calibration | None

    def model(self) -> EmbeddingModel:
        """Builds the graph in PyTorch once more; nothing keeps it between its uses."""
        return build(self.checkpoint, self.tokenizer.record.pad_id)

    def sequences(self) -> list[list[int]]:
        """Returns the ids of the texts that rounding may learn from, as the model would see them."""
        if self.calibration is None:
            return []
        runtime, record = _runtime(self.tokenizer), self.tokenizer.record
        prompts = self.checkpoint.prompts
        most = min(LONGEST, self.checkpoint.max_tokens) - len(record.suffix_ids)
        return [
            [
                *[*record.prefix_ids, *runtime.encode(prompts.get(text.prompt_name or "", "") + text.text)][
                    :most
                ],
                *record.suffix_ids,
            ]
            for text in self.calibration.fit(prompts)
        ]

    def moments(self, model: EmbeddingModel, wanted: Callable[[str], bool], ticker: Ticker) -> Moments:
        """Returns what the projections at some paths are fed by the calibration texts."""
        sequences = self.sequences()
        ticker.expect(len(sequences))
        return collect_moments(model, sequences, wanted, lambda: ticker("running the calibration texts"))

    def quantize(
        self,
        recipe: Recipe,
        ticker: Ticker,
        model: EmbeddingModel | None = None,
        moments: Moments | None = None,
    ) -> bytes:
        """Returns the finished flatbuffer of a recipe.

        Args:
            recipe: One without int8 per block, unless the float32 graph was exported for it.
            ticker: Told each step.
            model: The graph in PyTorch where it is at hand already.
            moments: What its projections are fed, likewise. Both are only for a calibrated recipe.
        """
        graph = self.float_graph
        if recipe.calibrated:
            built = model = model or self.model()
            if moments is None:
                moments = self.moments(
                    built, lambda path: scheme_of(built, path, recipe).algorithm == CALIBRATED, ticker
                )
            ticker("rounding the weights")
            graph = self.work / "rounded.tflite"
            shutil.copyfile(self.float_graph, graph)
            patch_weights(graph, rounded_weights(model, recipe, moments), model.get_parameter)
        operators: dict[str, list[str]] = {}
        if recipe.overrides:
            model = model or self.model()
            weights = {place_of(path): layer.weight for path, layer in projections(model).items()}
            operators = operators_of(self.float_graph, weights)
        ticker(f"quantizing to {recipe.name}")
        quantized = quantize(graph, recipe, self.checkpoint.family, operators)
        if graph != self.float_graph:
            graph.unlink()
        ticker("compacting the graph")
        return compact(quantized, half_tables=recipe.embedding.bits < 32)

    def draft(self, graph: bytes, recipe: Recipe) -> tuple[Path, Manifest]:
        """Writes a file that lacks its proofs, and returns it with its manifest."""
        record = replace(self.blank.graph, bytes=len(graph), sha256=hashlib.sha256(graph).hexdigest())
        unproved = replace(self.blank, graph=record, recipe=recipe.record())
        if recipe.calibrated and self.calibration is not None:
            tools = unproved.tools | {CALIBRATION_TOOL: self.calibration.origin}
            unproved = replace(unproved, tools=tools)
        path = self.work / "draft.tflite"
        _write(path, graph, unproved, self._members())
        return path, replace(unproved, self_check=_answer(path, unproved, recipe))

    def finished(self, graph: bytes, manifest: Manifest) -> Path:
        """Writes the complete file into the scratch directory."""
        path = self.work / "finished.tflite"
        _write(path, graph, manifest, self._members() | {PROBES_NAME: _probes_member(self.probes)})
        return path

    def _members(self) -> dict[str, bytes]:
        members = {self.tokenizer.record.file: self.tokenizer.data}
        return members | {file.name: file.read_bytes() for file in self.checkpoint.licence_files}


def prepare(
    checkpoint: Checkpoint,
    buckets: list[int],
    name: str,
    work: Path,
    ticker: Ticker,
    *,
    recipe: Recipe | None = None,
    calibration: Calibration | None = None,
    judged: bool = False,
    num_threads: int | None = None,
    force: bool = False,
) -> Prepared:
    """Does everything ahead of quantization.

    Args:
        checkpoint: The source.
        buckets: Input lengths, ascending.
        name: What the manifest calls the model.
        work: A scratch directory.
        ticker: Told each step.
        recipe: Splits the projections that it wants in int8 per block.
        calibration: Texts for recipes that need them.
        judged: Asks the source for its answers to the calibration texts that only judge.
        num_threads: For the runtime.
        force: Goes on with a float32 graph that does not agree with the source.

    Raises:
        CheckpointError: If the checkpoint is incomplete or wrong.
        RecipeError: If the recipe does not apply to the model.
        ParityError: If the float32 graph does not agree with the source.
    """
    ticker("converting the tokenizer")
    tokenizer = convert_tokenizer(
        checkpoint.transformer_path,
        lowercase=checkpoint.lowercase,
        extra_texts=tuple(checkpoint.prompts.values()),
    )
    # Built once ahead of everything slow: a damaged checkpoint ends here, in words of ours, and not
    # in those that transformers finds for it.
    ticker("checking the weights")
    model = build(checkpoint, tokenizer.record.pad_id)
    if recipe is not None:
        check_places(model, recipe)
    del model
    measured = calibration.judges(checkpoint.prompts) if calibration is not None and judged else []
    probes, judges = _ask_source(checkpoint, tokenizer, buckets, measured, ticker)
    float_graph = work / "float32.tflite"
    blank = _export(checkpoint, tokenizer, probes, buckets, recipe, float_graph, ticker)
    blank = replace(blank, name=name)
    exact = verify.measure_graph(float_graph, blank, probes, num_threads, ticker)
    if not exact.passed and not force:
        raise refusal(exact, "float32 graph, not yet quantized,", "report it: the recipe has no part in this")
    return Prepared(
        checkpoint,
        tokenizer,
        buckets,
        probes,
        judges,
        float_graph,
        exact,
        blank,
        work,
        num_threads,
        calibration,
    )


def _ask_source(
    checkpoint: Checkpoint,
    tokenizer: ConvertedTokenizer,
    lengths: Sequence[int],
    measured: Sequence[ProbeText],
    ticker: Ticker,
) -> tuple[list[Probe], list[Probe]]:
    """Returns the source's answers to the probes and to other texts; it is gone from memory afterwards."""
    texts = probe_texts(lengths, checkpoint.prompts, _counter(tokenizer))
    ticker.expect(3 * len(texts) + len(measured) + len(lengths) + EXPORT_STEPS)
    ticker("loading the source model")
    reference = Reference(checkpoint)
    probes = verify.ask_source(reference, texts, checkpoint.prompts, lengths, ticker)
    judges = verify.ask_source(reference, measured, checkpoint.prompts, lengths, ticker)
    del reference
    gc.collect()
    return probes, judges


def _export(
    checkpoint: Checkpoint,
    tokenizer: ConvertedTokenizer,
    probes: Sequence[Probe],
    lengths: list[int],
    recipe: Recipe | None,
    path: Path,
    ticker: Ticker,
) -> Manifest:
    """Writes the float32 flatbuffer; returns a manifest without name, recipe, graph and every proof."""
    ticker("rewriting the encoder")
    model = build(checkpoint, tokenizer.record.pad_id)
    parameters = sum(p.numel() for p in model.parameters())
    fp16_safe = survives_float16(model, _float16_probes(probes))
    if recipe is not None:
        split_planes(model, recipe)
    export(model, lengths, path, ticker)
    del model
    gc.collect()
    family = checkpoint.family
    return Manifest(
        name="",
        source=Source(checkpoint.id, checkpoint.revision, checkpoint.weights_sha256()),
        architecture=Architecture(family.name, parameters, checkpoint.config),
        recipe=RecipeRecord(name="", spec="", groups={}),
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


def refusal(parity: Parity, what: str, fix: str) -> ParityError:
    """Returns the error of something that failed the gate."""
    return ParityError(
        f"the {what} does not agree with its source; nothing was written",
        got="; ".join(parity.failures),
        expected=", ".join(f"{metric} {bound:g}" for metric, bound in parity.thresholds.items()),
        fix=fix,
    )


_NOT_YET = Parity(
    passed=False,
    failures=["not measured yet"],
    probes=0,
    cosine_mean=0.0,
    cosine_min=0.0,
    norm_error_max=0.0,
    non_finite=0,
    zero_vectors=0,
    token_mismatches=0,
    neighbours=0.0,
    neighbours_k=0,
    thresholds={},
    buckets=[],
)

SELF_CHECK_COSINE = {32: 0.9999, 16: 0.999, 8: 0.995, 4: 0.99}
"""Least cosine at load by the fewest bits in the recipe. Kernels of other processors round elsewhere:
x86 and ARM agreed to 1e-7 in float32 and to better than 0.999 in int8."""


def _answer(path: Path, draft: Manifest, recipe: Recipe) -> SelfCheck:
    """Returns the probe with the file's own answer."""
    with Embedder(path, self_check=False, weight_cache="memory") as model:
        vector = model.encode_tokens(draft.self_check.tokens)
    bits = min(scheme.bits for scheme in recipe.schemes)
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


def _write(path: Path, graph: bytes, manifest: Manifest, members: dict[str, bytes]) -> None:
    # The manifest is the archive's first member, where a reader on a slow medium looks.
    write_model_file(path, graph, {MANIFEST_NAME: manifest.to_json().encode(), **members})


def _matryoshka(released: Sequence[int], dimension: int) -> list[int]:
    """Returns the released dimensions where this model has the released size, else only its own."""
    return list(released) if dimension in released else [dimension]


def _probes_member(probes: Sequence[Probe]) -> bytes:
    record = {"schema_version": 1, "probes": [asdict(probe) for probe in probes]}
    return json.dumps(record, ensure_ascii=False).encode()
