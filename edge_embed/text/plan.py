"""From what the user passes to what the graph takes: texts, prompts, titles, and windows of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from dataclasses import dataclass
from typing import Any

from edge_embed.errors import InputError, TextTooLongError
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import OVERFLOWS, Overflow
from edge_embed.text.tokenizers import Tokenizer, check_text

_NO_TITLE = "title: none"


@dataclass(frozen=True)
class Plan:
    """How one text is run.

    Attributes:
        windows: Token ids of each run, special tokens included.
        weights: Content tokens that each window adds, for the mean over windows.
        tokens: How many tokens the whole text has, special tokens included.
        truncated: Whether some of them are not run.
        padding: Whether the text spells the padding token. The graph tells padding by its id alone.
    """

    windows: list[list[int]]
    weights: list[int]
    tokens: int
    truncated: bool = False
    padding: bool = False


def as_texts(sentences: Any) -> tuple[list[str], bool]:
    """Returns the texts as a list, and whether there was only one, not in a list.

    Raises:
        InputError: If an item is not a usable text.
    """
    if hasattr(sentences, "tolist"):  # numpy arrays, also of no dimension, and pandas series
        sentences = sentences.tolist()
    if isinstance(sentences, str):
        return [check_text(sentences, 0)], True
    if isinstance(sentences, (bytes, bytearray, Mapping)) or not isinstance(sentences, Iterable):
        raise InputError(
            "not a text or a list of texts", got=type(sentences).__name__, expected="str or list[str]"
        )
    if isinstance(sentences, (Set, MappingView)):
        raise InputError(
            "texts without an order, so that nothing tells which vector is whose",
            got=type(sentences).__name__,
            expected="str or list[str]",
            fix="pass sorted(texts) or list(texts), and keep it",
        )
    return [check_text(text, index) for index, text in enumerate(sentences)], False


def choose_prompt(
    prompts: Mapping[str, str], prompt: str | None, prompt_name: str | None, default_name: str | None
) -> str:
    """Returns what goes before each text: the prompt given, else the one named, else the default one.

    Raises:
        InputError: If the name is unknown or the prompt is not a text.
    """
    if prompt is not None:
        if not isinstance(prompt, str):
            raise InputError("the prompt is not a text", got=type(prompt).__name__, expected="str or None")
        return check_text(prompt, 0)
    name = prompt_name if prompt_name is not None else default_name
    return "" if name is None else prompts[check_prompt_name(prompts, name)]


def check_prompt_name(prompts: Mapping[str, str], name: str) -> str:
    """Returns `name` if there is such a prompt.

    Raises:
        InputError: If there is none; the message lists the known names.
    """
    if not isinstance(name, str) or name not in prompts:
        raise InputError(
            "the model has no prompt of that name",
            got=repr(name),
            expected=", ".join(prompts) or "no name, since the model has no prompts",
            fix="choose one of these, or pass prompt='...'",
        )
    return name


def task_prompt_name(prompts: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Returns the first of `names` that the model has a prompt for."""
    return next((name for name in names if name in prompts), None)


def with_titles(
    texts: Sequence[str], prompt: str, titles: str | Sequence[str | None] | None
) -> tuple[list[str], list[str]]:
    """Returns one prompt and one text per document, with the titles worked in.

    A prompt with a place for a title ("title: none") takes it there; without one the title goes
    before the text.

    Raises:
        InputError: If the number of titles is not that of the texts, or one is not a text.
    """
    if titles is None or isinstance(titles, str):
        each: list[str | None] = [titles] * len(texts)
    else:
        each = list(titles.tolist() if hasattr(titles, "tolist") else titles)
    if len(each) != len(texts):
        raise InputError(
            "there must be one title per text",
            got=f"{len(each)} titles for {len(texts)} texts",
            fix="pass None for a text without a title",
        )
    prompts, documents = [], []
    for index, (text, title) in enumerate(zip(texts, each, strict=True)):
        label = check_text(title, index).strip() if title is not None else ""
        if label and _NO_TITLE in prompt:
            prompts.append(prompt.replace(_NO_TITLE, f"title: {label}", 1))
            documents.append(text)
        else:
            prompts.append(prompt)
            documents.append(f"{label} {text}".strip() if label else text)
    return prompts, documents


def check_overflow(overflow: str) -> Overflow:
    """Returns the policy if there is one of that name.

    Raises:
        InputError: If there is none.
    """
    for known in OVERFLOWS:
        if overflow == known:
            return known
    raise InputError("unknown overflow policy", got=repr(overflow), expected=", ".join(OVERFLOWS))


def plan(
    tokenizer: Tokenizer, manifest: Manifest, prompt: str, text: str, overflow: Overflow, *, index: int
) -> Plan:
    """Returns the windows in which a text is run.

    Args:
        tokenizer: The model's.
        manifest: The model's.
        prompt: What goes before the text.
        text: The text.
        overflow: What happens to a text that does not fit.
        index: The text's place in the list, for the message.

    Raises:
        TextTooLongError: If it does not fit and `overflow` is "error".
        InputError: If the prompt alone fills the model and `overflow` is "mean".
    """
    record = manifest.tokenizer
    content = tokenizer.encode(prompt + text)
    room = manifest.max_tokens - len(record.prefix_ids) - len(record.suffix_ids)
    total = manifest.max_tokens - room + len(content)
    padding = record.pad_id in content

    def window(ids: Sequence[int]) -> list[int]:
        return [*record.prefix_ids, *ids, *record.suffix_ids]

    if len(content) <= room:
        return Plan([window(content)], [1], total, padding=padding)
    if overflow == "truncate":
        return Plan([window(content[:room])], [1], total, truncated=True, padding=padding)
    if overflow == "error":
        raise TextTooLongError(
            f"text {index} is longer than the model takes",
            got=f"{total} tokens",
            expected=f"at most {manifest.max_tokens}",
            fix="split the text, or choose overflow='mean' or 'truncate'",
        )
    lead = _common_prefix(tokenizer.encode(prompt), content) if prompt else []
    step = room - len(lead)
    if step < 1:
        raise InputError(
            "the prompt leaves no room for text",
            got=f"{len(lead)} tokens of prompt",
            expected=f"fewer than {room}",
            fix="choose a shorter prompt",
        )
    body = content[len(lead) :]
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    windows = [window([*lead, *part]) for part in parts]
    return Plan(windows, [len(part) for part in parts], total, padding=padding)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Returns what two sequences share at their start: a prompt's last token may merge with the text."""
    length = 0
    while length < min(len(a), len(b)) and a[length] == b[length]:
        length += 1
    return list(a[:length])
