"""`Index`: documents and their vectors in one SQLite file, searched by meaning, by words, or by both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edge_embed.default_model import PATH
from edge_embed.errors import InputError
from edge_embed.options import check_whole
from edge_embed.progress import progress_bar
from edge_embed.retrieval.cutter import counter_for
from edge_embed.retrieval.documents import Source, check_documents, check_id
from edge_embed.retrieval.indexing import Indexer, choose_lexical, groups
from edge_embed.retrieval.opened import OpenIndex
from edge_embed.retrieval.opening import create, load_model, path_to_record, settings_for
from edge_embed.retrieval.options import Options, check_marks, check_query, check_search, check_vector
from edge_embed.retrieval.search.searcher import Request
from edge_embed.retrieval.store import schema
from edge_embed.retrieval.store.database import Database
from edge_embed.retrieval.store.maintenance import vacuum
from edge_embed.retrieval.store.metadata import Where
from edge_embed.retrieval.store.metadata import condition as where_condition
from edge_embed.retrieval.store.settings import Encoder, Fingerprint, Settings
from edge_embed.retrieval.store.writer import Writer
from edge_embed.retrieval.types import AddResult, Hit

if TYPE_CHECKING:
    from edge_embed.retrieval.context import Context
    from edge_embed.retrieval.files import FilesResult
    from edge_embed.retrieval.readers import Fields


class Index(OpenIndex):
    """An index file, open. `Index.open` makes one.

    One instance may be used from several threads and survives a fork. Several processes may use one file: one
    writes at a time, and readers see what was committed when their search began.
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: Encoder | str | os.PathLike[str] | None = None,
        *,
        memory: str = "full",
        dimension: int | None = None,
        vectors: str | None = None,
        lexical: str | None = None,
        chunk_tokens: int | None = None,
        overlap: int | None = None,
        read_only: bool = False,
        timeout: float = 30.0,
    ) -> Index:
        """Opens an index, or makes one where there is none.

        Args:
            path: The file.
            model: The model: an `Embedder`, the path of a model file, or None for the model file that the
                index was last opened with, or for a new index the one that comes with the package. It is
                loaded when it is first needed.
            memory: "full" holds sign bits and int8 vectors in memory, the latter from the second search on;
                "low" holds the sign bits only.
            dimension: Dimension of the stored vectors, the first of the model's; by default all.
            vectors: "int8" (default), or "float32" to store float32 vectors too, for `search(exact=True)`.
            lexical: How words are indexed: "words", "trigrams" for scripts without spaces, or "auto"
                (default), which decides by the first documents.
            chunk_tokens: The most tokens of a chunk; by default what suits the model.
            overlap: Tokens that neighbouring chunks share; by default what suits the model.
            read_only: Whether writing is refused.
            timeout: Seconds to wait while another process writes.

        Raises:
            IndexFileError: If the file is not an index, is damaged, or cannot be opened.
            IndexModelError: If it was made with another model, or other choices than those given.
            InputError: If an option cannot be used.
        """
        options = Options(memory, dimension, vectors, lexical, chunk_tokens, overlap)
        options.check()
        database = Database(path, read_only=read_only, timeout=timeout)
        try:
            if model is None and not read_only and not os.path.exists(database.path):
                model = PATH
            loaded = load_model(model) if model is not None else None
            create(database, options, loaded)
            database.open()
            with database.translated(), database.reading() as connection:
                settings = Settings.load(connection)
            if loaded is not None:
                settings.require_model(loaded)
            options.require_same(settings)
        except BaseException:
            database.close()
            raise
        return cls(database, settings, loaded, full=memory == "full")

    def add(
        self, documents: Iterable[Mapping[str, Any]], *, show_progress_bar: bool | None = None
    ) -> AddResult:
        """Stores documents. What has not changed since it was stored costs nothing but a comparison.

        Documents are embedded and committed in groups, each document whole: an interrupted call keeps the
        groups that were committed, and the same call again goes on from there. A list is checked before
        anything is written, an iterator as it is read.

        Args:
            documents: Mappings with "id" and "text", and optionally "title", "metadata" and "kind" ("text",
                "markdown", "code").
            show_progress_bar: True or False, or None for a bar on a terminal when it takes over a second.

        Raises:
            InputError: If a document cannot be stored, or an id is given twice.
            IndexFileError: If the file cannot be written.
        """
        model = self._require_model()
        self._record_path(model)
        sources = check_documents(documents)
        total = len(documents) if isinstance(documents, Sequence) else None
        if total is not None:
            sources = iter(list(sources))
        result = AddResult()
        with progress_bar(total, "indexing", unit="document", show=show_progress_bar) as advance:
            for group in groups(sources):
                with self._database.translated():
                    self._settle_lexical(group)
                    result += Indexer(self._database, self._settings, model).add(group)
                advance(len(group))
        return result

    def add_files(
        self,
        paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        exclude: Sequence[str] = (),
        prune: bool = False,
        fields: Fields | None = None,
        show_progress_bar: bool | None = None,
    ) -> FilesResult:
        """Stores the documents of files and folders: text, Markdown, HTML, code, JSONL, Parquet and PDF.

        The id of a document is the path of its file, seen from the folder of the index; of a record in JSONL
        or Parquet, that path, "#" and the record's own id. Metadata has "path" and "format". What has not
        changed is not embedded again; a file that cannot be read is skipped, and the result says why. Hidden
        files and what a `.gitignore` leaves out are not read.

        Args:
            paths: Files and folders.
            exclude: Patterns of files and folders to leave out, in the language of `.gitignore`.
            prune: Whether to remove documents whose files, at or below the paths, are gone.
            fields: Where texts, titles and ids are in the records of JSONL and Parquet files.
            show_progress_bar: As for `add`.

        Raises:
            InputError: If a path does not exist.
            IndexFileError: If the index cannot be written.
        """
        from edge_embed.retrieval.files import add_files  # who only searches needs no readers

        return add_files(
            self,
            paths,
            exclude=exclude,
            prune=prune,
            fields=fields,
            show_progress_bar=show_progress_bar,
        )

    def delete(self, ids: Iterable[str]) -> int:
        """Removes documents and all that belongs to them; returns how many were there.

        Raises:
            InputError: If an id is not a string.
            IndexFileError: If the file cannot be written.
        """
        if isinstance(ids, str):
            ids = [ids]
        names = dict.fromkeys(check_id(name, "an id") for name in ids)
        with self._database.translated(), self._database.writing() as connection:
            writer = Writer(connection, self._settings)
            removed = writer.delete(names)
            if removed:
                writer.finish()
        return removed

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        mode: str = "hybrid",
        where: Where | None = None,
        vector: npt.ArrayLike | None = None,
        min_score: float | None = None,
        per_document: bool = False,
        diversity: float = 0.0,
        weights: Sequence[float] = (0.6, 0.4),
        exact: bool = False,
        snippet_length: int = 240,
        marks: tuple[str, str] = ("**", "**"),
    ) -> list[Hit]:
        """Returns the chunks that answer a query best, best first.

        Args:
            query: The question. An empty one finds nothing.
            k: How many hits at most.
            mode: "vector" finds by meaning, "text" by words, "hybrid" by both: hits are ordered by the sum of
                cosine and BM25, each standardized over what either side has found.
            where: A filter on metadata, applied before ranking: ``{"lang": "en"}`` for equality,
                ``{"lang": ["en", "de"]}`` for one of several, ``{"year": {"gte": 2020, "lt": 2024}}`` for a
                range, ``{"author": {"exists": True}}`` for presence. All fields must hold.
            vector: The query's vector, in place of embedding the query.
            min_score: Hits below are left out: by the cosine, and by BM25 in mode "text".
            per_document: Whether a document gives only its best chunk.
            diversity: 0 to 1: how much hits must differ from each other (maximal marginal relevance).
            weights: The weights of the cosine and of BM25, in mode "hybrid".
            exact: Whether to compare all float32 vectors, which the index must have been made with.
            snippet_length: About how many characters a snippet has.
            marks: What stands before and after a word of the query in the snippet.

        Raises:
            InputError: If an argument cannot be used.
            IndexFileError: If the file is damaged or cannot be read.
            IndexModelError: If the index was computed again with another model meanwhile.
        """
        count, least, spread, pair = check_search(k, mode, min_score, diversity, weights)
        condition, values = where_condition(where)
        text = check_query(query)
        if exact and self._settings.vectors != "float32":
            raise InputError(
                "the index holds no float32 vectors, so there is no exact search",
                fix='make it with Index.open(..., vectors="float32")',
            )
        if vector is None and not text.strip():
            return []
        embedded = None
        if mode != "text":
            given = self._require_model().encode_query(text) if vector is None else vector
            embedded = check_vector(given, self._settings.dimension)
        request = Request(
            count=count,
            mode=mode,
            vector=embedded,
            text=text,
            condition=condition,
            values=values,
            least=least,
            per_document=bool(per_document),
            diversity=spread,
            weights=pair,
            exact=bool(exact),
            snippet_length=check_whole("snippet_length", snippet_length),
            marks=check_marks(marks),
        )
        with self._database.translated():
            while True:
                with self._database.reading() as connection:
                    state, settings, resident = self._current(connection)
                    view = resident.view(connection, state) if request.mode != "text" else None
                    if view is not None or request.mode == "text":
                        return self._searcher.search(connection, state, settings, view, request)

    def context(self, question: str, max_tokens: int = 1500, **options: Any) -> Context:
        """Returns passages that answer a question, for a generator: numbered, with their sources.

        Chunks of one document that overlap or touch are joined, and no text comes twice. `str` of the result
        is the text for the prompt.

        Args:
            question: The question.
            max_tokens: The most tokens of the text, by this model's tokenizer. A generator's own tokenizer
                may count differently.
            **options: Options of `search`; `k` is by default twice the chunks that would fit.

        Raises:
            InputError: If an argument cannot be used.
        """
        from edge_embed.retrieval.context import build_context  # few need it

        budget = check_whole("max_tokens", max_tokens)
        count = counter_for(self._require_model())
        options.setdefault("k", min(100, 4 + 2 * budget // self._settings.chunk_tokens))
        return build_context(self, self.search(question, **options), budget, count)

    async def aadd(
        self, documents: Iterable[Mapping[str, Any]], *, show_progress_bar: bool | None = None
    ) -> AddResult:
        """Does what `add` does, in a thread of its own."""
        import asyncio  # slow to import, and few use it

        return await asyncio.to_thread(self.add, documents, show_progress_bar=show_progress_bar)

    async def asearch(self, query: str | None = None, k: int = 10, **options: Any) -> list[Hit]:
        """Does what `search` does, in a thread of its own."""
        import asyncio  # slow to import, and few use it

        return await asyncio.to_thread(self.search, query, k, **options)

    def compact(self) -> None:
        """Gives back the space of deleted documents: numbers the vectors anew and rewrites the file.

        It needs as much free disk space as the index takes.
        """
        with self._database.translated():
            with self._database.writing() as connection:
                writer = Writer(connection, self._settings)
                writer.renumber()
                writer.finish()
            vacuum(self._database)

    def reindex(
        self,
        model: Encoder | str | os.PathLike[str] | None = None,
        *,
        dimension: int | None = None,
        chunk_tokens: int | None = None,
        overlap: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> None:
        """Cuts and embeds all documents again, with another model, other chunks, or the same.

        In one transaction: readers see the old vectors until it is done, other writers wait, and an
        interrupted call changes nothing. Other processes that use the old model are refused afterwards.

        Args:
            model: The model; by default the index's own.
            dimension: As for `open`; by default as before, and with another model all.
            chunk_tokens: As for `open`; by default as before, and with another model what suits it.
            overlap: As `chunk_tokens`.
            show_progress_bar: As for `add`.

        Raises:
            InputError: If the model cannot be used.
            IndexFileError: If the file cannot be written.
        """
        loaded = self._require_model() if model is None else load_model(model)
        old = self._settings
        options = Options("full", dimension, old.vectors, old.lexical, chunk_tokens, overlap)
        options.check()
        if Fingerprint.of(loaded) == old.fingerprint:
            if chunk_tokens is None:
                options = replace(
                    options,
                    chunk_tokens=old.chunk_tokens,
                    overlap=old.overlap if overlap is None else overlap,
                )
            options = replace(options, dimension=dimension or old.dimension)
        settings = settings_for(loaded, options, self._database.path)
        total = len(self)
        bar = progress_bar(total, "indexing again", unit="document", show=show_progress_bar)
        with bar as advance, self._database.translated():
            Indexer(self._database, settings, loaded).reindex(settings, advance)
        with self._lock:
            self._model = loaded
            self._take(settings)

    def _record_path(self, model: Encoder) -> None:
        """Keeps the path of the model file, where it has moved since."""
        path = path_to_record(model, self._database.path)
        if path in ("", self._settings.model_path):
            return
        settings = replace(self._settings, model_path=path)
        with self._database.translated(), self._database.writing() as connection:
            settings.save(connection)
        with self._lock:
            self._settings = settings

    def _settle_lexical(self, group: Sequence[Source]) -> None:
        """Chooses the lexical tokenizer by the first documents, where that was left to us."""
        if self._settings.lexical != "auto":
            return
        with self._database.writing() as connection:
            settings = Settings.load(connection)
            if settings.lexical == "auto":
                settings = replace(settings, lexical=choose_lexical(group))
                schema.create_lexical(connection, settings.lexical)
                settings.save(connection)
                writer = Writer(connection, settings)
                writer.state = replace(writer.state, epoch=writer.state.epoch + 1)
                writer.finish()
            self._settings = settings
