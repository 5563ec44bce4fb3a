package edgeembed.core

import java.io.ByteArrayOutputStream
import java.util.regex.Pattern

/**
 * XLM-R's kind of tokenizer: a SentencePiece Unigram read as the `tokenizers` library reads it. It normalizes by
 * grapheme clusters, splits at whitespace, and segments each word with scores in double precision, where sums
 * are exact; the first segmentation found wins among equals. `edge_embed/text/unigram.py` says the same.
 */
class Unigram(data: ByteArray) : Tokenizer {
    private val model = SentencePieceModel(data)
    private val map = CharacterMap(model.charsMap)
    private val special = model.reservedPieces().sortedByDescending { it.first.length }

    override fun encode(text: String): IntArray {
        val ids = IntList()
        cut(text, ids::add) { part -> words(normalize(part)) { word(it, ids) } }
        return ids.toArray()
    }

    /** Adds the ids of spelled special tokens, and visits the text between them. */
    private fun cut(text: String, add: (Int) -> Unit, visit: (String) -> Unit) {
        var done = 0
        var at = 0
        while (at < text.length) {
            val found = special.firstOrNull { text.startsWith(it.first, at) }
            if (found == null) {
                at++
                continue
            }
            if (at > done) visit(text.substring(done, at))
            add(found.second)
            at += found.first.length
            done = at
        }
        if (done < text.length) visit(text.substring(done))
    }

    /** Replaces clusters shorter than six bytes as a whole, by their shortest rule, and others by character. */
    private fun normalize(text: String): String {
        val out = ByteArrayOutputStream(text.length + 8)
        val clusters = CLUSTER.matcher(text)
        while (clusters.find()) {
            val cluster = clusters.group()
            val bytes = cluster.toByteArray()
            val whole = if (bytes.size < LONG_CLUSTER) map.shortest(bytes) else null
            if (whole != null) {
                out.write(whole)
                continue
            }
            var at = 0
            while (at < bytes.size) {
                val character = bytes.copyOfRange(at, at + characterLength(bytes, at))
                out.write(map.shortest(character) ?: character)
                at += character.size
            }
        }
        return String(out.toByteArray())
    }

    private fun words(text: String, visit: (String) -> Unit) {
        var start = 0
        for (i in 0..text.length) {
            if (i < text.length && !isSpace(text[i].code)) continue
            if (i > start) visit(text.substring(start, i).let { if (it.startsWith(MARK)) it else MARK + it })
            start = i + 1
        }
    }

    /** Normalization may spell a special token, whose score outweighs all others'. */
    private fun word(word: String, ids: IntList) {
        val own = IntList()
        cut(word, { add(it, own) }) { segment(it.toByteArray(), own) }
        own.toArray().forEach(ids::add)
    }

    private fun segment(bytes: ByteArray, ids: IntList) {
        val score = DoubleArray(bytes.size + 1)
        val from = IntArray(bytes.size + 1) { -1 }
        val piece = IntArray(bytes.size + 1)
        var at = 0
        while (at < bytes.size) {
            val character = characterLength(bytes, at)
            var single = false
            fun reach(end: Int, candidate: Double, id: Int) {
                if (from[end] == -1 || candidate > score[end]) {
                    score[end] = candidate
                    from[end] = at
                    piece[end] = id
                }
            }
            model.pieces.prefixes(bytes, at) { id, length ->
                reach(at + length, score[at] + model.scores[id], id)
                if (length == character) single = true
            }
            if (!single) reach(at + character, score[at] + (model.least.toDouble() - UNKNOWN_PENALTY), model.unknown)
            at += character
        }
        val found = ArrayList<Int>()
        var end = bytes.size
        while (end > 0) {
            found.add(piece[end])
            end = from[end]
        }
        for (id in found.asReversed()) add(id, ids)
    }

    /** Adds an id; a run of unknown pieces is one. */
    private fun add(id: Int, ids: IntList) {
        if (id != model.unknown || ids.size == 0 || ids[ids.size - 1] != id) ids.add(id)
    }

    private companion object {
        const val MARK = "\u2581"
        const val LONG_CLUSTER = 6
        const val UNKNOWN_PENALTY = 10.0
        val CLUSTER: Pattern = Pattern.compile("\\X")
    }
}
