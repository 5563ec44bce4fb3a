"""Job: one checkpoint on its way to model files, with what all its recipes share.

The methods are the steps of `pipeline.convert` in their order. The model is built once; a search repeats
`quantize` for every recipe that it tries.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_embed import Embedder
from edge_embed.errors import CheckpointError, ConversionError
from edge_embed.model_file.manifest import Manifest, Parity
from edge_embed.model_file.probes import Probe
from edge_embed.progress import Ticker
from edge_embed.text.tokenizers import Tokenizer, load_tokenizer
from edge_embed_convert.gate import parity as gate
from edge_embed_convert.gate.probe_texts import probe_texts
from edge_embed_convert.gate.storage import check_storage
from edge_embed_convert.graph.export import export, export_steps
from edge_embed_convert.graph.passes.compact import compact
from edge_embed_convert.graph.rewrite import EmbeddingModel, build, survives_float16
from edge_embed_convert.graph.weights import Projections, find_projections, patch_weights
from edge_embed_convert.recipes.calibrate.rounding import Moments, collect_moments, rounded_weights
from edge_embed_convert.recipes.calibrate.texts import LONGEST, Calibration
from edge_embed_convert.recipes.grammar import CALIBRATED, Recipe
from edge_embed_convert.recipes.grid import write_grids
from edge_embed_convert.recipes.placement import check_places, projections, scheme_of
from edge_embed_convert.recipes.planes import split_planes
from edge_embed_convert.recipes.quantize import quantize
from edge_embed_convert.save import ModelWriter
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizers import ConvertedTokenizer, convert_tokenizer

STEPS = TOKENIZER, REWRITE, SOURCE, QUANTIZE, COMPACT, SAVE = (
    "converting the tokenizer",
    "rewriting the encoder",
    "loading the source model",
    "quantizing",
    "compacting the graph",
    "saving",
)
"""Steps of every job; the others depend on the model and are announced when they are known."""

FLOAT16_SHORT, FLOAT16_LONGEST = 4, 1024
"""How many short probes are run in float16 to see whether the graph may, and how long the long one may be:
PyTorch computes float16 slowly on most processors, and 1024 tokens take every path of the graph."""


class Job:
    """A checkpoint and everything that was made of it so far.

    Args:
        checkpoint: The source.
        buckets: Input lengths, ascending.
        name: What the manifest calls the model.
        work: A scratch directory.
        ticker: Called as each step begins.
        calibration: Texts for recipes that need them.
        num_threads: For the runtime.
        force: Goes on where the gate refuses; the manifest then says that it failed.

    Attributes:
        checkpoint: The source.
        tokenizer: Its tokenizer as the file carries it; from `load` on.
        model: The graph in PyTorch; from `rewrite` on.
        probes: The source's answers to the fixed probes; from `ask_source` on.
        measured: The source's answers to the calibration texts that only measure.
        writer: Writes files; from `export` on.
        num_threads: For the runtime.
    """

    tokenizer: ConvertedTokenizer
    model: EmbeddingModel
    probes: list[Probe]
    measured: list[Probe]
    writer: ModelWriter
    _projections: Projections
    _exact: Parity

    def __init__(
        self,
        checkpoint: Checkpoint,
        buckets: list[int],
        name: str,
        work: Path,
        ticker: Ticker,
        *,
        calibration: Calibration | None = None,
        num_threads: int | None = None,
        force: bool = False,
    ) -> None:
        self.checkpoint, self.num_threads = checkpoint, num_threads
        self._buckets, self._name, self._work, self._ticker = buckets, name, work, ticker
        self._calibration, self._force = calibration, force
        self._float_graph = work / "float32.tflite"
        self._keep_grids = checkpoint.trained_recipe is None

    def load(self) -> None:
        """Converts the tokenizer.

        Raises:
            CheckpointError: If it is missing or cannot be carried.
        """
        self._ticker(TOKENIZER)
        self.tokenizer = convert_tokenizer(
            self.checkpoint.transformer_path,
            lowercase=self.checkpoint.lowercase,
            extra_texts=tuple(self.checkpoint.prompts.values()),
            # Families whose table of positions has rows that no token uses count them from the pad id.
            padding_shifts=self.checkpoint.family.released.extra_positions > 0,
            static=self.checkpoint.config if self.checkpoint.family.without_transformers else None,
        )
        record = self.tokenizer.record
        around = len(record.prefix_ids) + len(record.suffix_ids)
        if self.checkpoint.max_tokens <= around:
            raise CheckpointError(
                "the longest input leaves no room for a text",
                got=f"{self.checkpoint.max_tokens} tokens, {around} of them special ones",
                expected=f"{around + 1} or more",
                fix="raise --max-tokens, or the limit in the checkpoint's files",
            )

    def rewrite(self, recipe: Recipe | None = None) -> None:
        """Builds the model from every weight of the checkpoint.

        This comes before transformers reads the checkpoint, so that damage is reported in our own words.

        Args:
            recipe: Its projections are checked against the model.

        Raises:
            CheckpointError: If a weight is missing, unused, misshapen or not finite.
            RecipeError: If the recipe names a projection that the model does not have.
        """
        self._ticker(REWRITE)
        self.model = build(self.checkpoint, self.tokenizer.record.pad_id)
        if recipe is not None:
            check_places(self.model, recipe)

    def ask_source(self, *, measuring: bool = False) -> None:
        """Runs the source model in float32 over the probes.

        Args:
            measuring: Runs it over the calibration texts for measuring, too.

        Raises:
            CheckpointError: If transformers cannot load the checkpoint.
        """
        prompts = self.checkpoint.prompts
        texts = probe_texts(self._buckets, prompts, self._count_tokens())
        others = self._calibration.measuring_texts(prompts) if self._calibration and measuring else []
        # Each probe is run by the source, by the float32 graph, and by the finished file.
        self._ticker.expect(3 * len(texts) + len(others) + export_steps(self._buckets))
        self._ticker(SOURCE)
        reference = Reference(self.checkpoint)
        self.probes = gate.ask_source(reference, texts, prompts, self._buckets, self._ticker)
        self.measured = gate.ask_source(reference, others, prompts, self._buckets, self._ticker)
        del reference
        gc.collect()

    def export(self, recipe: Recipe | None = None) -> None:
        """Writes the float32 graph and compares it with the source.

        Args:
            recipe: Its projections in int8 per block are split in two before.

        Raises:
            ParityError: If the graph does not agree with the source.
            RecipeError: If the recipe does not apply to the model.
        """
        fp16_safe = survives_float16(self.model, self._float16_probes())
        parameters = sum(p.numel() for p in self.model.parameters())
        if recipe is not None:
            split_planes(self.model, recipe, keep_grids=self._keep_grids)
        export(self.model, self._buckets, self._float_graph, self._ticker)
        weights = {path: layer.weight for path, layer in projections(self.model).items()}
        self._projections = find_projections(self._float_graph, weights)
        self.writer = ModelWriter(
            self.checkpoint,
            self.tokenizer,
            self._buckets,
            self._name,
            self._work,
            parameters=parameters,
            fp16_safe=fp16_safe,
            calibration=self._calibration,
        )
        self._exact = gate.measure_graph(
            self._float_graph, self.writer.blank, self.probes, self.num_threads, self._ticker
        )
        if not self._exact.passed and not self._force:
            raise gate.refusal(
                self._exact,
                "float32 graph, before quantization,",
                "report it with the checkpoint's config.json: no recipe was applied yet",
            )

    def moments(self, wanted: Callable[[str], bool] = lambda path: True) -> Moments:
        """Returns the second moments of what projections read, over the calibration texts.

        Args:
            wanted: Chooses projections by their paths.
        """
        sequences = self._sequences()
        self._ticker.expect(len(sequences))
        return collect_moments(
            self.model, sequences, wanted, lambda: self._ticker("running the calibration texts")
        )

    def quantize(self, recipe: Recipe, moments: Moments | None = None, ticker: Ticker | None = None) -> bytes:
        """Returns the finished flatbuffer of a recipe, checked against that recipe.

        Args:
            recipe: A recipe without int8 per block, unless `export` was given it.
            moments: What the projections read, where that is known already.
            ticker: Called as each step begins; by default the job's own.

        Raises:
            RecipeError: If the recipe does not apply to the model.
            ConversionError: If a weight of the finished graph is not stored as the recipe says.
        """
        ticker = ticker or self._ticker
        graph = self._float_graph
        if recipe.calibrated:
            if moments is None:
                moments = self.moments(
                    lambda path: scheme_of(self.model, path, recipe).algorithm == CALIBRATED
                )
            ticker.expect(1)
            ticker("rounding the weights")
            graph = self._work / "rounded.tflite"
            shutil.copyfile(self._float_graph, graph)
            patch_weights(graph, rounded_weights(self.model, recipe, moments), self.model.get_parameter)
        ticker(f"{QUANTIZE} to {recipe.name}")
        quantized = quantize(graph, recipe, self.model, self._projections)
        if self._keep_grids:
            quantized = write_grids(quantized, self.model, recipe, self._projections)
        ticker(COMPACT)
        finished = compact(quantized, half_tables=recipe.embedding.bits < 32)
        check_storage(finished, graph, self._projections, self.model, recipe)
        if graph != self._float_graph:
            graph.unlink()
        return finished

    def verify(self, graph: bytes, recipe: Recipe, thresholds: Mapping[str, float] | None = None) -> Manifest:
        """Runs a finished graph in the runtime, compares it with the source, and returns its manifest.

        Args:
            graph: What `quantize` gave.
            recipe: Its recipe.
            thresholds: What the gate demands; by default the recipe's bounds.

        Raises:
            ParityError: If the file does not agree with its source.
        """
        draft, unproved = self.writer.draft(graph, recipe)
        demanded = thresholds or recipe.thresholds.as_dict()
        parity = gate.measure(draft, self.probes, demanded, self.num_threads, self._ticker)
        draft.unlink()
        if not parity.passed and not self._force:
            raise gate.refusal(
                parity,
                f"{recipe.name} file",
                "choose a finer recipe (int8, fp32), or save it with --force, which its manifest will say",
            )
        return dataclasses.replace(unproved, parity=_with_failures(parity, self._exact))

    def size(self, graph: bytes, manifest: Manifest) -> int:
        """Returns the bytes that a finished graph's file would have."""
        complete = self.writer.complete(graph, dataclasses.replace(manifest, parity=self._exact), self.probes)
        size = complete.stat().st_size
        complete.unlink()
        return size

    def save(self, graph: bytes, manifest: Manifest, target: Path) -> None:
        """Writes the model file and moves it to its place.

        Raises:
            ConversionError: If it cannot be written.
        """
        self._ticker(SAVE)
        complete = self.writer.complete(graph, manifest, self.probes)
        with Embedder(complete, weight_cache="memory", num_threads=self.num_threads):
            pass  # the file checks itself, as at every later load, before it takes its place
        try:
            os.replace(complete, target)
        except OSError as error:
            raise ConversionError(
                f"cannot write {target}",
                got=error.strerror or str(error),
                expected="a path for a file",
                fix="choose another path with --output",
            ) from error

    def _runtime_tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.tokenizer.record, self.tokenizer.data)

    def _count_tokens(self) -> Callable[[str], int]:
        runtime, record = self._runtime_tokenizer(), self.tokenizer.record
        special = len(record.prefix_ids) + len(record.suffix_ids)
        return lambda text: special + len(runtime.encode(text))

    def _sequences(self) -> list[list[int]]:
        """Returns the ids of the texts that rounding may learn from, as the model would see them."""
        if self._calibration is None:
            return []
        runtime, record = self._runtime_tokenizer(), self.tokenizer.record
        prompts = self.checkpoint.prompts
        most = min(LONGEST, self.checkpoint.max_tokens) - len(record.suffix_ids)
        found = []
        for text in self._calibration.fitting_texts(prompts):
            ids = runtime.encode(prompts.get(text.prompt_name or "", "") + text.text)
            found.append([*[*record.prefix_ids, *ids][:most], *record.suffix_ids])
        return found

    def _float16_probes(self) -> list[list[int]]:
        """Returns the ids of a few short probes and of the longest one that is not too slow to try."""
        by_length = sorted((probe.tokens for probe in self.probes), key=len)
        affordable = [ids for ids in by_length if len(ids) <= FLOAT16_LONGEST]
        return [*affordable[:FLOAT16_SHORT], *affordable[-1:]]


def _with_failures(parity: Parity, exact: Parity) -> Parity:
    """Returns the file's report, failed if the graph before quantization had failed already."""
    if exact.passed:
        return parity
    failures: Sequence[str] = [
        *parity.failures,
        *(f"float32 graph: {failure}" for failure in exact.failures),
    ]
    return dataclasses.replace(parity, passed=False, failures=list(failures))
