package edgeembed.core

import java.io.File
import java.nio.file.Files
import java.util.Base64
import kotlin.random.Random
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** What has no counterpart in the Python runtime, and the faults of a backend. */
class CoreTest {
    private val golden = File(System.getProperty("golden") ?: "../../tests/golden")
    private val manifest = (read("texts.wordpiece.json") as Map<*, *>)["manifest"]
    private val probe = decodeVector(((manifest as Map<*, *>)["self_check"] as Map<*, *>)["embedding"] as String)

    private fun read(name: String) = Json.parse(File(golden, name).readBytes())

    private fun embedder(answer: (IntArray) -> FloatArray): Embedder {
        val engine = object : Engine {
            override fun run(length: Int, ids: IntArray) = answer(padded(ids, length, 0))

            override fun close() = Unit
        }
        return Embedder(Manifest.parse(Json.write(manifest).toByteArray()), { IntArray(it.length) { 7 } }, engine)
    }

    @Test
    fun `one byte per number finds what floats find`() {
        val random = Random(1)
        val rows = List(500) { unit(FloatArray(64) { random.nextFloat() - 0.5f }) } + listOf(FloatArray(64))
        for (similarity in Similarity.entries) {
            val exact = VectorIndex(64, similarity, quantized = false).apply { rows.forEach(::add) }
            val small = VectorIndex(64, similarity, quantized = true).apply { rows.forEach(::add) }
            for (query in rows.take(20)) {
                val expected = exact.search(query, 10)
                val found = small.search(query, 10)
                assertEquals(expected.first().row, found.first().row)
                val common = expected.map { it.row }.intersect(found.map { it.row }.toSet())
                assertTrue("$similarity: ${common.size}", common.size >= 9)
            }
            val scores = exact.search(rows[0], rows.size).associate { it.row to it.score }
            // Manhattan adds 64 roundings of up to half a step, the others far less.
            for (hit in small.search(rows[0], rows.size)) assertEquals(scores.getValue(hit.row), hit.score, 0.06f)
        }
    }

    @Test
    fun `equal scores come in the order of the rows`() {
        val index = VectorIndex(2, Similarity.DOT, quantized = true)
        repeat(9) { index.add(floatArrayOf(1f, 2f)) }
        assertEquals(listOf(0, 1, 2), index.search(floatArrayOf(1f, 1f), 3).map { it.row })
        assertEquals(emptyList<Hit>(), VectorIndex(2, Similarity.DOT, quantized = false).search(floatArrayOf(1f, 1f), 3))
        assertThrows(InputException::class.java) { index.add(floatArrayOf(1f)) }
    }

    @Test
    fun `the self-check passes on the file's own answer and on nothing else`() {
        assertEquals(1.0, embedder { probe }.selfCheck(), 1e-6)
        val turned = probe.copyOf().also { it[0] += 1f }
        assertThrows(SelfCheckException::class.java) { embedder { turned }.selfCheck() }
    }

    @Test
    fun `a manifest may lack fields that have a default, and have fields of a later version`() {
        fun parse(change: (MutableMap<String, Any?>) -> Unit): Manifest {
            @Suppress("UNCHECKED_CAST")
            val raw = LinkedHashMap(manifest as Map<String, Any?>).also(change)
            return Manifest.parse(Json.write(raw).toByteArray())
        }
        val name = parse { it["licence"] = mapOf<String, Any?>("later" to 1L); it["later"] = listOf("x") }.name
        assertEquals(parse { }.name, name)
        assertThrows(ManifestException::class.java) { parse { it["licence"] = mapOf("files" to 1L) } }
        assertThrows(ManifestException::class.java) { parse { it.remove("licence") } }
        assertThrows(ManifestException::class.java) { parse { it.remove("buckets") } }
    }

    @Test
    fun `what is no vector is never returned`() {
        for (bad in listOf(FloatArray(8), FloatArray(7) { 1f }, FloatArray(8) { if (it == 3) Float.NaN else 1f })) {
            assertThrows(RuntimeFailure::class.java) { embedder { bad }.encode("a") }
        }
    }

    @Test
    fun `token ids are padded to the bucket, and checked`() {
        val lengths = ArrayList<Int>()
        val model = embedder { ids -> probe.also { lengths.add(ids.size) } }
        for (count in listOf(1, 8, 9, 24)) model.encodeTokens(IntArray(count) { 5 })
        assertEquals(listOf(8, 8, 16, 24), lengths)
        for (bad in listOf(IntArray(0), IntArray(25), intArrayOf(1000), intArrayOf(-1))) {
            assertThrows(InputException::class.java) { model.encodeTokens(bad) }
        }
        model.close()
        model.close()
        assertThrows(RuntimeFailure::class.java) { model.encodeTokens(intArrayOf(1)) }
    }

    @Test
    fun `cut and padded texts are reported`() {
        val model = embedder { probe }
        assertTrue(model.encode("a".repeat(30)).truncated)
        assertTrue(!model.encode("a".repeat(3)).truncated)
        assertEquals(32, model.encode("a".repeat(30)).tokens)
    }

    @Test
    fun `a tokenizer that would be read wrongly is refused`() {
        val good = Json.parse(File(golden, "wordpiece.json").readBytes()) as Map<*, *>
        WordPiece(Json.write(good).toByteArray())
        val added = (good["added_tokens"] as List<*>).map { (it as Map<*, *>) + ("single_word" to true) }
        val changes = listOf(
            "added_tokens" to added, "normalizer" to null, "model" to mapOf("type" to "BPE"),
            "pre_tokenizer" to mapOf("type" to "Whitespace"), "normalizer" to mapOf("type" to "NFKC"),
        )
        for (change in changes) {
            assertThrows(TokenizerException::class.java) { WordPiece(Json.write(good + change).toByteArray()) }
        }
        assertThrows(TokenizerException::class.java) { WordPiece("not json".toByteArray()) }
    }

    @Test
    fun `a damaged SentencePiece model is refused, or read as something else, and never crashes`() {
        for (name in listOf("bpe.model", "unigram.model")) {
            val data = File(golden, name).readBytes()
            val random = Random(2)
            for (length in listOf(0, 1, 7, data.size / 2, data.size - 1)) use(data.copyOf(length))
            repeat(300) {
                use(data.copyOf().also { copy -> repeat(3) { copy[random.nextInt(copy.size)] = random.nextInt().toByte() } })
            }
        }
    }

    private fun use(data: ByteArray) {
        try {
            SentencePiece(data).encode("the red planet\n\n<tag> ﬁ Größe")
        } catch (error: TokenizerException) {
            assertTrue(error.message!!.isNotEmpty())
        }
    }

    @Test
    fun `a failed measurement is a record that says so`() {
        val directory = Files.createTempDirectory("golden").toFile()
        try {
            val whole = Base64.getDecoder().decode((read("files.json") as Map<*, *>)["whole"] as String)
            val model = ModelFile.open(File(directory, "toy.tflite").apply { writeBytes(whole) })
            val facts = LinuxFacts()
            val device = object : Device {
                override fun machine() = facts.machine("cpu", "system")

                override fun memory() = facts.memory()

                override fun startSeconds() = 1.0
            }
            val request = BenchmarkRequest(length = 99, threads = 1, warmup = 0, repetitions = 1, seed = 0)
            val record = Benchmark(model, device, emptyMap()).record(request, "", "") { embedder { probe } }
            assertEquals("failed", record["status"])
            assertTrue((record["error"] as String).contains("no bucket"))
            assertEquals(null, record["latency"])
        } finally {
            directory.deleteRecursively()
        }
    }

    @Test
    fun `the system's files give positive figures`() {
        val facts = LinuxFacts()
        assertTrue(facts.machine("cpu", "system")["memory_bytes"] as Long > 1 shl 20)
        for ((name, value) in facts.memory()) assertTrue(name, value!! > 1 shl 20)
        val nothing = LinuxFacts(File("/nonexistent"))
        assertEquals(null, nothing.machine("cpu", "system")["governor"])
        assertEquals("A Phone", facts.machine("cpu", "system", "A Phone")["model"])
        assertEquals(setOf<Long?>(null), nothing.memory().values.toSet())
    }
}
