"""The fixed probe set: texts of our own that reach every bucket, padded and exact, in many scripts.

The sentences are short statements and questions on everyday subjects, so that a real model tells them
apart and nearest neighbours mean something; the long probes are made of them, each from another start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
"""What a file proves itself with at load: short, so that it costs one run of the smallest bucket."""

FILLERS = (" a", " 1", " \u4e00")
"""Appended until a text has an exact number of tokens; the first is one token in every vocabulary we know."""


@dataclass(frozen=True)
class ProbeText:
    """A probe before it has vectors: the text, and the prompt it is asked with."""

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
        one that is just too long for the bucket below.
    """
    names = [None, *(n for n in ("query", "document", "passage", "corpus") if n in prompts)]
    probes = [ProbeText(text, names[i % len(names)]) for i, text in enumerate(SENTENCES)]
    previous = 3
    for index, length in enumerate(buckets):
        for offset, tokens in enumerate((length, previous + 1)):
            text = _text_of(tokens, 5 * index + 11 * offset, count_tokens)
            probes.append(ProbeText(text, None))
        previous = length
    return probes


def _text_of(tokens: int, start: int, count_tokens: Callable[[str], int]) -> str:
    """Returns a text of `tokens` tokens, or near it where no filling hits it exactly."""
    text, index = "", start
    while True:
        longer = f"{text} {SENTENCES[index % len(SENTENCES)]}".strip()
        # Bounded, for a tokenizer that makes nothing of these sentences.
        if count_tokens(longer) > tokens or index - start > tokens:
            break
        text, index = longer, index + 1
    for filler in FILLERS:
        filled = text
        # A vocabulary that drops the filler would never end this; one that splits it ends it sooner.
        for _ in range(tokens):
            if count_tokens(filled) >= tokens:
                return filled
            filled += filler
    return text  # padded then, which is a probe as well
