"""Run an ablation: every arm with every seed, then differences with intervals over the seeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from edge_embed.errors import InputError
from edge_embed_train.ablations.arms import ABLATIONS, Ablation, Arm
from edge_embed_train.ablations.measure import measure
from edge_embed_train.data import Source, read_rows
from edge_embed_train.evaluate import Pairs, read_sets
from edge_embed_train.qat import (
    clip_model,
    quantize_model,
    restore_model,
    trainable_recipe,
    trained_recipe,
)
from edge_embed_train.run import train
from edge_embed_train.run.training import load_model

HELD_OUT = 1000
"""Pairs that retrieval is measured on."""

HEAD = """
name = "ablation"
model = "{decoder}"
teacher = "{teacher}"
seed = {seed}
[data.pairs]
path = "{train}"
where = {{ kind = "pair" }}
limit = {rows}
[data.more]
path = "{more}"
where = {{ kind = "pair" }}
limit = {rows}
"""


@dataclass(frozen=True)
class Settings:
    """How large an ablation is.

    Attributes:
        train: A JSONL file of pairs.
        more: Another one, for mixtures.
        valid: Held-out pairs of the first.
        sts: Pairs of sentences with scores.
        teacher: A sentence-transformers directory.
        rows: Rows of each file.
        steps: Steps of the main stage; others have fractions of it.
        batch: Rows of a batch.
        rate: The highest learning rate.
    """

    train: Path
    more: Path
    valid: Path
    sts: Path
    teacher: Path
    rows: int = 20_000
    steps: int = 300
    batch: int = 64
    rate: float = 2e-3


def run_ablation(
    name: str,
    settings: Settings,
    seeds: Sequence[int],
    work: Path,
    report: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Trains every arm with every seed and returns the result.

    Args:
        name: One of `ABLATIONS`.
        settings: Data and sizes.
        seeds: Two or more.
        work: Where runs are kept; one that is finished is not run again.
        report: Called with a line for each model that was measured.

    Returns:
        Metrics by arm and seed, and for each arm but the first the mean difference of the first to it, with a
        95 % interval (Student's t over the seeds, paired).

    Raises:
        InputError: If the ablation is unknown or there are fewer than two seeds.
    """
    if name not in ABLATIONS or len(seeds) < 2:
        raise InputError(
            "this ablation cannot be run",
            got=f"{name} with {len(seeds)} seeds",
            expected=f"two seeds or more, and one of {', '.join(ABLATIONS)}",
        )
    ablation = ABLATIONS[name]
    [similarity] = read_sets([settings.sts])
    if not isinstance(similarity, Pairs):
        raise InputError(f"{settings.sts} holds no pairs of sentences with scores")
    source = Source(path=settings.valid, where={"kind": "pair"})
    held = list(islice(read_rows(source), HELD_OUT))
    texts = [row.query for row in held], [row.positive or "" for row in held]
    results: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for arm in ablation.arms:
            for label, place in _trained(ablation, arm, settings, seed, work).items():
                model = load_model(place)
                if arm.quantize:
                    rounded_to = trainable_recipe(arm.quantize)
                    clip_model(model, rounded_to)
                    quantize_model(model, rounded_to)
                elif recipe := trained_recipe(model):
                    quantize_model(model, recipe)
                plain = name.startswith("qat")
                found = measure(model, similarity, *texts, int4=not plain)
                restore_model(model)
                results.setdefault(label, []).append(found)
                scores = f"sts {found['sts']:.4f}, retrieval {found['retrieval']:.4f}"
                report(f"{name}, seed {seed}, {label}: {scores}")
    return {
        "name": name,
        "question": ablation.question,
        "paper": ablation.paper,
        "seeds": list(seeds),
        "settings": {k: v if isinstance(v, int | float) else v.name for k, v in vars(settings).items()},
        "results": results,
        "differences": _differences(results, ablation.metrics),
    }


def _trained(ablation: Ablation, arm: Arm, settings: Settings, seed: int, work: Path) -> dict[str, Path]:
    """Trains an arm and returns the models to measure."""
    directory = work / ablation.name / f"{arm.name.replace(' ', '-').replace(':', '')}-{seed}"
    directory.mkdir(parents=True, exist_ok=True)
    dimension = load_model(settings.teacher).get_embedding_dimension()
    values = {
        "decoder": str(_decoder(settings, work, seed)) if ablation.start == "decoder" else "",
        "teacher": str(settings.teacher.resolve()),
        "seed": seed,
        "train": str(settings.train.resolve()),
        "more": str(settings.more.resolve()),
        "rows": settings.rows,
        "steps": settings.steps,
        "short": max(1, settings.steps // 3),
        "decoder_steps": settings.steps,
        "ul2_steps": settings.steps,
        "batch": settings.batch,
        "rate": settings.rate,
        "dimension": dimension,
    }
    recipe = directory / "recipe.toml"
    text = (HEAD + arm.stages).format(**values)
    if not recipe.is_file() or recipe.read_text("utf-8") != text:
        shutil.rmtree(directory / "run", ignore_errors=True)
        recipe.write_text(text, "utf-8")
    model = train(recipe, directory / "run", cache=work / "cache").model
    stages = directory / "run" / "stages"
    parts = {part: next(stages.glob(f"*-soup/{part}/model")) for part in arm.parts}
    return {arm.name: model, **parts}


def _decoder(settings: Settings, work: Path, seed: int) -> Path:
    """Writes a small random Gemma 3 decoder with the teacher's words, as few as a student has."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    from edge_embed_train.student import cut_vocabulary

    directory = work / f"decoder-{seed}"
    if (directory / "tokenizer.json").is_file():
        return directory
    torch.manual_seed(seed)
    rows = islice(read_rows(Source(path=settings.train, where={"kind": "pair"})), settings.rows)
    texts = [text for row in rows for text in row.texts]
    _, spec = cut_vocabulary(AutoTokenizer.from_pretrained(settings.teacher), [texts], 8192)
    vocabulary = spec["model"]["vocab"]
    config = Gemma3TextConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        query_pre_attn_scalar=64,
        max_position_embeddings=128,
        sliding_window=512,
        layer_types=["full_attention"] * 2,
        pad_token_id=vocabulary["[PAD]"],
        bos_token_id=vocabulary["[CLS]"],
        eos_token_id=vocabulary["[SEP]"],
    )
    Gemma3ForCausalLM(config).save_pretrained(directory)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
    tokenizer.save_pretrained(directory)
    return directory


def _differences(
    results: Mapping[str, Sequence[Mapping[str, float]]], metrics: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Returns mean, low and high of the first arm less each other one, by arm and metric."""
    first, *others = results
    found: dict[str, dict[str, list[float]]] = {}
    for other in others:
        for metric in metrics:
            pairs = zip(results[first], results[other], strict=True)
            values = np.asarray([a[metric] - b[metric] for a, b in pairs])
            margin = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
            mean = float(values.mean())
            found.setdefault(other, {})[metric] = [mean, mean - float(margin), mean + float(margin)]
    return found


def to_markdown(result: Mapping[str, Any]) -> str:
    """Returns the result as a table: means over the seeds, and the differences with their intervals."""
    arms = result["results"]
    metrics = list(next(iter(arms.values()))[0])
    lines = [f"### {result['question']}", "", f"Paper: {result['paper']}.", ""]
    lines += [f"| | {' | '.join(metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    for name, seeds in arms.items():
        means = (f"{100 * np.mean([seed[m] for seed in seeds]):.2f}" for m in metrics)
        lines.append(f"| {name} | {' | '.join(means)} |")
    for other, differences in result["differences"].items():
        for metric, (mean, low, high) in differences.items():
            shown = f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
            lines.append(f"\n{next(iter(arms))} less {other}, {metric}: {shown}")
    return "\n".join(lines) + "\n"


def save(result: Mapping[str, Any], path: Path) -> None:
    """Writes the result as JSON."""
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
