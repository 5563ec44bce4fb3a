package edgeembed.core

import java.text.Normalizer

/** The words of a question and of a text, as Python's `retrieval/search/lexical.py` sees them. */
internal object IndexWords {
    private const val MOST_TERMS = 64
    private const val LEAST_ROWS = 3000
    private const val ROWS_SHARE = 0.01
    private const val COMMON_SHARE = 0.4
    private const val MOST_CHARACTERS = 10_000
    private const val TRIGRAMS = "trigrams"
    private val WORD = Regex("[\\p{L}\\p{N}]+")
    private val LATIN_MARKS = Regex("([a-z])[\u0300-\u036f]+")

    /** Returns the distinct terms of a query as they are written there: words, or runs of three characters. */
    fun terms(query: String, lexical: String): List<String> {
        val points = query.codePoints().toArray()
        val text = String(points, 0, minOf(points.size, MOST_CHARACTERS)).replace('\u0000', ' ')
        // Composed, so that no mark stands alone and parts a word.
        var words = WORD.findAll(Normalizer.normalize(text, Normalizer.Form.NFC)).map { it.value }.toList()
        if (lexical == TRIGRAMS) words = words.flatMap(::trigrams)
        val byKey = LinkedHashMap<String, String>()
        for (word in words.asReversed()) byKey[key(word, lexical)] = word
        return byKey.values.reversed()
    }

    private fun trigrams(word: String): List<String> {
        val points = word.codePoints().toArray()
        return (0..points.size - 3).map { String(points, it, 3) }
    }

    /** Returns a term as the full-text table spells it. */
    private fun key(term: String, lexical: String) = if (lexical == TRIGRAMS) lowercase(term) else fold(term)

    /** Returns a word in lower case and without the diacritics of Latin letters, as unicode61 indexes it. */
    fun fold(word: String): String {
        val bare = LATIN_MARKS.replace(Normalizer.normalize(lowercase(word), Normalizer.Form.NFD), "$1")
        return Normalizer.normalize(bare, Normalizer.Form.NFC)
    }

    /** Returns the terms that are worth their cost, rarest first; at least one if there is one. */
    fun choose(database: IndexDatabase, terms: List<String>, lexical: String, chunks: Int): List<String> {
        val keys = terms.associateWith { key(it, lexical) }
        val counts = database.query(
            "SELECT term, chunks FROM frequent WHERE term IN (SELECT value FROM json_each(?))",
            listOf(Json.write(keys.values.toList())),
        ) { it.text(0)!! to it.long(1) }.toMap()
        val asked = if (lexical == TRIGRAMS) terms else
            terms.filter { keys[it] !in FunctionWords.ALL }.ifEmpty { terms }
        val chosen = ArrayList<String>()
        val most = maxOf(LEAST_ROWS.toDouble(), chunks * ROWS_SHARE)
        var rows = 0L
        for (term in asked.sortedBy { counts[keys[it]] ?: 0 }.take(MOST_TERMS)) {
            val count = counts[keys[term]] ?: 0
            rows += count
            if (chosen.isNotEmpty() && (rows > most || count > COMMON_SHARE * chunks)) break
            chosen += term
        }
        return chosen
    }

    /** Returns an FTS5 query that asks for any of the terms, each quoted. */
    fun expression(terms: List<String>) = terms.joinToString(" OR ") { "\"${it.replace("\"", "\"\"")}\"" }

    /** Returns the stretch of a text with the most of the terms, with marks around them. */
    fun snippet(text: String, terms: List<String>, lexical: String, length: Int, marks: Pair<String, String>): String {
        val points = text.codePoints().toArray()
        val spans = spans(points, terms.map { key(it, lexical) }.toSet(), lexical)
        var start = bestStart(spans, length)
        var end = minOf(points.size, start + length)
        if (start > 0) indexOf(points, start, minOf(points.size, start + SEARCHED))?.let { start = it + 1 }
        if (end < points.size) lastIndexOf(points, maxOf(start, end - SEARCHED), end)?.let { if (it > start) end = it }
        val out = StringBuilder()
        var at = start
        for ((first, last) in merged(spans)) {
            if (start <= first && last <= end) {
                out.append(String(points, at, first - at)).append(marks.first)
                out.append(String(points, first, last - first)).append(marks.second)
                at = last
            }
        }
        out.append(String(points, at, end - at))
        val body = words(out.toString())
        return (if (start > 0) "…" else "") + body + (if (end < points.size) "…" else "")
    }

    private class Span(val start: Int, val end: Int, val term: String)

    /** Returns where the terms are; with trigrams inside words too. */
    private fun spans(points: IntArray, keys: Set<String>, lexical: String): List<Span> {
        val letters = HashMap<Int, IntArray>()
        val folded = ArrayList<Int>()
        val places = ArrayList<Int>()
        points.forEachIndexed { place, point ->
            val part = letters.getOrPut(point) { key(String(Character.toChars(point)), lexical).codePoints().toArray() }
            for (letter in part) {
                folded += letter
                places += place
            }
        }
        places += points.size
        val found = ArrayList<Span>()
        for (term in keys) {
            val wanted = term.codePoints().toArray()
            for (at in 0..folded.size - wanted.size) {
                if (wanted.indices.any { folded[at + it] != wanted[it] }) continue
                val end = at + wanted.size
                val inside = isWordPart(folded.getOrElse(at - 1) { 0 }) || isWordPart(folded.getOrElse(end) { 0 })
                if (lexical == TRIGRAMS || !inside) found += Span(places[at], places[end], term)
            }
        }
        return found.sortedWith(compareBy({ it.start }, { it.end }, { it.term }))
    }

    private fun isWordPart(point: Int) = Character.isLetter(point) || when (Character.getType(point).toByte()) {
        Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true
        else -> false
    }

    private fun bestStart(spans: List<Span>, length: Int): Int {
        if (spans.isEmpty() || spans.last().end <= length) return 0
        var best = 0
        var most = 0
        for ((index, span) in spans.withIndex()) {
            val inside = spans.drop(index).takeWhile { it.start <= span.start + length }
            val different = inside.filter { it.end <= span.start + length }.map { it.term }.distinct().size
            if (different > most) {
                best = span.start
                most = different
            }
        }
        return maxOf(0, best - length / 4)
    }

    private fun merged(spans: List<Span>): List<Pair<Int, Int>> {
        val merged = ArrayList<Pair<Int, Int>>()
        for (span in spans) {
            val last = merged.lastOrNull()
            if (last != null && span.start < last.second) {
                merged[merged.size - 1] = last.first to maxOf(span.end, last.second)
            } else {
                merged += span.start to span.end
            }
        }
        return merged
    }

    private fun indexOf(points: IntArray, from: Int, to: Int) = (from until to).firstOrNull { points[it] == 0x20 }

    private fun lastIndexOf(points: IntArray, from: Int, to: Int) = (to - 1 downTo from).firstOrNull { points[it] == 0x20 }

    /** Returns a text with single spaces, as Python's `\s` sees them. */
    private fun words(text: String): String {
        val out = StringBuilder()
        for (c in text) {
            val space = isSpace(c.code) || c in '\u001C'..'\u001F'
            if (!space) out.append(c) else if (out.isNotEmpty() && out.last() != ' ') out.append(' ')
        }
        return out.toString().trim(' ')
    }

    private const val SEARCHED = 24
}
