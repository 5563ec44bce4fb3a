"""Calibration texts: some that rounding is fitted to, and others that a search measures on.

The built-in texts were written for this purpose: statements, questions, chat, titles, abstracts, code, and
sentences in about forty languages. None comes from an evaluation set. Your own file is better if the model is
for one subject or one language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_convert.gate.probe_texts import ProbeText, prompt_names

BUILT_IN = Path(__file__).with_name("texts.txt")

MEASURED_EVERY = 3
"""Every third text is for measuring; the other two are for fitting."""

MOST_TEXTS = 600
"""More texts take time and gain almost nothing; from a longer file, evenly spaced lines are taken."""

JOINED = 8
"""How many neighbouring texts are also joined to a long one, like a paragraph or a document."""

LONGEST = 256
"""Tokens after which a calibration text is cut: attention over more is slow on a processor."""

FEWEST_TEXTS = 12
"""With fewer texts there are no ten neighbours to compare."""


@dataclass(frozen=True)
class Calibration:
    """Texts for fitting and texts for measuring.

    Attributes:
        fitted: Texts that rounding is fitted to.
        measured: Other texts, for measuring only.
        origin: How the manifest identifies them: `built-in` or the file's name, and a hash.
    """

    fitted: tuple[str, ...]
    measured: tuple[str, ...]
    origin: str

    @classmethod
    def read(cls, path: str | Path | None = None) -> Calibration:
        """Reads a file with one text per line; blank lines are ignored.

        Args:
            path: UTF-8 text; None for the built-in texts.

        Raises:
            InputError: If it cannot be read, is not UTF-8, or has too few texts. The message names the line.
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

    def fitting_texts(self, prompts: Mapping[str, str]) -> list[ProbeText]:
        """Returns the texts for fitting, each with the name of a prompt. The model's prompts take turns."""
        return _prompted(self.fitted, prompts)

    def measuring_texts(self, prompts: Mapping[str, str]) -> list[ProbeText]:
        """Returns the texts for measuring, in the same way."""
        return _prompted(self.measured, prompts)


def _prompted(texts: Sequence[str], prompts: Mapping[str, str]) -> list[ProbeText]:
    names = prompt_names(prompts)
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
            expected=f"at least {FEWEST_TEXTS}, better a few hundred, one per line",
            fix="add texts like those the model will meet, or leave --calibration out",
        )
    return texts


def _thinned(texts: list[str]) -> list[str]:
    if len(texts) <= MOST_TEXTS:
        return texts
    return [texts[i * len(texts) // MOST_TEXTS] for i in range(MOST_TEXTS)]


def _with_long(texts: Sequence[str]) -> tuple[str, ...]:
    return (*texts, *(" ".join(texts[i : i + JOINED]) for i in range(0, len(texts) - JOINED + 1, JOINED)))
