"""What a recipe may say: the fields of these classes are the TOML file's keys, their values the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_embed_train.data import Source
from edge_embed_train.losses import LossOptions


@dataclass(frozen=True)
class DataSet:
    """One data set: `[data.NAME]`.

    Attributes:
        source: Where its rows come from. Its fields are keys of the same table.
        query_prompt: The name of the model's prompt that is put before queries and texts.
        positive_prompt: The name of the prompt before positives and negatives.
    """

    source: Source
    query_prompt: str | None = None
    positive_prompt: str | None = None


@dataclass(frozen=True)
class HardNegatives:
    """How hard negatives are mined for pairs: `hard_negatives = { margin = 0.95 }`.

    Attributes:
        margin: A passage is left out if its similarity is more than this many times that of the positive.
        among: The negative is drawn from this number of the most similar passages that are left.
    """

    margin: float = 0.95
    among: int = 4


@dataclass(frozen=True)
class TrainStage:
    """A stage that trains: `distill`, `prefinetune`, `finetune`, `qat` or `soup`.

    Attributes:
        kind: One of these; it sets the defaults of `loss`.
        name: What its directory and its metrics are called; by default the kind.
        data: Names of data sets. A batch is from one of them.
        steps: Batches.
        batch_size: Rows of a batch, over all processes.
        mini_batch_size: Rows that are embedded together; 0 for the whole batch. With less than the batch,
            GradCache keeps memory small and gives the same gradients.
        learning_rate: The highest.
        warmup: Share of the steps in which it rises from 0.
        schedule: How it falls afterwards: cosine, linear or constant.
        weight_decay: Of AdamW.
        loss: Terms and weights; `dimensions` are the Matryoshka dimensions.
        shares: Share of batches of each data set, in any unit; by default by size and temperature.
        mixture_temperature: 1 draws data sets in proportion to their size, larger ones more evenly.
        hard_negatives: Mines a negative for every pair, with the teacher.
        quantize: A recipe of `edge_embed convert`: the model computes as its file will.
        max_tokens: Cuts longer texts; by default the model's own maximum.
        evaluate_every: Steps between evaluations on the recipe's development sets; 0 for none but at the end.
        save_every: Steps between checkpoints; by default a tenth of the steps.
        patience: Stops after this number of evaluations without a better mean and keeps the best; 0: never.
        layers: `train`, or `skip` to leave the encoder's layers out of the computation: the stage then trains
            the token table and the modules after pooling alone, many times faster.
        members: For `soup`: how many mixtures are trained and averaged.
        concentration: For `soup`: of the Dirichlet distribution around the shares.
        trials: For `soup`: how many mixtures are tried in short trainings first. The `members` with the best
            scores on the recipe's development sets are then trained. 0: the shares and draws around them.
        trial_steps: For `soup`: batches of such a training; by default a tenth of the steps.
    """

    kind: str
    name: str = ""
    data: tuple[str, ...] = ()
    steps: int = 1000
    batch_size: int = 64
    mini_batch_size: int = 0
    learning_rate: float = 2e-5
    warmup: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.01
    loss: LossOptions = field(default_factory=LossOptions)
    shares: Mapping[str, float] = field(default_factory=dict)
    mixture_temperature: float = 1.0
    hard_negatives: HardNegatives | None = None
    quantize: str = ""
    max_tokens: int = 0
    evaluate_every: int = 0
    save_every: int = 0
    patience: int = 0
    layers: Literal["train", "skip"] = "train"
    members: int = 3
    concentration: float = 10.0
    trials: int = 0
    trial_steps: int = 0

    @property
    def all_steps(self) -> int:
        """Batches of all trainings of the stage together."""
        if self.kind != "soup":
            return self.steps
        return self.members * self.steps + self.trials * self.steps_of_a_trial

    @property
    def steps_of_a_trial(self) -> int:
        """Batches of one training of a search over mixtures."""
        return self.trial_steps or max(1, self.steps // 10)

    @property
    def needs_teacher(self) -> bool:
        """Whether the stage asks the recipe's teacher."""
        return self.loss.needs_teacher or self.hard_negatives is not None


@dataclass(frozen=True)
class StudentStage:
    """A stage that makes a small student of a teacher: `student`. Only the first stage may be one.

    Attributes:
        kind: `student`.
        name: What its directory is called.
        data: The pieces that these texts use most are kept.
        vocabulary: Pieces of the teacher's WordPiece tokenizer that are kept.
        characters: Single characters that are kept: `all`, or those that are ASCII or `seen` in the data. A
            word with another character is then unknown.
        prior: How much the order of the teacher's vocabulary counts beside the data when pieces are chosen, 0
            to 1: BERT's is by frequency in general English.
        layers: Of the Gemma 3-shaped encoder.
        hidden: Width; the token table starts as this number of principal components of the teacher's.
        heads: Query heads; there is one key and value head.
        head_dim: Width of a head.
        inner: Width of the feed-forward layers.
        keep_layers: Layers of the teacher, a BERT, that become the student's: their numbers from 0. `layers`,
            `hidden`, `heads`, `head_dim`, `dense` and `layer_gain` then say nothing; of each layer's inner
            neurons the `inner` with the largest weights are kept. Empty: the student's layers are new.
        dense: Widths of the two Dense modules after pooling; the second is the teacher's dimension.
        layer_gain: What each layer adds to its input at the beginning, as the gain of the norms that end its
            two halves. A small gain suits layers that are trained after the token table.
        rotate: Turns the vectors so that their first numbers say the most, for users who cut them. The
            student gets a last Dense module that begins with the principal axes of the teacher's vectors, and
            later stages compare with vectors that are turned alike. Similarities stay as they are.
        max_tokens: The longest input.
    """

    kind: str
    name: str = ""
    data: tuple[str, ...] = ()
    vocabulary: int = 16384
    characters: Literal["all", "seen"] = "all"
    prior: float = 0.0
    layers: int = 6
    hidden: int = 256
    heads: int = 4
    head_dim: int = 64
    inner: int = 768
    keep_layers: tuple[int, ...] = ()
    dense: tuple[int, ...] = (512, 384)
    layer_gain: float = 1.0
    rotate: bool = False
    max_tokens: int = 256


@dataclass(frozen=True)
class AdaptStage:
    """A stage that makes an encoder of a Gemma 3 decoder: `adapt`. Only the first stage may be one.

    Attributes:
        kind: `adapt`.
        name: What its directory is called.
        data: Texts for the UL2 tasks.
        decoder_steps: Steps in which the decoder is first trained as a decoder, for one that is random.
        steps: Steps of UL2 training.
        batch_size: Sequences of a batch.
        learning_rate: The highest, of both.
        length: Tokens of a sequence.
        dense: Widths of the two Dense modules after pooling; empty for four times the width and the width.
        pooling: Of the encoder: mean, cls or lasttoken.
        max_tokens: The longest input of the encoder.
    """

    kind: str
    name: str = ""
    data: tuple[str, ...] = ()
    decoder_steps: int = 0
    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-3
    length: int = 64
    dense: tuple[int, ...] = ()
    pooling: str = "mean"
    max_tokens: int = 2048


@dataclass(frozen=True)
class RotateStage:
    """A stage that turns vectors so that their first numbers say the most: `rotate`. It is the last one.

    Similarities of whole vectors stay as they are; those of cut vectors come closer to them.

    Attributes:
        kind: `rotate`.
        name: What its directory is called.
        data: Texts like those that will be compared.
        dimensions: Lengths that users cut vectors to; by default a half and a quarter of the model's.
        texts: How many texts are embedded, the same number of every data set and column.
        neighbours: Nearest texts of each text whose order counts.
        steps: Steps of gradient descent, over the vectors alone.
        quantize: The recipe that the stages before trained for. Only the Dense modules may have more bits
            here: their rounded weights are turned, and are on no grid afterwards.
    """

    kind: str
    name: str = ""
    data: tuple[str, ...] = ()
    dimensions: tuple[int, ...] = ()
    texts: int = 30_000
    neighbours: int = 32
    steps: int = 1000
    quantize: str = ""


Stage = TrainStage | StudentStage | AdaptStage | RotateStage


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Attributes:
        name: What the model is called.
        model: The checkpoint that the first stage starts from: a directory or a hub id.
        teacher: The sentence-transformers model that teaches; a directory or a hub id.
        teacher_file: The teacher as a file of `edge_embed convert`. It then computes the teacher vectors,
            which is faster on a CPU.
        precision: What the stages compute in. `auto` is bfloat16 on a CUDA device that has it, else float32.
        seed: Of everything that is drawn.
        dev: Development sets that choose between checkpoints.
        licence: Of the model, for its card.
        teacher_batch_size: Texts that the teacher embeds together.
        data: The data sets by name.
        stages: The stages in order.
        path: The file.
    """

    name: str
    model: str = ""
    teacher: str = ""
    teacher_file: str = ""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 1
    dev: tuple[Path, ...] = ()
    licence: str = ""
    teacher_batch_size: int = 64
    data: Mapping[str, DataSet] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    path: Path = Path("recipe.toml")
