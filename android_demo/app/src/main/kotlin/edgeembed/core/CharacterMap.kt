package edgeembed.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * SentencePiece's precompiled map of characters: a double-array trie (Aoe 1989, in the packing of Darts-clone)
 * of what is replaced, then the replacements, each ended by a zero byte.
 */
internal class CharacterMap(data: ByteArray) {
    private val units: IntArray
    private val replacements: ByteArray

    init {
        val map = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)
        if (data.isEmpty()) {
            units = IntArray(0)
            replacements = ByteArray(0)
        } else {
            val size = if (map.remaining() >= 4) map.getInt() else -1
            if (size !in 4..map.remaining() || size % 4 != 0) throw SentencePieceModel.unreadable("a damaged map of characters")
            units = IntArray(size / 4) { map.getInt() }
            replacements = ByteArray(map.remaining()).also { map.get(it) }
        }
    }

    /** Returns the replacement of the longest match at `at` and how many bytes it replaces, null without one. */
    fun longest(input: ByteArray, at: Int): Pair<ByteArray, Int>? {
        var found: Pair<Int, Int>? = null
        matches(input, at) { length, value ->
            found = value to length
            true
        }
        return found?.let { (value, length) -> replacement(value) to length }
    }

    /** Returns the replacement of the shortest match at the beginning, null without one. */
    fun shortest(input: ByteArray): ByteArray? {
        if (input.isEmpty() || input[0] == 0.toByte()) return null
        var found: Int? = null
        matches(input, 0) { _, value ->
            found = value
            false
        }
        return found?.let(::replacement)
    }

    /** Visits the matches at `at`, the shortest first, as long as `visit` returns true. */
    private fun matches(input: ByteArray, at: Int, visit: (length: Int, value: Int) -> Boolean) {
        if (units.isEmpty()) return
        var node = offset(units[0])
        for (i in at until input.size) {
            val byte = input[i].toInt() and 0xFF
            node = node xor byte
            if (node !in units.indices) return
            val unit = units[node]
            if (unit and LABEL != byte) return
            node = node xor offset(unit)
            val ends = unit ushr 8 and 1 == 1 && node in units.indices
            if (ends && !visit(i - at + 1, units[node] and Int.MAX_VALUE)) return
        }
    }

    private fun replacement(value: Int): ByteArray {
        val start = minOf(value, replacements.size) // a damaged map may point anywhere
        var end = start
        while (end < replacements.size && replacements[end] != 0.toByte()) end++
        return replacements.copyOfRange(start, end)
    }

    private fun offset(unit: Int) = (unit ushr 10) shl ((unit and (1 shl 9)) ushr 6)

    private companion object {
        const val LABEL = Int.MIN_VALUE or 0xFF
    }
}
