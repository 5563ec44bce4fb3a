package edgeembed.core

import kotlin.math.sqrt

/** What can run the graph. Implementations need not be thread-safe: an [Embedder] runs one text at a time. */
interface Engine : AutoCloseable {
    /** Returns the embedding of `ids`, special tokens included, in the bucket `length`. */
    fun run(length: Int, ids: IntArray): FloatArray
}

/**
 * A text's vector, and what a user should know of how it came about.
 *
 * @property tokens How many tokens the text has, special tokens included.
 * @property truncated Whether only its beginning was read.
 * @property padding Whether it spells the padding token and the model does not see it.
 */
class Embedding(val vector: FloatArray, val tokens: Int, val truncated: Boolean, val padding: Boolean)

/**
 * Texts to vectors, with the decisions of edge_embed's Python `Embedder`.
 *
 * @param truncateDim Cuts each vector to its first so many dimensions.
 * @param overflow What happens to a text longer than the model.
 */
class Embedder(
    val manifest: Manifest,
    private val tokenizer: Tokenizer,
    private val engine: Engine,
    truncateDim: Int? = null,
    private val overflow: Overflow = Overflow.TRUNCATE,
) : AutoCloseable {
    val dimension: Int = truncateDim ?: manifest.dimension
    private var closed = false

    init {
        if (dimension !in 1..manifest.dimension) {
            throw InputException("truncateDim does not fit the model", "$dimension", "choose 1 to ${manifest.dimension}")
        }
    }

    /** Embeds a text after the prompt of that name, by default the model's own choice. */
    fun encode(text: String, promptName: String? = manifest.defaultPromptName): Embedding =
        embed(manifest.prompt(promptName), checkText(text))

    /** Embeds a text that asks, after the model's prompt for queries. */
    fun encodeQuery(text: String): Embedding = encode(text, manifest.queryPromptName())

    /** Embeds a text that answers, after the model's prompt for documents, with its title if it has one. */
    fun encodeDocument(text: String, title: String? = null): Embedding {
        val (prompt, body) = withTitle(manifest.prompt(manifest.documentPromptName()), checkText(text), title)
        return embed(prompt, body)
    }

    /** Returns the ids that a text is run with after the prompt of that name, cut where it does not fit. */
    fun tokens(text: String, promptName: String?): IntArray =
        plan(tokenizer, manifest, manifest.prompt(promptName), checkText(text), Overflow.TRUNCATE).windows.single()

    /** Embeds token ids as they are: special tokens included, nothing added, cut or normalized again. */
    @Synchronized
    fun encodeTokens(ids: IntArray): FloatArray {
        if (ids.size !in 1..manifest.buckets.last()) throw InputException("the token ids do not fit the model", "${ids.size} ids")
        ids.firstOrNull { it !in 0 until manifest.tokenizer.vocabSize }?.let {
            throw InputException("a token id is outside the vocabulary", "$it")
        }
        if (closed) throw RuntimeFailure("the model ${manifest.name} is closed", fix = "open it again")
        val vector = engine.run(manifest.bucketFor(ids.size), ids)
        if (vector.size != manifest.dimension || vector.any { !it.isFinite() } || vector.all { it == 0f }) {
            throw RuntimeFailure("the backend answered with something that is no vector", "${vector.size} numbers")
        }
        return vector
    }

    /** Makes the backend reproduce the probe that the file carries; returns the cosine it got. */
    fun selfCheck(): Double {
        val probe = manifest.selfCheck
        val vector = encodeTokens(probe.tokens.toIntArray())
        val norms = norm(vector) * norm(probe.vector)
        var product = 0.0
        for (i in vector.indices) product += vector[i].toDouble() * probe.vector[i]
        val cosine = if (norms > 0) product / norms else 0.0
        // Written so that a cosine or a bound that is not a number fails.
        if (!(cosine >= probe.minCosine)) {
            throw SelfCheckException(
                "${manifest.name}: the backend does not reproduce the file's own probe",
                "cosine $cosine, expected at least ${probe.minCosine}",
                "copy the file again; if it stays, this device computes it wrongly",
            )
        }
        return cosine
    }

    /** Releases the model, after a run that is still going on. Closing it again does nothing. */
    @Synchronized
    override fun close() {
        if (!closed) engine.close()
        closed = true
    }

    private fun embed(prompt: String, text: String): Embedding {
        val work = plan(tokenizer, manifest, prompt, text, overflow)
        val whole = if (work.windows.size == 1) encodeTokens(work.windows[0]) else mean(work)
        val cut = whole.copyOf(dimension)
        // A cut vector of a model that normalizes would otherwise be shorter than 1.
        val vector = if (manifest.normalize && dimension < manifest.dimension) unit(cut) else cut
        return Embedding(vector, work.tokens, work.truncated, work.padding)
    }

    private fun mean(work: Plan): FloatArray {
        val sum = DoubleArray(manifest.dimension)
        work.windows.zip(work.weights).forEach { (ids, weight) ->
            encodeTokens(ids).forEachIndexed { i, value -> sum[i] += value.toDouble() * weight }
        }
        val total = work.weights.sum()
        val mean = FloatArray(sum.size) { (sum[it] / total).toFloat() }
        return if (manifest.normalize) unit(mean) else mean
    }
}

/** Returns ids padded to a bucket. */
fun padded(ids: IntArray, length: Int, padId: Int): IntArray = IntArray(length) { if (it < ids.size) ids[it] else padId }

internal fun norm(vector: FloatArray): Double {
    var sum = 0.0
    for (value in vector) sum += value.toDouble() * value
    return sqrt(sum)
}

/** Returns the vector at unit length. */
internal fun unit(vector: FloatArray): FloatArray {
    val norm = norm(vector)
    if (!(norm > 0)) throw RuntimeFailure("a vector without a direction cannot be normalized", fix = "keep more dimensions")
    return FloatArray(vector.size) { vector[it] / norm.toFloat() }
}
