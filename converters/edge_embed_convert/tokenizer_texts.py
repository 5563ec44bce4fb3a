"""Texts of our own on which formats of a tokenizer tend to part, and what a tokenizer makes of them."""

# ruff: noqa: RUF001 - lookalike characters are what these texts are for

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from edge_embed._manifest import TokenizerRecord
from edge_embed._tokenizer import load_tokenizer
from edge_embed.errors import CheckpointError, EdgeEmbedError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = Callable[[str], list[int]]
Around = tuple[list[int], list[int]]
"""The ids before and after every text."""

HOSTILE_TEXTS = (
    "",
    " ",
    "   ",
    " leading, trailing and  double   spaces  ",
    "\n",
    "\r\n windows \r\n lines\r",
    "tab\tand\t\ttabs\n\n\nlines \n \n\t mixed",
    "\u00a0no-break\u2003em\u200bzero\ufeffmark\u3000wide\u2028line\u0085next",
    "\x00",
    "nul\x00in the\x00\x00middle",
    "\x01\x07\x1b[31mcontrol\x7f\x9f",
    "Plain words, a number 1234567890, and 3.14159e-10; 50 % off!",
    "0 00 000 12345678901234567890 ٣٤٥ १२३ ５６７ ½ ⅷ ²",
    "def f(x: int) -> list[str]:\n    return [f'{x!r}\\n'] * 2  # comment\n",
    '<html><body class="a">&amp;</body></html> {"k": [null, 1e5]}',
    "for (int i = 0; i < n; ++i) { a[i] <<= 1; } // ~!@#$%^&*()_+|`-=\\",
    "https://example.org/a/b?c=d&e=%20f#g user.name+tag@example.org C:\\temp\\x",
    "Größe straße İstanbul ıI ǅ ﬁ ﬂ Ａｂｃ ﷺ ℌ",
    "composed \u00e9 \u1ec7 and apart e\u0301 e\u0323\u0302 \u0344 Z\u0351\u036b\u0343\u036a\u0302\u0363",
    "\u0301combining first",
    "Поїзд їде; ѣ ѳ Ѡ ҈",
    "Ελληνικά ᾳ̈́ ϗ και τόνοι",
    "ΟΔΟΣ ὈΔΥΣΣΕΎΣ Σ ΑΣ. ς",
    "العَرَبِيَّة مِن اليَمين ١٢٣ ـــ لا",
    "שָׁלוֹם mixed עם English \u202eoverride\u202c \u2067isolate\u2069",
    "हिन्दी में क्षत्रिय ज्ञान र्\u200d क्\u200cष",
    "বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල ગુજરાતી ਪੰਜਾਬੀ",
    "ภาษาไทยไม่มีช่องว่าง ນ້ຳ မြန်မာ ភាសាខ្មែរ བོད་ཡིག",
    "日本語のテスト。カタカナ ｶﾀｶﾅ 々〆ヶ 葛\U000e0100",
    "中文分词测试，繁體字與简体字𠮷𡃁𪚥",
    "한국어 시험 \u1112\u1161\u11ab\u1100\u1173\u11af ㅋㅋㅋ",
    "ქართული Հայերեն አማርኛ ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ ᚠᚢᚦ 𓀀𓂀 𐎠𐏂 𝔘𝔫𝔦 𞤀𞤁 ꙮ",
    "👩\u200d🍳👨\u200d👩\u200d👧\u200d👦🏳\ufe0f\u200d🌈👍🏽🇺🇦🇩🇪 1\ufe0f⃣ ❤\ufe0f 🫠🪿🫨",
    "\u200d\ufe0f\U000e0067\U000e007f loose joiners",
    "\ufffd\ufffe\uffff\U0010ffff\U000f0000\ue000 not characters",
    "math ∀x∈ℝ: √(x²) ≤ ∑ᵢ|xᵢ| ⟹ ∎ and box ┌─┐│█▅▄",
    "⁇ ▅ unk marks",
    "\u2581",
    "\u2581a b\u2581c \u2581 d",
    "a\u2581\u2581b \u2581",
    "<bos>",
    "<s>text</s> <eos> <pad><unk> <mask> <BOS> < bos >",
    "<start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n",
    "[CLS] one [SEP] two [MASK] [UNK][PAD] [unused1] <unused0><unused99>",
    "<0x00><0x41> 0x0A <0xE2><0x96><0x81> <0xGG>",
    "<image_soft_token> <|endoftext|> <|im_start|> <start_of_image>",
    "title: none | text: task: search result | query: ",
    "a" * 3000,
    " " * 700 + "x",
    "\n" * 300 + "\t" * 200,
    "ab" * 800 + "é" * 500 + "字" * 300 + "👍" * 200,
    "=" * 257 + "-" * 129 + "." * 99 + "_" * 65 + "!" * 33,
    "Supercalifragilisticexpialidocious" * 20,
    *(f"a{' ' * n}b{chr(10) * n}c{chr(9) * n}d" for n in range(1, 68)),
)
"""Many scripts, joiners and combining marks, control characters, NUL, every kind and length of whitespace,
code, digits, right-to-left text, spelled-out special tokens, lone marks of U+2581, and long runs."""


def difference(record: TokenizerRecord, data: bytes, expected: Ids, texts: Iterable[str]) -> str | None:
    """Returns the first text on which the runtime would get other ids than expected, with both."""
    try:
        encode = load_tokenizer(record, data).encode
    except EdgeEmbedError as error:
        return f"{error.what} ({error.got})"
    for text in texts:
        got, wanted = encode(text), expected(text)
        if got != wanted:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            return f"{shown!r} gives {got[:12]}, and the checkpoint's own {wanted[:12]}"
    return None


def surroundings(tokenizer: Tokenizer) -> Around:
    """Returns the ids that the post-processor puts before and after every text."""
    candidates: list[Around] | None = None
    for text in HOSTILE_TEXTS:
        whole = tokenizer.encode(text).ids
        content = tokenizer.encode(text, add_special_tokens=False).ids
        extra = len(whole) - len(content)
        here = [
            (whole[:k], whole[k + len(content) :])
            for k in range(extra + 1)
            if whole[k : k + len(content)] == content
        ]
        candidates = here if candidates is None else [pair for pair in candidates if pair in here]
        if not candidates:
            raise CheckpointError(
                "the tokenizer's special tokens are not a fixed prefix and suffix",
                got=f"{whole[:12]} for {text[:40]!r}, whose own ids are {content[:12]}",
                expected="the same ids before and after every text",
            )
    return candidates[0] if candidates else ([], [])
