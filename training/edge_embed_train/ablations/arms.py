"""The ablations: for each, its arms as stages of a recipe, and what the paper found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STUDENT = """
[[stage]]
kind = "student"
data = ["pairs"]
vocabulary = 8192
layers = 2
hidden = 128
heads = 2
head_dim = 64
inner = 384
dense = [256, {dimension}]
max_tokens = 64
"""

TRAINING = """
[[stage]]
kind = "{kind}"
name = "{name}"
data = ["pairs"]
steps = {steps}
batch_size = {batch}
learning_rate = {rate}
max_tokens = 48
"""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: What tables call it.
        stages: The stages of its recipe; placeholders are filled by `run`.
        parts: Stage directories whose models are measured as well, by name.
        quantize: A recipe that the result is rounded to before it is measured, without training for it.
    """

    name: str
    stages: str
    parts: tuple[str, ...] = ()
    quantize: str = ""


@dataclass(frozen=True)
class Ablation:
    """Arms that are compared.

    Attributes:
        name: What the command calls it.
        question: What it asks.
        arms: The first is compared with each of the others.
        paper: What the paper found.
        metrics: What is compared; the sign of the first is judged.
        start: `student`, or `decoder` for a random Gemma 3 that is trained as a decoder first.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    paper: str
    metrics: tuple[str, ...]
    start: str = "student"


def _train(more: str = "", kind: str = "finetune", name: str = "", steps: str = "{steps}") -> str:
    head = TRAINING.replace("{kind}", kind).replace("{name}", name or kind)
    return head.replace("{steps}", steps) + more + "\n"


TAUGHT = "loss = {{ matching = 1.0, spread_out = 0.0 }}"

DECODER = """
[[stage]]
kind = "adapt"
data = ["pairs"]
decoder_steps = {decoder_steps}
steps = {ul2_steps}
batch_size = 32
length = 48
learning_rate = 2e-3
dense = [256, {dimension}]
pooling = "{pooling}"
max_tokens = 64
"""


def _adapt(init: str = "ul2", pooling: str = "mean") -> str:
    """Returns the stage that starts an encoder: by UL2, with the decoder's weights as they are, or random."""
    stage = DECODER.replace("{pooling}", pooling)
    if init == "decoder":
        stage = stage.replace("{ul2_steps}", "0")
    if init == "random":
        stage = stage.replace("{ul2_steps}", "0").replace("{decoder_steps}", "0")
    return stage


CONTRASTIVE = "loss = {{ spread_out = 0.0 }}"


def _quantized(recipe: str) -> tuple[Arm, Arm]:
    twice = STUDENT + _train(TAUGHT)
    more = _train(TAUGHT, name="more", steps="{short}")
    qat = _train(TAUGHT + f'\nquantize = "{recipe}"', kind="qat", steps="{short}")
    return (
        Arm(f"{recipe}: trained for it", twice + qat),
        Arm(f"{recipe}: rounded after training", twice + more, quantize=recipe),
    )


ABLATIONS: dict[str, Ablation] = {
    each.name: each
    for each in (
        Ablation(
            "init",
            "Does an encoder from an encoder-decoder start better than one from a decoder, or a random one?",
            (
                Arm("encoder-decoder", _adapt() + _train(CONTRASTIVE)),
                Arm("decoder only", _adapt("decoder") + _train(CONTRASTIVE)),
                Arm("random", _adapt("random") + _train(CONTRASTIVE)),
            ),
            "encoder-decoder > decoder only > random (60.4, 59.7, 45.2 over all tasks)",
            ("sts", "retrieval"),
            start="decoder",
        ),
        Ablation(
            "distillation",
            "Does embedding matching help?",
            (
                Arm("with matching", STUDENT + _train(TAUGHT)),
                Arm("without", STUDENT + _train(CONTRASTIVE)),
            ),
            "part of the recipe; not ablated",
            ("sts", "retrieval"),
        ),
        Ablation(
            "spread-out",
            "Does the regularizer make vectors that lose less when they are quantized or cut?",
            (
                Arm("with spread-out", STUDENT + _train("loss = {{ spread_out = 1.0 }}")),
                Arm("without", STUDENT + _train(CONTRASTIVE)),
            ),
            "part of the recipe, for quantization and search; not ablated",
            ("sts", "retrieval", "cosine_deviation", "sts_binary_loss", "sts_int4_loss", "sts_quarter_loss"),
        ),
        Ablation(
            "soup",
            "Is the average of checkpoints from several mixtures better than each?",
            (
                Arm(
                    "soup",
                    STUDENT
                    + _train(TAUGHT).replace('data = ["pairs"]', 'data = ["pairs", "more"]')
                    + _train(
                        TAUGHT + "\nmembers = 3\nconcentration = 3.0", kind="soup", steps="{short}"
                    ).replace('data = ["pairs"]', 'data = ["pairs", "more"]'),
                    parts=("member-1", "member-2", "member-3"),
                ),
            ),
            "soup 61.2, its parts 60.4, 60.4, 60.1",
            ("sts", "retrieval"),
        ),
        *(
            Ablation(
                f"qat-{recipe}",
                f"Does training for {recipe} lose less than rounding to it?",
                _quantized(recipe),
                "part of the recipe; the published quantized checkpoints lose 0.4 to 0.7",
                ("sts", "retrieval"),
            )
            for recipe in ("mixed", "int4", "int4-block32", "e2_a4_f2_p4")
        ),
        Ablation(
            "pooling",
            "Which pooling is best?",
            (
                Arm("mean", _adapt() + _train(CONTRASTIVE)),
                Arm("first token", _adapt(pooling="cls") + _train(CONTRASTIVE)),
                Arm("last token", _adapt(pooling="lasttoken") + _train(CONTRASTIVE)),
            ),
            "mean 60.4 > attention 60.2 > first 59.9 > last 59.7",
            ("sts", "retrieval"),
            start="decoder",
        ),
    )
}


def names() -> Sequence[str]:
    """Returns the names of all ablations."""
    return tuple(ABLATIONS)
