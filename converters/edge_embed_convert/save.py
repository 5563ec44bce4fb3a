"""Save: the manifest of a model, and its file with everything that it carries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from edge_embed import Embedder, __version__
from edge_embed.model_file.file import write_model_file
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
from edge_embed.model_file.probes import Probe
from edge_embed.names import MANIFEST_NAME, PROBES_NAME
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.gate.probe_texts import SELF_CHECK_TEXT
from edge_embed_convert.recipes.calibrate.texts import Calibration
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.tokenizers import ConvertedTokenizer

TOOLS = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert", "torch", "transformers")
"""Packages whose versions the manifest records."""

CALIBRATION_TOOL = "calibration texts"
"""The name in the manifest's tools of the texts that a calibrated recipe was fitted to."""

SELF_CHECK_COSINE = {32: 0.9999, 16: 0.999, 8: 0.995, 4: 0.99, 2: 0.99}
"""Least cosine at load by the fewest bits in the recipe. Kernels of other processors round differently:
x86 and ARM agreed to 1e-7 in float32 and to better than 0.999 in int8."""

_NOT_MEASURED = Parity(
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


class ModelWriter:
    """Writes the files of one exported checkpoint.

    Args:
        checkpoint: The source.
        tokenizer: Its tokenizer as the file carries it.
        buckets: Input lengths, ascending.
        name: What the manifest calls the model.
        work: A scratch directory, where the files are written.
        parameters: How many the model has.
        fp16_safe: Whether the graph may run in float16.
        calibration: The texts that calibrated recipes are fitted to.

    Attributes:
        blank: A manifest without recipe, graph and measurements.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: ConvertedTokenizer,
        buckets: Sequence[int],
        name: str,
        work: Path,
        *,
        parameters: int,
        fp16_safe: bool,
        calibration: Calibration | None,
    ) -> None:
        self._work, self._calibration = work, calibration
        self._members = {tokenizer.record.file: tokenizer.data}
        self._members |= {file.name: file.read_bytes() for file in checkpoint.licence_files}
        family = checkpoint.family
        self.blank = Manifest(
            name=name,
            source=Source(checkpoint.id, checkpoint.revision, checkpoint.weights_sha256()),
            architecture=Architecture(family.name, parameters, checkpoint.config),
            recipe=RecipeRecord(name="", spec="", groups={}),
            graph=Graph(bytes=0, sha256="", fp16_safe=fp16_safe),
            buckets=list(buckets),
            max_tokens=checkpoint.max_tokens,
            pooling=list(checkpoint.pooling),
            normalize=checkpoint.normalize,
            dimension=checkpoint.dimension,
            matryoshka_dimensions=matryoshka_dimensions(family.matryoshka, checkpoint.dimension),
            similarity=checkpoint.similarity,
            prompts=checkpoint.prompts,
            default_prompt_name=checkpoint.default_prompt_name,
            tokenizer=tokenizer.record,
            licence=Licence(checkpoint.licence, [file.name for file in checkpoint.licence_files]),
            tools={"edge-embed": __version__, **{tool: importlib.metadata.version(tool) for tool in TOOLS}},
            parity=_NOT_MEASURED,
            self_check=_self_check(tokenizer, buckets, checkpoint.dimension),
        )

    def draft(self, graph: bytes, recipe: Recipe) -> tuple[Path, Manifest]:
        """Writes a file without its measurements, and returns it with its manifest."""
        record = replace(self.blank.graph, bytes=len(graph), sha256=hashlib.sha256(graph).hexdigest())
        unproved = replace(self.blank, graph=record, recipe=recipe.record())
        if recipe.calibrated and self._calibration is not None:
            tools = unproved.tools | {CALIBRATION_TOOL: self._calibration.origin}
            unproved = replace(unproved, tools=tools)
        path = self._work / "draft.tflite"
        _write(path, graph, unproved, self._members)
        return path, replace(unproved, self_check=_answer(path, unproved, recipe))

    def complete(self, graph: bytes, manifest: Manifest, probes: Sequence[Probe]) -> Path:
        """Writes the complete file into the scratch directory."""
        path = self._work / "finished.tflite"
        record = {"schema_version": 1, "probes": [asdict(probe) for probe in probes]}
        member = json.dumps(record, ensure_ascii=False).encode()
        _write(path, graph, manifest, self._members | {PROBES_NAME: member})
        return path


def matryoshka_dimensions(released: Sequence[int], dimension: int) -> list[int]:
    """Returns the released dimensions if this model has a released size, otherwise only its own."""
    return list(released) if dimension in released else [dimension]


def _self_check(tokenizer: ConvertedTokenizer, buckets: Sequence[int], dimension: int) -> SelfCheck:
    """Returns the probe that a file runs at load, still without its answer."""
    record = tokenizer.record
    room = buckets[0] - len(record.prefix_ids) - len(record.suffix_ids)
    content = load_tokenizer(record, tokenizer.data).encode(SELF_CHECK_TEXT)[: max(room, 1)]
    blank = encode_vector([0.0] * dimension)
    return SelfCheck([*record.prefix_ids, *content, *record.suffix_ids], blank, 1.0)


def _answer(path: Path, draft: Manifest, recipe: Recipe) -> SelfCheck:
    """Returns the probe with the file's own answer."""
    with Embedder(path, self_check=False, weight_cache="memory") as model:
        vector = model.encode_tokens(draft.self_check.tokens)
    bits = min(scheme.bits for scheme in recipe.schemes)
    return SelfCheck(draft.self_check.tokens, encode_vector(vector), SELF_CHECK_COSINE[bits])


def _write(path: Path, graph: bytes, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    # The manifest is the archive's first member, where a reader on a slow medium looks.
    write_model_file(path, graph, {MANIFEST_NAME: manifest.to_json().encode(), **members})
