"""Every error this project raises on purpose.

```
EdgeEmbedError
├── ModelFileError          the file is not a model of ours, or is cut, damaged or hostile
│   └── ManifestError       its manifest is missing, malformed, or of a newer schema
├── SelfCheckError          the backend does not reproduce the file's own probe
├── RuntimeFailure          LiteRT refused to compile or run the graph
│   └── AcceleratorError    the accelerator that was asked for is absent or takes no part of the graph
├── TokenizerError          the tokenizer is missing or cannot be read
├── IndexFileError          the index file is not ours, damaged, full, read-only, locked or closed
│   └── IndexModelError     the index was made with another model
├── InputError              a text, an option or a data file that cannot be used (also a ValueError)
│   └── TextTooLongError    a text longer than the model takes, under overflow="error"
├── MissingExtraError       an optional package is not installed (also an ImportError)
├── TrainingError           a training run cannot go on; what it had saved is kept
└── ConversionError         a checkpoint could not be turned into a file
    ├── CheckpointError     the checkpoint is absent, incomplete or wrong
    ├── RecipeError         the recipe is unknown or does not apply
    └── ParityError         the converted file does not agree with its source
        └── BudgetError     no file keeps to the size or the quality that was asked for
```

Warnings, all of the class `EdgeEmbedWarning`: `TruncationWarning` when a text was cut, `PaddingWarning` when
a text spells the padding token, `WeightCacheWarning` when packed weights could not be kept,
`AcceleratorWarning` when a part of the graph stayed on the CPU.

Every message says what happened, what was got, what was expected, and what to do.
"""

from __future__ import annotations


class EdgeEmbedError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: What went wrong, one sentence.
        got: What was found.
        expected: What would have been right.
        fix: What the user can do about it.
    """

    def __init__(
        self, what: str, *, got: str | None = None, expected: str | None = None, fix: str | None = None
    ) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        parts = [what]
        parts += [f"{label}: {text}" for label, text in (("got", got), ("expected", expected)) if text]
        if fix:
            parts.append(f"to fix it: {fix}")
        super().__init__("\n  ".join(parts))


class ModelFileError(EdgeEmbedError):
    """The file is not a model of ours, or is cut, damaged or hostile."""


class ManifestError(ModelFileError):
    """The manifest is missing, malformed, or of a newer schema."""


class SelfCheckError(EdgeEmbedError):
    """The backend does not reproduce the probe that the file carries."""


class RuntimeFailure(EdgeEmbedError):
    """LiteRT refused to compile or to run the graph."""


class AcceleratorError(RuntimeFailure):
    """The accelerator that was asked for is absent, or takes no part of the graph."""


class TokenizerError(EdgeEmbedError):
    """The tokenizer is missing or cannot be read."""


class IndexFileError(EdgeEmbedError):
    """The index file is not one of ours, is damaged, or cannot be read or written now."""


class IndexModelError(IndexFileError):
    """The index was made with another model, other prompts or another dimension."""


class InputError(EdgeEmbedError, ValueError):
    """A text, an option or a data file that cannot be used."""


class TextTooLongError(InputError):
    """A text is longer than the model can read and the policy is to refuse."""


class MissingExtraError(EdgeEmbedError, ImportError):
    """An optional package is not installed.

    Args:
        package: The import that failed.
        extra: The extra of this project that brings it.
        purpose: What it was needed for.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            fix=f"pip install 'edge-embed[{extra}]'",
        )


class TrainingError(EdgeEmbedError):
    """A training run cannot go on. What it had saved is kept."""


class ConversionError(EdgeEmbedError):
    """A checkpoint could not be turned into a file."""


class CheckpointError(ConversionError):
    """The checkpoint is absent, incomplete or wrong."""


class RecipeError(ConversionError):
    """The recipe is unknown or does not apply to this model."""


class ParityError(ConversionError):
    """The converted file does not agree with its source closely enough to be saved."""


class BudgetError(ParityError):
    """No file keeps to the size or the quality that was asked for."""


class EdgeEmbedWarning(UserWarning):
    """Base of every warning of this project."""


class TruncationWarning(EdgeEmbedWarning):
    """Some text was cut to the model's maximum length."""


class PaddingWarning(EdgeEmbedWarning):
    """Some text spells the padding token, which the model then does not see."""


class WeightCacheWarning(EdgeEmbedWarning):
    """Packed weights cannot be kept on disk, so each process packs its own copy."""


class AcceleratorWarning(EdgeEmbedWarning):
    """An accelerator left a part of the graph to the CPU."""


class LiteRtVersionWarning(UserWarning):
    """The installed LiteRT is not the one whose C interface is known, and is used in a slower way."""
