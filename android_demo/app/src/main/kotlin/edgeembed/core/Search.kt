package edgeembed.core

import java.util.PriorityQueue
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.roundToInt
import kotlin.math.sqrt

/** A found row and how similar it is; greater is more similar, whatever the measure. */
data class Hit(val row: Int, val score: Float)

/** The four measures of sentence-transformers. */
enum class Similarity {
    COSINE, DOT, EUCLIDEAN, MANHATTAN;

    /** Compares a query with a row of numbers. */
    internal fun score(query: FloatArray, row: FloatArray): Float {
        var product = 0f
        var length = 0f
        var squares = 0f
        var steps = 0f
        for (i in query.indices) {
            product += query[i] * row[i]
            length += row[i] * row[i]
            val step = query[i] - row[i]
            squares += step * step
            steps += abs(step)
        }
        return when (this) {
            COSINE -> product / max(sqrt(length) * norm(query).toFloat(), 1e-12f)
            DOT -> product
            EUCLIDEAN -> -sqrt(squares)
            MANHATTAN -> -steps
        }
    }

    companion object {
        /** Returns the measure of a manifest. */
        fun of(name: String): Similarity = entries.firstOrNull { it.name.lowercase() == name }
            ?: throw InputException("unknown similarity", name)
    }
}

/**
 * Vectors in order of arrival, compared one by one: exact, and on a phone fast enough for tens of thousands.
 *
 * @param quantized Keeps one byte per number and one scale per vector (its greatest magnitude over 127), a
 *   quarter of the memory. The query stays as it is, so only the rows' rounding is lost.
 */
class VectorIndex(private val dimension: Int, private val similarity: Similarity, private val quantized: Boolean) {
    private var floats = FloatArray(0)
    private var codes = ByteArray(0)
    private var scales = FloatArray(0)
    var size = 0
        private set

    /** Appends a vector; its row is the size before. */
    fun add(vector: FloatArray) {
        requireDimension(vector)
        if (size == capacity()) grow(max(64, size * 2))
        if (quantized) {
            val scale = vector.maxOf { abs(it) } / CODES
            scales[size] = scale
            for (i in 0 until dimension) {
                codes[size * dimension + i] = if (scale > 0) (vector[i] / scale).roundToInt().toByte() else 0
            }
        } else {
            vector.copyInto(floats, size * dimension)
        }
        size++
    }

    /** Returns the `count` most similar rows, the best first and the earlier among equals. */
    fun search(query: FloatArray, count: Int): List<Hit> {
        requireDimension(query)
        val worstFirst = compareBy<Hit> { it.score }.thenByDescending { it.row }
        val best = PriorityQueue(maxOf(count, 1), worstFirst)
        val row = FloatArray(dimension)
        for (i in 0 until size) {
            load(i, row)
            best.add(Hit(i, similarity.score(query, row)))
            if (best.size > count) best.poll()
        }
        return best.sortedWith(worstFirst.reversed())
    }

    private fun load(index: Int, row: FloatArray) {
        val from = index * dimension
        if (quantized) {
            for (i in 0 until dimension) row[i] = codes[from + i] * scales[index]
        } else {
            floats.copyInto(row, 0, from, from + dimension)
        }
    }

    private fun capacity() = if (quantized) scales.size else floats.size / dimension

    private fun grow(rows: Int) {
        if (rows.toLong() * dimension > Int.MAX_VALUE) throw InputException("the collection is too large", "$rows rows")
        if (quantized) {
            codes = codes.copyOf(rows * dimension)
            scales = scales.copyOf(rows)
        } else {
            floats = floats.copyOf(rows * dimension)
        }
    }

    private fun requireDimension(vector: FloatArray) {
        if (vector.size != dimension) {
            throw InputException("the vectors cannot be compared", "${vector.size} and $dimension numbers")
        }
    }

    private companion object {
        const val CODES = 127f
    }
}
