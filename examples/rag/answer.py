"""Answers a question from an index with a generator that runs on this machine.

    python answer.py ../notes.db gemma.litertlm "how long must the dough rest?"

The index finds passages; the generator, a `.litertlm` file of your own choice, reads them and answers with
the numbers of those that it used. Needs `pip install 'litert-lm-api>=0.18'`. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_embed import EdgeEmbedError, Index
from edge_embed.errors import InputError

INSTRUCTION = (
    "Answer the question from the numbered passages alone, in its own language, in a few sentences. "
    "Name the passages that you used, as [1]. If they do not hold the answer, say so."
)


def ask(index: Index, generator: Path, question: str, max_tokens: int) -> Iterator[str]:
    """Yields the passages that were found, then the answer as it is generated.

    Args:
        index: Where the passages come from.
        generator: The generator's `.litertlm` file.
        question: The question.
        max_tokens: The most tokens of the passages together.

    Raises:
        InputError: If the package or the file of the generator is missing, or it cannot be loaded.
    """
    try:
        import litert_lm  # the generator's runtime; nothing else here needs it
    except ImportError as error:
        raise InputError(
            "the generator needs the package litert-lm-api, which is not installed",
            fix="pip install 'litert-lm-api>=0.18'",
        ) from error
    if not generator.is_file():
        raise InputError(
            f"there is no generator {generator}",
            expected="a .litertlm file of a language model",
            fix="download one, for instance from huggingface.co/litert-community, and name it here",
        )
    context = index.context(question, max_tokens)
    yield f"{context}\n\n"
    if not context.passages:
        yield "The index holds nothing about that."
        return
    try:
        with litert_lm.ModelInfo(str(generator)) as info:
            if info.is_embedding_model:  # loading it as a generator would end the process
                raise InputError(
                    f"{generator} is no generator", got="an embedding model", expected="a language model"
                )
        with (
            litert_lm.Engine(str(generator)) as engine,
            engine.create_conversation(system_message=INSTRUCTION) as conversation,
        ):
            for part in conversation.send_message_async(f"{context}\n\nQuestion: {question}"):
                yield str(part.contents)
    except RuntimeError as error:
        raise InputError(f"the generator {generator} failed", got=str(error)) from error


def main() -> int:
    """Prints the passages and the answer."""
    parser = argparse.ArgumentParser(description="Answer a question from an index with a local generator.")
    parser.add_argument("index", help="a file that edge_embed index wrote")
    parser.add_argument("generator", type=Path, help="a .litertlm file of a language model")
    parser.add_argument("question")
    parser.add_argument("--max-tokens", type=int, default=1000, help="of the passages (default: 1000)")
    parser.add_argument("--model", help="the embedding model, if it is not where the index was made with it")
    args = parser.parse_args()
    try:
        with Index.open(args.index, args.model, read_only=True, memory="low") as index:
            for part in ask(index, args.generator, args.question, args.max_tokens):
                print(part, end="", flush=True)
    except EdgeEmbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
