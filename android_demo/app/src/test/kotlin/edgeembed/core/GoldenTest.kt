package edgeembed.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.security.MessageDigest
import java.util.Base64
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

/** Asserts that Kotlin decides as the Python runtime did when it wrote the golden files. */
class GoldenTest {
    @Test
    fun `bpe with byte fallback`() = checkTexts("bpe", "bpe.model")

    @Test
    fun unigram() = checkTexts("unigram", "unigram.model")

    @Test
    fun `unigram by grapheme clusters`() = checkTexts("graphemes", "graphemes.model")

    @Test
    fun wordpiece() = checkTexts("wordpiece", "wordpiece.json")

    private fun checkTexts(name: String, file: String) {
        val golden = golden("texts.$name.json") as Map<*, *>
        val manifest = Manifest.parse(Json.write(golden["manifest"]).toByteArray())
        val tokenizer = loadTokenizer(manifest.tokenizer, File(GOLDEN, file).readBytes())
        for (case in golden["cases"] as List<*>) {
            val (text, ids) = (case as Map<*, *>).let { it["text"] as String to it["ids"] as List<*> }
            val got = tokenizer.encode(text)
            val shown = if (got.size <= 400) got.map { it.toLong() } else listOf(got.size.toLong(), digest(got))
            assertEquals(text.take(80), ids, shown)
            for ((key, expected) in case["plans"] as? Map<*, *> ?: emptyMap<String, Any>()) {
                val (prompt, overflow) = (key as String).split(" ")
                assertEquals("$key: $text", expected, verdict {
                    val work = plan(tokenizer, manifest, manifest.prompt(prompt.ifEmpty { null }), text, policy(overflow))
                    listOf(
                        digest(work.windows.flatMap { it.toList() }.toIntArray()),
                        work.windows.map { manifest.bucketFor(it.size).toLong() }, work.weights.map { it.toLong() },
                        work.tokens.toLong(), work.truncated, work.padding,
                    )
                })
            }
        }
    }

    @Test
    fun `vectors of the public interface`() {
        val data = File(GOLDEN, "bpe.model").readBytes()
        for (case in golden("vectors.json") as List<*>) {
            case as Map<*, *>
            val manifest = Manifest.parse(Json.write(case["manifest"]).toByteArray())
            val tokenizer = loadTokenizer(manifest.tokenizer, data)
            val dimension = (case["dimension"] as Long?)?.toInt()
            for (answer in case["answers"] as List<*>) {
                val (call, text, title, expected) = answer as List<*>
                val got = verdict {
                    val model = Embedder(manifest, tokenizer, Toy, dimension, policy(case["overflow"] as String))
                    when (call) {
                        "encode" -> model.encode(text as String)
                        "encode_query" -> model.encodeQuery(text as String)
                        "encode_document" -> model.encodeDocument(text as String, title as String?)
                        else -> throw AssertionError("$call: ${model.dimension} was to be refused")
                    }.vector
                }
                if (got is FloatArray && decodesToVector(expected as String)) {
                    // Norms are summed in another order than numpy's: the last bit may differ.
                    assertArrayEquals("$answer", decodeVector(expected), got, 1.2e-7f)
                } else {
                    assertEquals("$answer", expected, got)
                }
            }
        }
    }

    private fun decodesToVector(text: String) = !text.endsWith("Error") && text != "RuntimeFailure"

    @Test
    fun manifests() {
        val golden = golden("manifests.json") as Map<*, *>
        for (case in golden["cases"] as List<*>) {
            val (path, value, expected) = case as List<*>
            val changed = Json.write(edited(golden["base"], path as List<*>, value)).toByteArray()
            assertEquals("$path = $value", expected, verdict { Manifest.parse(changed).let { "ok" } })
        }
        for (case in golden["raw"] as List<*>) {
            val (data, expected) = case as List<*>
            val text = unpack(data)
            assertEquals(String(text).take(60), expected, verdict { Manifest.parse(text).let { "ok" } })
        }
    }

    private fun edited(value: Any?, path: List<*>, replacement: Any?): Any? {
        if (path.isEmpty()) return replacement
        val drops = path.size == 1 && replacement == "<removed>"
        return if (value is Map<*, *>) {
            if (drops) value - path[0] else value + (path[0] to edited(value[path[0]], path.drop(1), replacement))
        } else {
            (value as List<*>).flatMapIndexed { i, item ->
                if (i.toLong() != path[0]) listOf(item)
                else if (drops) emptyList() else listOf(edited(item, path.drop(1), replacement))
            }
        }
    }

    @Test
    fun `damaged and hostile files`() {
        val golden = golden("files.json") as Map<*, *>
        val whole = unpack(golden["whole"])
        val problems = ArrayList<String>()
        fun check(content: ByteArray, expected: Any?, what: String) = temporary(content) { file ->
            val got = verdict {
                val model = ModelFile.open(file)
                model.read(model.manifest.tokenizer.file)
                model.verifyGraph()
                "ok"
            }
            if (got != expected) problems.add("$what: $got, not $expected")
        }
        for (case in golden["cases"] as List<*>) {
            val (change, expected) = case as List<*>
            val content = if (change is Long) whole.copyOf(change.toInt()) else whole.copyOf()
            for (patch in change as? List<*> ?: emptyList<Any>()) {
                val (offset, data) = patch as List<*>
                unpack(data).copyInto(content, (offset as Long).toInt())
            }
            check(content, expected, "$change")
        }
        for ((i, case) in (golden["built"] as List<*>).withIndex()) {
            val (data, expected) = case as List<*>
            check(unpack(data), expected, "built $i")
        }
        assertEquals("", problems.joinToString("\n"))
    }

    @Test
    fun similarities() {
        val golden = golden("similarity.json") as Map<*, *>
        val width = (golden["dimension"] as Long).toInt()
        val flat = decodeVector(golden["rows"] as String)
        val rows = (0 until flat.size / width).map { flat.copyOfRange(it * width, (it + 1) * width) }
        for ((name, packed) in golden["scores"] as Map<*, *>) {
            val scores = decodeVector(packed as String)
            val index = VectorIndex(width, Similarity.of(name as String), quantized = false)
            rows.forEach(index::add)
            for (query in 0 until (golden["queries"] as Long).toInt()) {
                val expected = scores.copyOfRange(query * rows.size, (query + 1) * rows.size)
                val hits = index.search(rows[query], rows.size)
                assertArrayEquals(name, expected.sortedDescending().toFloatArray(), hits.map { it.score }.toFloatArray(), 1e-5f)
                for (hit in hits) assertEquals(name, expected[hit.row], hit.score, 1e-5f)
            }
        }
    }

    @Test
    fun `the benchmark writes the record that edge_embed_bench reads`() {
        val content = unpack((golden("files.json") as Map<*, *>)["whole"])
        temporary(content) { file ->
            val model = ModelFile.open(file)
            // Load 1 s, first inference 0.5 s, then the four samples; a pair of readings each.
            val readings = listOf(1.0, 0.5, 0.25, 0.5, 0.25, 0.75).flatMap { listOf(0L, (it * 1e9).toLong()) }.iterator()
            val benchmark = Benchmark(model, Phone, mapOf("litert" to "2.3.0")) { readings.next() }
            val record = benchmark.record(BenchmarkRequest(8, 2, 2, 4, 7), "am start", "2026-01-01T00:00:00Z") {
                Embedder(model.manifest, { IntArray(0) }, Toy)
            }
            val expected = ((golden("record.json") as Map<*, *>)["records"] as List<*>).single() as Map<*, *>
            val got = ((Json.parse(Benchmark.toJson(listOf(record))) as Map<*, *>)["records"] as List<*>).single() as Map<*, *>
            assertEquals(expected.keys, got.keys)
            for ((key, value) in expected) assertEquals("$key", value, got[key])
        }
    }

    @Test
    fun `the probes of a file are answered as Python answers them`() {
        val expected = golden("probes.json") as Map<*, *>
        temporary(unpack(expected["whole"])) { file ->
            val model = ModelFile.open(file)
            val tokenizer = loadTokenizer(model.manifest.tokenizer, model.read(model.manifest.tokenizer.file))
            val written = Benchmark.answersToJson(model, Embedder(model.manifest, tokenizer, Toy))
            assertEquals(expected["answers"], (Json.parse(written) as Map<*, *>)["answers"])
        }
    }

    private object Phone : Device {
        override fun machine() = mapOf(
            "cpu" to "Exynos", "architecture" to "arm64-v8a", "cores" to 8, "features" to listOf("asimd"),
            "governor" to null, "memory_bytes" to (4L shl 30), "system" to "Android 16", "python" to null,
            "model" to "A Phone", "soc" to "Exynos", "emulator" to null,
        )

        override fun memory() = mapOf("rss_bytes" to (3L shl 20), "anonymous_bytes" to (1L shl 20), "peak_bytes" to (4L shl 20))

        override fun startSeconds() = 0.125
    }

    /** The arithmetic of `Toy` in tests/golden/make_golden.py. */
    private object Toy : Engine {
        override fun run(length: Int, ids: IntArray) = FloatArray(8) { j ->
            var row = length * (j + 1L)
            ids.forEachIndexed { i, id -> row += (i + 1L) * (id + 1) * (j + 3) }
            (row % 257 - 128.5f) / 64
        }

        override fun close() = Unit
    }

    private companion object {
        val GOLDEN = File(System.getProperty("golden") ?: "../../tests/golden")

        fun golden(name: String): Any? = Json.parse(File(GOLDEN, name).readBytes())

        fun unpack(text: Any?): ByteArray = Base64.getDecoder().decode(text as String)

        fun policy(name: String) = Overflow.valueOf(name.uppercase())

        /** Returns what an action gives, or Python's name of the error that it ends in. */
        fun verdict(action: () -> Any?): Any? = try {
            action()
        } catch (error: EdgeEmbedException) {
            error::class.simpleName!!.replace("Exception", "Error")
        }

        fun digest(ids: IntArray): String {
            val bytes = ByteBuffer.allocate(ids.size * 4).order(ByteOrder.LITTLE_ENDIAN)
            ids.forEach(bytes::putInt)
            val hash = MessageDigest.getInstance("SHA-256").digest(bytes.array())
            return hash.joinToString("") { "%02x".format(it) }.take(16)
        }

        fun temporary(content: ByteArray, use: (File) -> Unit) {
            val directory = Files.createTempDirectory("golden").toFile()
            try {
                use(File(directory, "toy.tflite").apply { writeBytes(content) })
            } finally {
                directory.deleteRecursively()
            }
        }
    }
}
