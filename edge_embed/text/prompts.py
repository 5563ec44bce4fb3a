"""Prompts and titles: what goes before a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_embed.errors import InputError
from edge_embed.text.inputs import check_text

_NO_TITLE = "title: none"


def choose_prompt(
    prompts: Mapping[str, str], prompt: str | None, prompt_name: str | None, default_name: str | None
) -> str:
    """Returns what goes before each text: the given prompt, or else the named one, or else the default.

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
    """Returns one prompt and one text per document, with the titles inserted.

    A prompt with a place for a title ("title: none") gets the title there. With other prompts the title goes
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
