"""The fixed probes: texts that reach every bucket, padded and exact, in many scripts.

The sentences are short statements and questions on everyday subjects, so that a real model gives them
different vectors and nearest neighbours are meaningful. The long probes are made of these sentences, each
beginning with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from edge_embed.errors import CheckpointError
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS

SENTENCES = (
    "The ferry to the island leaves every morning at seven from the northern pier.",
    "How long does it take to boil an egg until the yolk is firm?",
    "A cat slept on the warm engine of the parked delivery van.",
    "Interest rates rose again, and the price of new houses fell for the third month.",
    "def mean(values):\n    return sum(values) / len(values)",
    "The nurse measured his blood pressure twice and wrote down the lower value.",
    "Which planet has the largest storm in the solar system?",
    "Water the basil in the evening, but never let the pot stand in water.",
    "SELECT name, total FROM orders WHERE total > 100 ORDER BY total DESC;",
    "The violinist tuned her instrument while the audience was still talking.",
    "Our train was two hours late because of snow on the mountain line.",
    "Vaccines teach the immune system to recognize a virus before it strikes.",
    "Der Bäcker an der Ecke öffnet sonntags erst um acht Uhr.",
    "La biblioteca cierra temprano en agosto, así que vamos por la mañana.",
    "Le vieux pont de pierre a été réparé après les inondations.",
    "O mercado de peixe fica perto do porto e abre muito cedo.",
    "Il gatto della vicina ha dormito tutto il giorno sul tetto.",
    "Поезд в горы отправляется рано утром с третьего пути.",
    "Το μουσείο είναι κλειστό τη Δευτέρα, αλλά ο κήπος μένει ανοιχτός.",
    "يفتح المخبز أبوابه قبل شروق الشمس كل يوم.",
    "הספרייה הקטנה ליד הים סגורה ביום שישי.",
    "पहाड़ी गाँव में बारिश के बाद सड़क बंद हो गई।",
    "แม่ค้าขายผลไม้สดที่ตลาดริมน้ำทุกเช้า",
    "明日の朝は早く起きて、海まで自転車で行くつもりです。",
    "图书馆后面的小路通向一座老茶园。",
    "시장 끝에 있는 국수집은 점심에만 문을 연다.",
    "Tàu ra đảo chạy mỗi sáng lúc bảy giờ từ bến phía bắc.",
    "Kedi bütün gün sobanın yanında uyudu.",
    "Treni i mëngjesit niset nga stacioni i vjetër.",
    "👩‍🍳 Soup of the day: tomato 🍅 and basil 🌿, 4.50 €",
)

SELF_CHECK_TEXT = "The ferry to the island leaves at seven."
"""The text of the self-check at load: short, so that it runs in the smallest bucket."""

FILLERS = (" a", " 1", " \u4e00", ".")
"""Appended one after another until a text has an exact number of tokens; the first is one token in most
vocabularies."""

MOST_REPEATS = 4
"""How many fillers are tried at most for each missing token, because repeated fillers may merge."""


@dataclass(frozen=True)
class ProbeText:
    """A probe without its vector: the text, and the name of its prompt."""

    text: str
    prompt_name: str | None


def probe_texts(
    buckets: Sequence[int], prompts: dict[str, str], count_tokens: Callable[[str], int]
) -> list[ProbeText]:
    """Returns the probe set for a model.

    Args:
        buckets: Lengths in ascending order.
        prompts: The model's prompts; `query` and a document prompt are exercised where present.
        count_tokens: Returns the number of tokens of a text, special tokens included, not cut.

    Returns:
        Every sentence, with the prompts in turn; and for each bucket a text of exactly its length and
        one that is just too long for the bucket below, or the longest that the vocabulary allows below that.

    Raises:
        CheckpointError: If no text reaches a bucket.
    """
    names = prompt_names(prompts)
    probes = [ProbeText(text, names[i % len(names)]) for i, text in enumerate(SENTENCES)]
    previous, floor = 3, count_tokens("")
    for index, length in enumerate(buckets):
        for offset, tokens in enumerate((length, previous + 1)):
            text = _text_of(tokens, 5 * index + 11 * offset, count_tokens)
            probes.append(ProbeText(text, None))
            if not offset:
                _check_reach(count_tokens(text), length, floor)
        previous = floor = length
    return probes


def prompt_names(prompts: Container[str]) -> list[str | None]:
    """Returns the prompts that texts are given in turn: none, then those for queries and for documents."""
    return [None, *(name for name in (*QUERY_PROMPTS, *DOCUMENT_PROMPTS) if name in prompts)]


def _check_reach(got: int, length: int, floor: int) -> None:
    if got < length and got <= floor:
        raise CheckpointError(
            f"the tokenizer cannot fill an input of {length} tokens",
            got=f"at most {got} tokens from any sentence or filler that was tried",
            expected=f"{floor + 1} to {length}",
            fix="check that the tokenizer's files are those of the checkpoint",
        )


def _text_of(tokens: int, start: int, count_tokens: Callable[[str], int]) -> str:
    """Returns a text of `tokens` tokens, or of fewer where no filler makes it exact."""

    def sentences(number: int) -> str:
        return " ".join(SENTENCES[(start + i) % len(SENTENCES)] for i in range(number))

    # A sentence has at least one token, unless the tokenizer makes none of any text.
    text = sentences(_most(tokens, lambda number: count_tokens(sentences(number)) <= tokens))
    for filler in FILLERS:
        missing = tokens - count_tokens(text)
        if missing <= 0:
            break
        text += filler * _filling(text, filler, missing, tokens, count_tokens)
    return text


def _filling(text: str, filler: str, missing: int, tokens: int, count_tokens: Callable[[str], int]) -> int:
    """Returns how often to append a filler so that the text comes as close to `tokens` as possible."""
    if count_tokens(text + filler * missing) == tokens:
        return missing
    return _most(MOST_REPEATS * missing, lambda number: count_tokens(text + filler * number) <= tokens)


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """Returns the greatest number up to `limit` that fits, by doubling and halving; 0 if none does."""
    fitting, step = 0, 1
    while fitting + step <= limit and fits(fitting + step):
        fitting, step = fitting + step, 2 * step
    while step := step // 2:
        if fitting + step <= limit and fits(fitting + step):
            fitting += step
    return fitting
