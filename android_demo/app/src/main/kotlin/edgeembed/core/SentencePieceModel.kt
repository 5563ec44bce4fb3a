package edgeembed.core

import java.nio.BufferUnderflowException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The parts of a SentencePiece model that encoding needs, parsed from the protobuf by hand. */
internal class SentencePieceModel(data: ByteArray) {
    private val texts = ArrayList<ByteArray>()
    private val names = HashMap<Int, String>()
    private val scoreList = ArrayList<Float>()
    private val typeList = IntList()
    var isBpe = false
        private set
    var byteFallback = false
        private set
    var spaceAfter = false
        private set
    var charsMap = ByteArray(0)
        private set
    var dummyPrefix = true
        private set
    var removeExtraSpaces = true
        private set
    var escapeSpaces = true
        private set

    init {
        var kind = UNIGRAM
        try {
            fields(data) { field, number, bytes ->
                when (field) {
                    1 -> parsePiece(bytes)
                    2 -> fields(bytes) { inner, value, text ->
                        when (inner) {
                            3 -> kind = value.toInt()
                            24 -> spaceAfter = value != 0L
                            35 -> byteFallback = value != 0L
                            in UNKNOWN_NAME..PAD_NAME -> names[inner] = String(text)
                        }
                    }
                    3 -> fields(bytes) { inner, value, map ->
                        when (inner) {
                            2 -> charsMap = map
                            3 -> dummyPrefix = value != 0L
                            4 -> removeExtraSpaces = value != 0L
                            5 -> escapeSpaces = value != 0L
                        }
                    }
                }
            }
        } catch (error: BufferUnderflowException) {
            throw unreadable("it was cut")
        } catch (error: IllegalArgumentException) {
            throw unreadable("a damaged field")
        }
        if (kind != UNIGRAM && kind != BPE) throw unreadable("model type $kind; this runtime has BPE and Unigram")
        isBpe = kind == BPE
    }

    val scores = scoreList.toFloatArray()
    val types = typeList.toArray()
    val unknown = types.indexOf(UNKNOWN)

    /** What text can be made of: normal, user-defined and unused pieces. */
    val pieces = PieceTable(texts) { types[it] == NORMAL || types[it] == USER_DEFINED || types[it] == UNUSED }
    private val reserved = PieceTable(texts) { types[it] == UNKNOWN || types[it] == CONTROL || types[it] == BYTE }
    private val userDefined = PieceTable(texts) { types[it] == USER_DEFINED }
    val byteIds = IntArray(256) { find(reserved, "<0x%02X>".format(it)) }
    val least = normal().minOrNull() ?: Float.MAX_VALUE
    val greatest = maxOf(normal().maxOrNull() ?: 0f, java.lang.Float.MIN_NORMAL)

    init {
        if (types.count { it == UNKNOWN } != 1) throw unreadable("not exactly one unknown piece")
        if (texts.any { it.isEmpty() }) throw unreadable("an empty piece")
        if (byteFallback && byteIds.any { it < 0 || types[it] != BYTE }) throw unreadable("not all 256 bytes")
        if (!byteFallback && types.any { it == BYTE }) throw unreadable("bytes without byte fallback")
    }

    /** Returns the id of a piece, that of the unknown one if there is none. */
    fun idOf(bytes: ByteArray, start: Int, length: Int): Int {
        val id = reserved.find(bytes, start, length)
        if (id >= 0) return id
        return pieces.find(bytes, start, length).takeIf { it >= 0 } ?: unknown
    }

    /** Returns the length of the longest user-defined piece that begins at `start`, 0 if none does. */
    fun userDefinedAt(bytes: ByteArray, start: Int): Int {
        var longest = 0
        userDefined.prefixes(bytes, start) { _, length -> longest = length }
        return longest
    }

    /** Returns the pieces that stand for no text, with their ids in ascending order. */
    fun specialPieces(): List<kotlin.Pair<String, Int>> = NAMES.mapNotNull { (field, default) ->
        val name = names[field]?.ifEmpty { null } ?: default
        val wanted = if (field == UNKNOWN_NAME) UNKNOWN else CONTROL
        val id = find(reserved, name)
        if (id >= 0 && types[id] == wanted) name to id else null
    }.distinct().sortedBy { it.second }

    /** Returns every control piece and the unknown one, with their ids. */
    fun reservedPieces(): List<kotlin.Pair<String, Int>> =
        texts.indices.filter { types[it] == CONTROL || types[it] == UNKNOWN }.map { String(texts[it]) to it }

    private fun normal() = scores.filterIndexed { i, _ -> types[i] == NORMAL }

    private fun find(table: PieceTable, text: String): Int = text.toByteArray().let { table.find(it, 0, it.size) }

    private fun parsePiece(data: ByteArray) {
        var text = ByteArray(0)
        var score = 0f
        var type = NORMAL
        fields(data) { field, value, bytes ->
            when (field) {
                1 -> text = bytes
                2 -> score = java.lang.Float.intBitsToFloat(value.toInt())
                3 -> type = value.toInt()
            }
        }
        texts.add(text)
        scoreList.add(score)
        typeList.add(type)
    }

    private fun fields(data: ByteArray, visit: (field: Int, value: Long, bytes: ByteArray) -> Unit) {
        val input = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)
        while (input.hasRemaining()) {
            val key = varint(input)
            val field = (key ushr 3).toInt()
            when ((key and 7).toInt()) {
                0 -> visit(field, varint(input), NO_BYTES)
                1 -> visit(field, input.getLong(), NO_BYTES)
                2 -> {
                    val length = varint(input)
                    if (length !in 0..input.remaining()) throw BufferUnderflowException()
                    visit(field, 0, ByteArray(length.toInt()).also { input.get(it) })
                }
                5 -> visit(field, input.getInt().toLong(), NO_BYTES)
                else -> throw IllegalArgumentException()
            }
        }
    }

    private fun varint(input: ByteBuffer): Long {
        var value = 0L
        for (shift in 0 until 70 step 7) {
            val byte = input.get().toLong()
            value = value or ((byte and 0x7F) shl shift)
            if (byte >= 0) return value
        }
        throw IllegalArgumentException()
    }

    companion object {
        const val NORMAL = 1
        const val UNKNOWN = 2
        const val CONTROL = 3
        const val USER_DEFINED = 4
        const val UNUSED = 5
        const val BYTE = 6
        private const val UNIGRAM = 1
        private const val BPE = 2
        private const val UNKNOWN_NAME = 45
        private const val PAD_NAME = 48
        private val NAMES = listOf(UNKNOWN_NAME to "<unk>", 46 to "<s>", 47 to "</s>", PAD_NAME to "<pad>")
        private val NO_BYTES = ByteArray(0)

        fun unreadable(got: String) =
            TokenizerException("the SentencePiece model cannot be read", got, "convert the model again")
    }
}

/** A hash table from pieces to ids that is looked up by a slice of text, without making a string of it. */
internal class PieceTable(private val texts: List<ByteArray>, chosen: (Int) -> Boolean) {
    private val slots: IntArray
    private var longest = 0

    init {
        val ids = texts.indices.filter(chosen)
        var size = 16
        while (size < ids.size * 2) size *= 2
        slots = IntArray(size) { -1 }
        for (id in ids) {
            val text = texts[id]
            longest = maxOf(longest, text.size)
            var slot = slot(hash(text, 0, text.size))
            while (slots[slot] >= 0) {
                if (texts[slots[slot]].contentEquals(text)) throw SentencePieceModel.unreadable("a piece that is there twice")
                slot = (slot + 1) and (slots.size - 1)
            }
            slots[slot] = id
        }
    }

    /** Returns the id of the piece `bytes[start, start + length)`, -1 if there is none. */
    fun find(bytes: ByteArray, start: Int, length: Int): Int =
        if (length > longest) -1 else lookup(hash(bytes, start, length), bytes, start, length)

    /** Visits every piece that begins at `start`, the shortest first. */
    fun prefixes(bytes: ByteArray, start: Int, visit: (id: Int, length: Int) -> Unit) {
        var hash = SEED
        for (length in 1..minOf(longest, bytes.size - start)) {
            hash = (hash xor bytes[start + length - 1].toInt()) * PRIME
            val id = lookup(hash, bytes, start, length)
            if (id >= 0) visit(id, length)
        }
    }

    private fun lookup(hash: Int, bytes: ByteArray, start: Int, length: Int): Int {
        var slot = slot(hash)
        while (slots[slot] >= 0) {
            val text = texts[slots[slot]]
            if (text.size == length && text.indices.all { text[it] == bytes[start + it] }) return slots[slot]
            slot = (slot + 1) and (slots.size - 1)
        }
        return -1
    }

    private fun hash(bytes: ByteArray, start: Int, length: Int): Int {
        var hash = SEED
        for (i in start until start + length) hash = (hash xor bytes[i].toInt()) * PRIME
        return hash
    }

    private fun slot(hash: Int) = (hash xor (hash ushr 15)) and (slots.size - 1)

    private companion object {
        const val SEED = -2128831035 // FNV-1a
        const val PRIME = 16777619
    }
}

/** Returns how many bytes the character at `at` takes in UTF-8. */
internal fun characterLength(bytes: ByteArray, at: Int): Int {
    val first = bytes[at].toInt() and 0xFF
    val length = if (first < 0xC0) 1 else if (first < 0xE0) 2 else if (first < 0xF0) 3 else 4
    return minOf(length, bytes.size - at)
}

/** A growing list of ints, without a box for each. */
internal class IntList {
    private var items = IntArray(16)
    var size = 0
        private set

    operator fun get(index: Int): Int = items[index]

    fun add(item: Int) {
        if (size == items.size) items = items.copyOf(size * 2)
        items[size++] = item
    }

    fun toArray(): IntArray = items.copyOf(size)
}
