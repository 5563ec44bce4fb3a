"""How much of a sample a smaller vocabulary covers, by language."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from edge_embed_convert.trim.tokens import Form


@dataclass(frozen=True)
class Coverage:
    """What became of the texts of one language.

    Attributes:
        texts: How many there are.
        covered: How many keep their ids, alone and after every prompt.
        tokens: How many tokens they have.
        kept: How many of those stay.
    """

    texts: int
    covered: int
    tokens: int
    kept: int

    @property
    def share(self) -> float:
        """The share of covered texts."""
        return self.covered / self.texts if self.texts else 1.0

    @property
    def token_share(self) -> float:
        """The share of tokens that stay."""
        return self.kept / self.tokens if self.tokens else 1.0


def measure(texts: Iterable[tuple[str, list[Form]]], kept: Set[int]) -> dict[str, Coverage]:
    """Returns the coverage by language.

    Args:
        texts: The language and the forms of each text.
        kept: The ids that stay.
    """
    found: dict[str, list[int]] = {}
    for language, forms in texts:
        entry = found.setdefault(language, [0, 0, 0, 0])
        plain = forms[0].ids
        entry[0] += 1
        entry[1] += all(form.needed <= kept for form in forms)
        entry[2] += len(plain)
        entry[3] += sum(index in kept for index in plain)
    return {language: Coverage(*entry) for language, entry in sorted(found.items())}
