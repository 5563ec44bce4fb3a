package edgeembed.core

import java.io.ByteArrayOutputStream
import java.util.PriorityQueue

/**
 * SentencePiece: BPE with byte fallback, and Unigram. The fields are those of sentencepiece_model.proto; the
 * choices between equal scores are the C++ library's, so that the ids are.
 */
class SentencePiece(data: ByteArray) : Tokenizer {
    private val model = SentencePieceModel(data)
    private val normalizer = SentencePieceNormalizer(model)
    private val special = model.specialPieces()

    override fun encode(text: String): IntArray {
        val ids = IntList()
        // The library never makes its control pieces from text; transformers does where it spells them.
        var done = 0
        var at = 0
        while (at < text.length) {
            val found = special.firstOrNull { text.startsWith(it.first, at) }
            if (found == null) {
                at++
            } else {
                encodePart(text.substring(done, at), ids)
                ids.add(found.second)
                at += found.first.length
                done = at
            }
        }
        encodePart(text.substring(done), ids)
        return ids.toArray()
    }

    private fun encodePart(part: String, ids: IntList) {
        val bytes = normalizer.normalize(part.toByteArray())
        if (bytes.isEmpty()) return
        var unknownBefore = false
        val emit = { start: Int, end: Int, id: Int ->
            val unknown = id == model.unknown
            when {
                !unknown -> ids.add(id)
                model.byteFallback -> for (i in start until end) ids.add(model.byteIds[bytes[i].toInt() and 0xFF])
                !unknownBefore -> ids.add(id) // a run of unknown pieces is one
            }
            unknownBefore = unknown
        }
        if (model.isBpe) mergePairs(bytes, emit) else bestPath(bytes, emit)
    }

    private class Pair(val left: Int, val right: Int, val score: Float, val size: Int)

    /** Joins neighbours in the order of the scores of what they make, the leftmost first among equals. */
    private fun mergePairs(bytes: ByteArray, emit: (Int, Int, Int) -> Unit) {
        val starts = IntList()
        val fixed = HashSet<Int>()
        var at = 0
        while (at < bytes.size) {
            val length = model.userDefinedAt(bytes, at)
            if (length > 0) fixed.add(starts.size)
            starts.add(at)
            at += if (length > 0) length else characterLength(bytes, at)
        }
        val count = starts.size
        val start = starts.toArray()
        val size = IntArray(count) { (if (it + 1 < count) start[it + 1] else bytes.size) - start[it] }
        val previous = IntArray(count) { it - 1 }
        val next = IntArray(count) { if (it + 1 < count) it + 1 else -1 }
        val splits = HashMap<Int, Int>() // by unused piece: how many bytes its left part has
        val agenda = PriorityQueue<Pair> { a, b ->
            if (a.score != b.score) b.score.compareTo(a.score) else a.left.compareTo(b.left)
        }
        fun offer(left: Int, right: Int) {
            if (left < 0 || right < 0 || left in fixed || right in fixed) return
            val both = size[left] + size[right]
            val id = model.pieces.find(bytes, start[left], both)
            if (id < 0) return
            agenda.add(Pair(left, right, model.scores[id], both))
            if (model.types[id] == SentencePieceModel.UNUSED) splits[id] = size[left]
        }
        for (i in 1 until count) offer(i - 1, i)
        while (true) {
            val top = agenda.poll() ?: break
            // One of the two has been joined with another neighbour since.
            if (size[top.left] == 0 || size[top.right] == 0 || size[top.left] + size[top.right] != top.size) continue
            size[top.left] = top.size
            size[top.right] = 0
            next[top.left] = next[top.right]
            if (next[top.right] >= 0) previous[next[top.right]] = top.left
            offer(previous[top.left], top.left)
            offer(top.left, next[top.left])
        }
        fun resegment(from: Int, length: Int) {
            val id = model.idOf(bytes, from, length)
            val left = if (model.types[id] == SentencePieceModel.UNUSED) splits[id] else null
            if (left == null) return emit(from, from + length, id)
            resegment(from, left)
            resegment(from + left, length - left)
        }
        var i = 0
        while (i >= 0) {
            resegment(start[i], size[i])
            i = next[i]
        }
    }

    /** Finds the segmentation with the greatest sum of scores, the earlier found among equals. */
    private fun bestPath(bytes: ByteArray, emit: (Int, Int, Int) -> Unit) {
        val score = FloatArray(bytes.size + 1)
        val from = IntArray(bytes.size + 1) { -1 }
        val piece = IntArray(bytes.size + 1)
        var at = 0
        while (at < bytes.size) {
            val here = score[at]
            val character = characterLength(bytes, at)
            var single = false
            fun reach(end: Int, candidate: Float, id: Int) {
                if (from[end] == -1 || candidate > score[end]) {
                    score[end] = candidate
                    from[end] = at
                    piece[end] = id
                }
            }
            model.pieces.prefixes(bytes, at) { id, length ->
                if (model.types[id] != SentencePieceModel.UNUSED) {
                    // A user-defined piece outweighs whatever else covers the same characters.
                    val own = if (model.types[id] == SentencePieceModel.USER_DEFINED) {
                        length * model.greatest - 0.1f
                    } else {
                        model.scores[id]
                    }
                    reach(at + length, own + here, id)
                    if (length == character) single = true
                }
            }
            if (!single) reach(at + character, model.least - UNKNOWN_PENALTY + here, model.unknown)
            at += character
        }
        val ends = IntList()
        var end = bytes.size
        while (end > 0) {
            ends.add(end)
            end = from[end]
        }
        for (i in ends.size - 1 downTo 0) emit(from[ends[i]], ends[i], piece[ends[i]])
    }

    private companion object {
        const val UNKNOWN_PENALTY = 10f
    }
}

/** SentencePiece's normalizer: its map of characters, and what it does to spaces. */
internal class SentencePieceNormalizer(private val model: SentencePieceModel) {
    private val map = CharacterMap(model.charsMap)

    fun normalize(input: ByteArray): ByteArray {
        val out = ByteArrayOutputStream(input.size + 8)
        var at = 0
        val space = if (model.escapeSpaces) MARK else SPACE
        if (model.removeExtraSpaces) {
            while (at < input.size) {
                val (text, length) = prefix(input, at)
                if (!text.contentEquals(SPACE)) break
                at += length
            }
        }
        if (at >= input.size) return ByteArray(0)
        if (model.dummyPrefix && !model.spaceAfter) out.write(space)
        var afterSpace = model.removeExtraSpaces
        while (at < input.size) {
            val (text, length) = prefix(input, at)
            var from = 0
            while (afterSpace && from < text.size && text[from] == ' '.code.toByte()) from++
            for (i in from until text.size) {
                if (text[i] == ' '.code.toByte()) out.write(space) else out.write(text[i].toInt())
            }
            if (from < text.size) afterSpace = text.last() == ' '.code.toByte()
            if (!model.removeExtraSpaces) afterSpace = false
            at += length
        }
        var bytes = out.toByteArray()
        while (model.removeExtraSpaces && endsWith(bytes, space)) bytes = bytes.copyOf(bytes.size - space.size)
        return if (model.dummyPrefix && model.spaceAfter) bytes + space else bytes
    }

    /** Returns what the text at `at` becomes, and how many bytes of it that replaces. */
    private fun prefix(input: ByteArray, at: Int): kotlin.Pair<ByteArray, Int> {
        val fixed = model.userDefinedAt(input, at)
        if (fixed > 0) return input.copyOfRange(at, at + fixed) to fixed
        return map.longest(input, at) ?: characterLength(input, at).let { input.copyOfRange(at, at + it) to it }
    }

    private fun endsWith(bytes: ByteArray, end: ByteArray) =
        bytes.size >= end.size && end.indices.all { bytes[bytes.size - end.size + it] == end[it] }

    private companion object {
        val SPACE = byteArrayOf(' '.code.toByte())
        val MARK = "\u2581".toByteArray()
    }
}
