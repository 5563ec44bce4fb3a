"""Calibration texts: what rounding is fitted to, and what a search measures on, kept apart.

The built-in texts are our own: statements, questions, chat, titles, abstracts, code, and sentences in some
forty languages. None of them comes from an evaluation set. A file of one's own is better where a model
serves one subject or one language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_convert.gate.probe_texts import ProbeText

BUILT_IN = Path(__file__).with_name("texts.txt")

MEASURED_EVERY = 3
"""Every third text is measured on; the other two are fitted to."""

MOST_TEXTS = 600
"""More texts than these add time and next to nothing else; a longer file is thinned evenly."""

JOINED = 8
"""Neighbouring texts that also go together as a long one, as a paragraph or a document would."""

LONGEST = 256
"""Tokens after which a calibration text is cut: attention over more is slow on a processor."""

FEWEST_TEXTS = 12
"""Fewer texts leave no ten neighbours to compare."""


@dataclass(frozen=True)
class Calibration:
    """Texts to fit to and texts to measure on.

    Attributes:
        fitted: Texts that rounding may learn from.
        measured: Other texts, which only judge.
        origin: What the manifest calls them: the built-in ones or a file, and a hash.
    """

    fitted: tuple[str, ...]
    measured: tuple[str, ...]
    origin: str

    @classmethod
    def read(cls, path: str | Path | None = None) -> Calibration:
        """Reads a file of one text per line; blank lines do not count.

        Args:
            path: UTF-8 text; None for the built-in texts.

        Raises:
            InputError: If it cannot be read, is not UTF-8, or holds too few texts; with the line.
        """
        source = BUILT_IN if path is None else Path(path).expanduser()
        try:
            data = source.read_bytes()
        except OSError as error:
            raise InputError(
                f"cannot read the calibration texts in {source}",
                got=error.strerror or str(error),
                expected="a file of UTF-8 text, one text per line",
            ) from error
        texts = _thinned(_lines(data, source))
        name = "built-in" if path is None else source.name
        return cls(
            fitted=_with_long([t for i, t in enumerate(texts) if i % MEASURED_EVERY]),
            measured=_with_long(texts[::MEASURED_EVERY]),
            origin=f"{name} sha256:{hashlib.sha256(data).hexdigest()}",
        )

    def fit(self, prompts: Mapping[str, str]) -> list[ProbeText]:
        """Returns the texts to fit to, each with the name of a prompt, the model's prompts taking turns."""
        return _prompted(self.fitted, prompts)

    def judges(self, prompts: Mapping[str, str]) -> list[ProbeText]:
        """Returns the texts to measure on, likewise."""
        return _prompted(self.measured, prompts)


def _prompted(texts: Sequence[str], prompts: Mapping[str, str]) -> list[ProbeText]:
    names = [None, *(name for name in ("query", "document", "passage") if name in prompts)]
    return [ProbeText(text, names[i % len(names)]) for i, text in enumerate(texts)]


def _lines(data: bytes, source: Path) -> list[str]:
    texts = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"the calibration texts are not UTF-8: {source}, line {number}",
                got=f"byte {line[error.start]:#04x} at position {error.start + 1} of the line",
                expected="UTF-8 text, one text per line",
                fix="convert the file, for instance with iconv",
            ) from error
        if "\0" in text:
            raise InputError(
                f"the calibration texts are not text: {source}, line {number}",
                got="a null character, as UTF-16 and binary files have",
                expected="UTF-8 text, one text per line",
            )
        if text:
            texts.append(text)
    if len(texts) < FEWEST_TEXTS:
        raise InputError(
            f"too few calibration texts in {source}, after line {len(data.splitlines())}, its last",
            got=f"{len(texts)} that are not blank" if data else "an empty file",
            expected=f"at least {FEWEST_TEXTS}, better some hundred, one per line",
            fix="add texts like those the model will meet, or leave --calibration out",
        )
    return texts


def _thinned(texts: list[str]) -> list[str]:
    if len(texts) <= MOST_TEXTS:
        return texts
    return [texts[i * len(texts) // MOST_TEXTS] for i in range(MOST_TEXTS)]


def _with_long(texts: Sequence[str]) -> tuple[str, ...]:
    return (*texts, *(" ".join(texts[i : i + JOINED]) for i in range(0, len(texts) - JOINED + 1, JOINED)))
