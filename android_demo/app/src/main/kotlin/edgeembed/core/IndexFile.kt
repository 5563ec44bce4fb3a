package edgeembed.core

import kotlin.math.abs
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.CRC32

/** The file is not an index, is damaged, or of a newer schema. */
class IndexFileException(what: String, got: String? = null, fix: String? = null) : EdgeEmbedException(what, got, fix)

/** The index was made with another model. */
class IndexModelException(what: String, got: String? = null, fix: String? = null) : EdgeEmbedException(what, got, fix)

/**
 * What an index remembers of its making.
 *
 * @property graph SHA-256 of the model's graph.
 * @property lexical "words" or "trigrams"; "auto" before the first documents came.
 */
class IndexSettings(
    val model: String,
    val graph: String,
    val tokenizer: String,
    val dimension: Int,
    val lexical: String,
)

/** The counters that every writing transaction updates. */
internal data class IndexState(val generation: Long, val epoch: Long, val slots: Int, val chunks: Int)

/** Reads an index as edge_embed's Python `Index` writes it: the checks, the settings, the vectors. */
internal class IndexFile(private val database: IndexDatabase) {
    val settings: IndexSettings

    init {
        val application = pragma("application_id")
        if (application != APPLICATION_ID) {
            throw IndexFileException("the file is no index of edge_embed", "application id $application")
        }
        val version = pragma("user_version")
        if (version !in 1..SCHEMA_VERSION) {
            throw IndexFileException(
                "the index has another schema", "version $version", "use a newer app, or make the index again",
            )
        }
        settings = database.reading { readSettings() }
    }

    private fun pragma(name: String) = database.query("PRAGMA $name") { it.long(0) }.single()

    private fun readSettings(): IndexSettings {
        val stored = database.query("SELECT name, value FROM settings") { it.text(0)!! to it.text(1)!! }.toMap()
        fun setting(name: String) = stored[name] ?: throw IndexFileException("the setting $name of the index is damaged")
        val dimension = setting("dimension").toIntOrNull() ?: 0
        if (dimension < 1) throw IndexFileException("the dimension of the index is damaged", setting("dimension"))
        return IndexSettings(setting("model"), setting("graph"), setting("tokenizer"), dimension, setting("lexical"))
    }

    /** Reads the counters, inside the caller's transaction. */
    fun state(): IndexState = database.query("SELECT generation, epoch, next_slot, chunks FROM state") {
        IndexState(it.long(0), it.long(1), it.long(2).toInt(), it.long(3).toInt())
    }.singleOrNull() ?: throw IndexFileException("the counters of the index are damaged")

    /** Reads the sign bits and the documents of all slots, inside the caller's transaction. */
    fun signs(state: IndexState): Signs {
        val signs = Signs(state, settings.dimension)
        val width = (settings.dimension + 7) / 8
        var filled = 0
        database.query("SELECT block, checksum, data FROM signs ORDER BY block") { row ->
            val block = row.long(0)
            val data = intact("signs", block, row.bytes(2), row.long(1))
            val count = minOf(SIGN_BLOCK, state.slots - filled)
            if (block != filled.toLong() / SIGN_BLOCK || count < 1 || data.remaining() != count * (4 + width)) {
                throw damaged("signs", block, "${data.remaining()} bytes")
            }
            repeat(count) { signs.documents[filled + it] = data.getInt() }
            repeat(count) { signs.fill(filled + it, data, width) }
            filled += count
        }
        if (filled != state.slots) throw damaged("signs", filled.toLong() / SIGN_BLOCK, "no such block")
        return signs
    }

    /** Calls `use` with the scale and the int8 numbers of each of some slots, in the order of `slots`, which rise. */
    fun codes(slots: IntArray, use: (at: Int, scale: Float, codes: ByteBuffer, from: Int) -> Unit) {
        val size = maxOf(1, ROOM / (settings.dimension + 4))
        var at = 0
        val wanted = slots.map { it / size }.distinct()
        database.query(
            "SELECT block, checksum, data FROM codes WHERE block IN (SELECT value FROM json_each(?)) ORDER BY block",
            listOf(Json.write(wanted)),
        ) { row ->
            val block = row.long(0)
            val data = intact("codes", block, row.bytes(2), row.long(1))
            val count = data.remaining() / (4 + settings.dimension)
            if (count * (4 + settings.dimension) != data.remaining() || count > size) {
                throw damaged("codes", block, "${data.remaining()} bytes")
            }
            while (at < slots.size && slots[at] / size == block.toInt()) {
                val place = slots[at] % size
                if (place >= count) throw damaged("codes", block, "$count vectors")
                use(at, data.getFloat(4 * place), data, 4 * count + place * settings.dimension)
                at++
            }
        }
        if (at < slots.size) throw damaged("codes", (slots[at] / size).toLong(), "no such block")
    }

    private fun intact(table: String, block: Long, data: ByteArray, expected: Long): ByteBuffer {
        val sum = CRC32().apply { update(data) }.value
        if (sum != expected) throw damaged(table, block, "checksum $sum, stored is $expected")
        return ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)
    }

    private fun damaged(table: String, block: Long, got: String) = IndexFileException(
        "the vectors of the index are damaged: block $block of $table", got, "copy the index to the device again",
    )

    private companion object {
        const val APPLICATION_ID = 0x45644531L
        const val SCHEMA_VERSION = 1L
        const val SIGN_BLOCK = 256

        /** Bytes of a block of int8 vectors; Python's `store/vectors.py` derives it from the page size. */
        const val ROOM = 4096 - 35 - 24
    }
}

/** The sign bits of all slots, one bit a dimension, and the document of each slot, 0 where it was deleted. */
internal class Signs(val state: IndexState, val dimension: Int) {
    private val words = (dimension + 63) / 64
    private val bits = LongArray(state.slots * words)
    val documents = IntArray(state.slots)
    val slots get() = state.slots

    /** Takes the bits of a slot out of a block, whose place moves on by `width` bytes. */
    fun fill(slot: Int, block: ByteBuffer, width: Int) {
        for (byte in 0 until width) {
            val value = (block.get().toLong() and 0xFF) shl (8 * (byte % 8))
            val at = slot * words + byte / 8
            bits[at] = bits[at] or value
        }
    }

    /** Returns in how many sign bits a slot differs from packed bits. */
    fun distance(slot: Int, packed: LongArray): Int {
        var total = 0
        for (word in 0 until words) total += java.lang.Long.bitCount(bits[slot * words + word] xor packed[word])
        return total
    }

    /** Returns the sum of the query's numbers where the bits of a slot are set, from their [bitsOf]. */
    fun sum(slot: Int, query: Array<LongArray>): Int {
        var total = 0
        for (bit in query.indices) {
            var met = 0
            for (word in 0 until words) met += java.lang.Long.bitCount(bits[slot * words + word] and query[bit][word])
            total += met * BIT_VALUES[bit]
        }
        return total
    }

    /**
     * Returns the bits of a query's numbers, each bit of all of them together. The numbers are whole ones up to
     * [GREATEST_NUMBER], so that sums are the same in any order and on any machine.
     */
    fun bitsOf(query: FloatArray): Array<LongArray> {
        val greatest = maxOf((0 until dimension).maxOf { abs(query[it]) }, 1e-30f)
        val factor = (GREATEST_NUMBER / greatest.toDouble()).toFloat()
        val found = Array(BIT_VALUES.size) { LongArray(words) }
        for (i in 0 until dimension) {
            val number = Math.rint((query[i] * factor).toDouble()).toInt()
            for (bit in found.indices) {
                if (number shr bit and 1 != 0) found[bit][i / 64] = found[bit][i / 64] or (1L shl (i % 64))
            }
        }
        return found
    }

    /** Returns the packed sign bits of a vector. */
    fun pack(vector: FloatArray): LongArray {
        val packed = LongArray(words)
        for (i in 0 until dimension) if (vector[i] > 0) packed[i / 64] = packed[i / 64] or (1L shl (i % 64))
        return packed
    }

    private companion object {
        /** What the bits of a query's numbers are worth, the lowest first. */
        val BIT_VALUES = intArrayOf(1, 2, 4, 8, -16)

        /** The greatest of a query's whole numbers: all bits but the sign. */
        val GREATEST_NUMBER = BIT_VALUES.dropLast(1).sum().toDouble()
    }
}
