"""The windows of token ids in which a text is run, and what happens to a text that does not fit into one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edge_embed.errors import InputError, TextTooLongError
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import OVERFLOWS, Overflow
from edge_embed.text.borders import common_prefix
from edge_embed.text.stream import Source, first_ids, read_ids
from edge_embed.text.tokenizers import Tokenizer

CHARACTERS_PER_TOKEN = 8
"""How many characters of a long text are read for each token that is needed. Most texts have fewer per token,
so that one reading is enough."""

LEAST_READ = 4096
"""The least characters that are read at a time."""


class Window(NamedTuple):
    """A run of the model over a part of a text.

    Attributes:
        ids: Token ids, special tokens included.
        weight: Content tokens that the window adds, for the mean over windows.
        tokens: Tokens of the text that were read so far, special tokens included.
        truncated: Whether tokens of the text follow that are not run.
        complete: Whether `tokens` counts the whole text.
        padding: Whether the window contains a padding token that the text spells and the model does not see.
    """

    ids: list[int]
    weight: int
    tokens: int
    truncated: bool = False
    complete: bool = False
    padding: bool = False


class Plan(NamedTuple):
    """How one text is run.

    Attributes:
        windows: Token ids of each run, special tokens included.
        weights: Content tokens that each window adds, for the mean over windows.
        tokens: How many tokens of the text were read, special tokens included.
        truncated: Whether some of the text is not run.
        padding: Whether a window contains a padding token that the text spells and the model does not see.
        complete: Whether `tokens` counts the whole text.
    """

    windows: list[list[int]]
    weights: list[int]
    tokens: int
    truncated: bool = False
    padding: bool = False
    complete: bool = True


def plan(
    tokenizer: Tokenizer, manifest: Manifest, prompt: str, text: str, overflow: Overflow, *, index: int = 0
) -> Plan:
    """Returns all windows in which a text is run. Arguments and errors as for `windows`."""
    found = list(windows(tokenizer, manifest, prompt, text, overflow, index=index))
    last = found[-1]
    return Plan(
        [window.ids for window in found],
        [window.weight for window in found],
        last.tokens,
        truncated=last.truncated,
        padding=any(window.padding for window in found),
        complete=last.complete,
    )


def check_overflow(overflow: str) -> Overflow:
    """Returns the policy if there is one of that name.

    Raises:
        InputError: If there is none.
    """
    for known in OVERFLOWS:
        if overflow == known:
            return known
    raise InputError("unknown overflow policy", got=repr(overflow), expected=", ".join(OVERFLOWS))


def windows(
    tokenizer: Tokenizer,
    manifest: Manifest,
    prompt: str,
    text: str,
    overflow: Overflow,
    *,
    index: int = 0,
    chunk: int | None = None,
) -> Iterator[Window]:
    """Yields the windows in which a text is run, at least one.

    A long text is tokenized only as far as needed; "mean" reads it in parts, as the windows are asked for.

    Args:
        tokenizer: The tokenizer of the model.
        manifest: The manifest of the model.
        prompt: What goes before the text.
        text: The text.
        overflow: What happens to a text that does not fit.
        index: The text's place in the list, for the message.
        chunk: How many characters to read at a time; by default enough for the model's maximum.

    Raises:
        TextTooLongError: If it does not fit and `overflow` is "error".
        InputError: If the prompt alone fills the model and `overflow` is "mean".
    """
    record = manifest.tokenizer
    special = len(record.prefix_ids) + len(record.suffix_ids)
    room = manifest.max_tokens - special
    chunk = chunk or max(LEAST_READ, CHARACTERS_PER_TOKEN * manifest.max_tokens)

    def window(content: list[int], weight: int, tokens: int, **facts: bool) -> Window:
        ids = [*record.prefix_ids, *content, *record.suffix_ids]
        padding = record.pad_id in content and not record.sees_padding_tokens
        return Window(ids, weight, special + tokens, padding=padding, **facts)

    if overflow == "mean":
        for content, weight, tokens, complete in _mean_windows(tokenizer, prompt, text, room, chunk):
            yield window(content, weight, tokens, complete=complete)
        return
    content, complete = first_ids(tokenizer, Source(prompt, text), room + 1, chunk)
    tokens = len(content)
    if tokens > room and overflow == "error":
        raise TextTooLongError(
            f"text {index} is longer than the model can read",
            got=f"{'' if complete else 'at least '}{special + tokens} tokens",
            expected=f"at most {manifest.max_tokens}",
            fix="split the text, or choose overflow='mean' or 'truncate'",
        )
    yield window(content[:room], 1, tokens, truncated=tokens > room, complete=complete)


def _mean_windows(
    tokenizer: Tokenizer, prompt: str, text: str, room: int, chunk: int
) -> Iterator[tuple[list[int], int, int, bool]]:
    """Yields content ids, weight, tokens read so far, and whether these are all, for each window.

    Each window begins with the prompt's tokens, as far as the text does not change them.
    """
    parts = read_ids(tokenizer, Source(prompt, text), chunk)
    waiting: list[int] = []  # ids that are in no window yet
    tokens, last = 0, False

    def read(more_than: int) -> None:
        nonlocal tokens, last
        while len(waiting) <= more_than and not last:
            part = next(parts)
            waiting.extend(part.ids)
            tokens, last = tokens + len(part.ids), part.last

    read(room)
    if len(waiting) <= room:
        yield waiting, 1, tokens, True
        return
    lead: list[int] = []
    if prompt:
        lead = common_prefix(first_ids(tokenizer, Source(prompt, ""), room, chunk)[0], waiting)
    step = room - len(lead)
    if step < 1:
        raise InputError(
            "the prompt leaves no room for text",
            got=f"{len(lead)} tokens of prompt",
            expected=f"fewer than {room}",
            fix="choose a shorter prompt",
        )
    del waiting[: len(lead)]
    while True:
        read(step)
        content = waiting[:step]
        if not content:
            return
        del waiting[:step]
        yield [*lead, *content], len(content), tokens, last
