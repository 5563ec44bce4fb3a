package edgeembed.core

import kotlin.math.round
import kotlin.math.sqrt

/** How an index is searched: by meaning and words, by meaning, or by words. */
enum class SearchMode {
    HYBRID, VECTOR, TEXT
}

/**
 * What is searched for besides the question.
 *
 * @property where A filter on metadata in the language of Python's `where`, applied before ranking.
 * @property minScore Hits below are left out: by the cosine, and by BM25 in mode TEXT.
 * @property perDocument Whether a document gives only its best chunk.
 * @property diversity 0 to 1: how much hits must differ from each other.
 * @property weights Of the cosine and of BM25, in mode HYBRID.
 */
class SearchOptions(
    val k: Int = 10,
    val mode: SearchMode = SearchMode.HYBRID,
    val where: Map<String, Any?> = emptyMap(),
    val minScore: Double? = null,
    val perDocument: Boolean = false,
    val diversity: Float = 0f,
    val weights: Pair<Double, Double> = 0.6 to 0.4,
    val snippetLength: Int = 240,
    val marks: Pair<String, String> = "**" to "**",
)

/**
 * A chunk of a document that answers a question.
 *
 * @property start Where the chunk begins in the document's text, in code points, as in Python.
 * @property score What the hits are ordered by: the cosine, BM25, or the sum of both, standardized.
 * @property vectorScore The cosine; null in mode TEXT.
 * @property textScore BM25; null if the words of the question did not find the chunk.
 */
data class IndexHit(
    val documentId: String,
    val chunk: Int,
    val text: String,
    val start: Int,
    val end: Int,
    val title: String,
    val headings: List<String>,
    val metadata: Map<*, *>,
    val score: Double,
    val vectorScore: Double?,
    val textScore: Double?,
    val snippet: String,
)

/** The numbers that decide how many vectors are looked at; a test makes them small. */
internal class ScanSizes(
    val exactBelow: Int = 4096,
    val perHit: Int = 12,
    val least: Int = 600,
    val wider: Int = 6,
    val slotsPerCandidate: Int = 400,
    val leastDimension: Int = 64,
)

/**
 * Searches an index file as edge_embed's Python `Index` does: the same hits in the same order.
 *
 * The sign bits are held in memory, an eighth of a byte a dimension and four bytes a chunk; int8 vectors are read
 * from the file for the candidates alone. What another program adds meanwhile is found by the next search.
 */
class IndexSearch internal constructor(private val database: IndexDatabase, private val sizes: ScanSizes) : AutoCloseable {
    constructor(database: IndexDatabase) : this(database, ScanSizes())

    private val file = IndexFile(database)
    private var signs: Signs? = null
    val settings: IndexSettings get() = file.settings

    /** How many chunks there are. */
    val chunks: Int get() = database.reading { file.state().chunks }

    /** Refuses a model whose vectors are not those of the index, also one of the same dimension. */
    fun requireModel(manifest: Manifest) {
        if (manifest.graphSha256 != settings.graph || manifest.tokenizer.sha256 != settings.tokenizer) {
            throw IndexModelException(
                "the index was made with another model", "${manifest.name} (${manifest.recipe})",
                "open ${settings.model}, or make the index again with this model",
            )
        }
    }

    /**
     * Returns the chunks that answer a question best, best first.
     *
     * @param vector The question's vector, of the index's model; null in mode TEXT.
     */
    @Synchronized
    fun search(question: String, vector: FloatArray?, options: SearchOptions = SearchOptions()): List<IndexHit> {
        if (options.k !in 1..MOST_HITS) throw InputException("k cannot be used", "${options.k}", "choose 1 to $MOST_HITS")
        if (options.diversity !in 0f..1f) throw InputException("diversity cannot be used", "${options.diversity}")
        if (question.isBlank() && vector == null) return emptyList()
        val query = if (options.mode == SearchMode.TEXT) null else unit(vector)
        val where = IndexWhere(options.where)
        return database.reading {
            val state = file.state()
            val held = if (query == null) null else signs?.takeIf { it.state == state } ?: file.signs(state).also { signs = it }
            val asked = IndexWords.terms(checkText(question), settings.lexical)
            val terms = IndexWords.choose(database, asked, settings.lexical, state.chunks)
            Run(options, query, terms, where, held).hits()
        }
    }

    override fun close() = database.close()

    private fun unit(vector: FloatArray?): FloatArray {
        if (vector == null || vector.size < settings.dimension || vector.any { !it.isFinite() }) {
            throw InputException("the vector of the question cannot be used", "${vector?.size} numbers", "${settings.dimension}")
        }
        val cut = vector.copyOf(settings.dimension)
        val length = maxOf(norm(cut), 1e-30)
        return FloatArray(cut.size) { (cut[it] / length).toFloat() }
    }

    /** Slots in order, best first, and what is known of each. */
    private class Ranked(var slots: List<Int>, val scores: Map<Int, Double>) {
        var vectorScores: Map<Int, Double> = emptyMap()
        var textScores: Map<Int, Double> = emptyMap()
    }

    private inner class Run(
        private val options: SearchOptions,
        private val query: FloatArray?,
        private val terms: List<String>,
        private val where: IndexWhere,
        private val signs: Signs?,
    ) {
        private val allowed: BooleanArray? = if (where.sql.isEmpty() || signs == null) null else {
            val found = database.query("SELECT documents.id FROM documents WHERE ${where.sql}", where.parameters) {
                it.long(0).toInt()
            }.toHashSet()
            BooleanArray(signs.slots) { signs.documents[it] in found }
        }

        fun hits(): List<IndexHit> {
            var depth = options.k
            if (options.mode == SearchMode.HYBRID) depth = maxOf(depth, HYBRID_DEPTH)
            if (options.diversity > 0) depth = maxOf(depth, DIVERSE_DEPTH * options.k, HYBRID_DEPTH)
            val ranked = when (options.mode) {
                SearchMode.VECTOR -> byVector(depth).also { it.vectorScores = it.scores }
                SearchMode.TEXT -> byWords(depth).also { it.textScores = it.scores }
                SearchMode.HYBRID -> fused(depth)
            }
            options.minScore?.let { least ->
                val bound = if (options.mode == SearchMode.TEXT) ranked.textScores else ranked.vectorScores
                ranked.slots = ranked.slots.filter { bound.getValue(it) >= least }
            }
            if (options.diversity > 0 && signs != null) diversify(ranked)
            ranked.slots = ranked.slots.take(options.k)
            return read(ranked)
        }

        /** Orders by the weighted sum of the cosine and of BM25, both standardized. */
        private fun fused(depth: Int): Ranked {
            val sides = listOf(byVector(depth), byWords(depth))
            val all = sides.flatMap { it.slots }
            val words = sides[1].scores
            val cosines = sides[0].scores + cosines(sides[1].slots.filter { it !in sides[0].scores })
            val owners = if (options.perDocument) documentsOf(all) else all.associateWith { it }
            val chosen = HashMap<Int, Pair<Int, Int>>()
            for (side in sides) {
                side.slots.forEachIndexed { rank, slot ->
                    val best = chosen[owners.getValue(slot)]
                    if (best == null || rank < best.first) chosen[owners.getValue(slot)] = rank to slot
                }
            }
            val nearest = bestOfEach(owners, all, cosines)
            val found = bestOfEach(owners, all, words)
            val ofCosine = standardized(nearest)
            val ofWords = standardized(nearest.mapValues { found[it.key] ?: 0.0 })
            val scores = chosen.entries.associate { (owner, place) ->
                val (cosine, word) = options.weights
                // Rounded, so that equal texts have equal scores.
                place.second to round(1e4 * (cosine * ofCosine.getValue(owner) + word * ofWords.getValue(owner))) / 1e4
            }
            val slots = scores.keys.sortedWith(compareByDescending<Int> { scores.getValue(it) }.thenBy { it })
            return Ranked(slots, scores).also {
                it.vectorScores = cosines
                it.textScores = words
            }
        }

        private fun bestOfEach(owners: Map<Int, Int>, slots: List<Int>, scores: Map<Int, Double>): Map<Int, Double> {
            val best = HashMap<Int, Double>()
            for (slot in slots) {
                val score = scores[slot] ?: continue
                best.merge(owners.getValue(slot), score, ::maxOf)
            }
            return best
        }

        private fun standardized(scores: Map<Int, Double>): Map<Int, Double> {
            val mean = scores.values.average()
            val deviation = sqrt(scores.values.sumOf { (it - mean) * (it - mean) } / scores.size)
            return scores.mapValues { if (deviation < LEAST_DEVIATION) 0.0 else (it.value - mean) / deviation }
        }

        private fun byVector(depth: Int) = onceADocument(depth, signs!!.slots) { nearest(it) }

        private fun byWords(depth: Int) = onceADocument(depth, null) { byBm25(it) }

        private fun onceADocument(depth: Int, most: Int?, find: (Int) -> List<Pair<Int, Double>>): Ranked {
            var count = depth
            while (true) {
                val found = find(count)
                val ranked = Ranked(found.map { it.first }, found.toMap())
                if (!options.perDocument) return ranked
                val owners = documentsOf(ranked.slots)
                val first = LinkedHashMap<Int, Int>()
                for (slot in ranked.slots) first.putIfAbsent(owners.getValue(slot), slot)
                if (first.size >= depth || found.size < count || (most != null && count >= most)) {
                    ranked.slots = first.values.take(depth)
                    return ranked
                }
                count *= 4
            }
        }

        private fun documentsOf(slots: List<Int>): Map<Int, Int> = if (signs != null) {
            slots.associateWith { signs.documents[it] }
        } else {
            database.query(
                "SELECT id - 1, document FROM chunks WHERE id IN (SELECT value + 1 FROM json_each(?))",
                listOf(Json.write(slots)),
            ) { it.long(0).toInt() to it.long(1).toInt() }.toMap()
        }

        private fun byBm25(count: Int): List<Pair<Int, Double>> {
            if (terms.isEmpty()) return emptyList()
            val within = if (where.sql.isEmpty()) "" else
                "AND rowid IN (SELECT chunks.id FROM documents JOIN chunks ON chunks.document = documents.id " +
                    "WHERE ${where.sql}) "
            val sql = "SELECT rowid - 1, -bm25(lexical, 1.0, 1.0) AS score FROM lexical " +
                "WHERE lexical MATCH ? ${within}ORDER BY score DESC, rowid LIMIT ?"
            val parameters = listOf<Any>(IndexWords.expression(terms)) + where.parameters + count.toLong()
            return database.query(sql, parameters) { it.long(0).toInt() to it.double(1).toFloat().toDouble() }
        }

        private fun nearest(count: Int): List<Pair<Int, Double>> {
            val held = signs!!
            val open = (0 until held.slots).filter { if (allowed == null) held.documents[it] != 0 else allowed[it] }
            val wanted = maxOf(count * sizes.perHit, sizes.least, held.slots / sizes.slotsPerCandidate)
            val few = open.size <= maxOf(sizes.exactBelow, wanted * sizes.wider) || held.dimension < sizes.leastDimension
            return best(cosines(if (few) open else nearBySigns(open, wanted)), count)
        }

        private fun nearBySigns(open: List<Int>, wanted: Int): List<Int> {
            val held = signs!!
            val packed = held.pack(query!!)
            val distances = IntArray(open.size) { held.distance(open[it], packed) }
            val counts = IntArray(held.dimension + 1)
            for (distance in distances) counts[distance]++
            var radius = 0
            var inside = counts[0]
            while (inside < wanted * sizes.wider) inside += counts[++radius]
            val near = open.filterIndexed { at, _ -> distances[at] <= radius }
            if (near.size <= wanted) return near
            val bits = held.bitsOf(query)
            return best(near.associateWith { held.sum(it, bits).toDouble() }, wanted).map { it.first }.sorted()
        }

        private fun best(scores: Map<Int, Double>, count: Int): List<Pair<Int, Double>> = scores.entries
            .sortedWith(compareByDescending<Map.Entry<Int, Double>> { it.value }.thenBy { it.key })
            .take(count).map { it.key to it.value }

        private fun cosines(slots: List<Int>): Map<Int, Double> {
            val rising = slots.sorted().toIntArray()
            val scores = HashMap<Int, Double>()
            file.codes(rising) { at, scale, codes, from ->
                var product = 0f
                for (i in query!!.indices) product += codes.get(from + i) * query[i]
                scores[rising[at]] = (product * scale).toDouble()
            }
            return scores
        }

        /** Orders the slots by maximal marginal relevance. */
        private fun diversify(ranked: Ranked) {
            if (ranked.slots.isEmpty()) return
            val relevance = FloatArray(ranked.slots.size) { ranked.scores.getValue(ranked.slots[it]).toFloat() }
            if (options.mode == SearchMode.HYBRID) { // these scores have no range of their own
                val least = relevance.min()
                val range = maxOf(relevance.max() - least, 1e-9f)
                for (i in relevance.indices) relevance[i] = (relevance[i] - least) / range
            }
            val rows = HashMap<Int, FloatArray>()
            val rising = ranked.slots.sorted().toIntArray()
            file.codes(rising) { at, scale, codes, from ->
                rows[rising[at]] = FloatArray(settings.dimension) { codes.get(from + it) * scale }
            }
            val chosen = ArrayList<Int>()
            val nearest = FloatArray(relevance.size)
            while (chosen.size < minOf(options.k, relevance.size)) {
                val next = relevance.indices.filter { it !in chosen }.maxByOrNull {
                    (1 - options.diversity) * relevance[it] - options.diversity * nearest[it]
                }!!
                chosen += next
                val taken = rows.getValue(ranked.slots[next])
                for (i in nearest.indices) {
                    var similar = 0f
                    rows.getValue(ranked.slots[i]).forEachIndexed { at, number -> similar += number * taken[at] }
                    nearest[i] = if (chosen.size > 1) maxOf(nearest[i], similar) else similar
                }
            }
            ranked.slots = chosen.map { ranked.slots[it] }
        }

        private fun read(ranked: Ranked): List<IndexHit> {
            val hits = database.query(HIT, listOf(Json.write(ranked.slots))) { row ->
                val slot = row.long(0).toInt()
                val text = row.text(3)!!
                val headings = row.text(7)?.let { Json.parse(it) as List<*> }.orEmpty().map { it as String }
                slot to IndexHit(
                    row.text(1)!!, row.long(2).toInt(), text, row.long(4).toInt(), row.long(5).toInt(), row.text(6)!!,
                    headings, Json.parse(row.text(8)!!) as Map<*, *>, ranked.scores.getValue(slot),
                    ranked.vectorScores[slot], ranked.textScores[slot],
                    IndexWords.snippet(text, terms, settings.lexical, options.snippetLength, options.marks),
                )
            }.toMap()
            return ranked.slots.map { hits.getValue(it) }
        }
    }

    private companion object {
        const val MOST_HITS = 10_000
        const val HYBRID_DEPTH = 50
        const val LEAST_DEVIATION = 1e-6
        const val DIVERSE_DEPTH = 5
        const val HIT = "SELECT c.id - 1, d.name, c.ordinal, substr(d.text, c.start + 1, c.stop - c.start), c.start, " +
            "c.stop, d.title, c.headings, d.metadata FROM chunks c JOIN documents d ON d.id = c.document " +
            "WHERE c.id IN (SELECT value + 1 FROM json_each(?))"
    }
}
