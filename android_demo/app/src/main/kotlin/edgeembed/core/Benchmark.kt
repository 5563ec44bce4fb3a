package edgeembed.core

import java.io.File
import java.io.IOException
import kotlin.math.floor
import kotlin.math.min
import kotlin.random.Random

/** What the demo cannot ask of the JVM alone: the device's facts and this process's memory. */
interface Device {
    /** The fields of `Machine` in the benchmark's record schema. */
    fun machine(): Map<String, Any?>

    /** The fields of `Memory`: rss_bytes, anonymous_bytes, peak_bytes. */
    fun memory(): Map<String, Long?>

    /** Seconds from the start of this process until it could load a model. */
    fun startSeconds(): Double
}

/**
 * One cell of the benchmark's matrix, as the intent that starts it says.
 *
 * @property length Tokens per text, special ones included; at most the model's largest bucket.
 */
class BenchmarkRequest(val length: Int, val threads: Int, val warmup: Int, val repetitions: Int, val seed: Int)

/** Measures an embedder and writes the records of edge_embed_bench: the same fields, units and rules. */
class Benchmark(
    private val model: ModelFile,
    private val device: Device,
    private val versions: Map<String, String>,
    private val clock: () -> Long = System::nanoTime,
) {
    /**
     * Loads, runs and describes one cell. Whatever fails becomes a record that says so.
     *
     * @param started UTC, ISO 8601.
     * @param open Loads the model from its file; it is timed.
     */
    fun record(request: BenchmarkRequest, command: String, started: String, open: () -> Embedder): Map<String, Any?> =
        try {
            val (embedder, load) = timed(open)
            embedder.use { measured(request, it, load) }
        } catch (error: EdgeEmbedException) {
            mapOf("status" to "failed", "error" to error.message)
        } catch (error: OutOfMemoryError) {
            mapOf("status" to "failed", "error" to "out of memory")
        }.let { described(request, command, started) + EMPTY + it }

    private fun measured(request: BenchmarkRequest, embedder: Embedder, load: Double): Map<String, Any?> {
        if (request.repetitions < 1) throw InputException("nothing to measure", "${request.repetitions} repetitions")
        val record = model.manifest.tokenizer
        val special = record.prefixIds.size + record.suffixIds.size
        if (request.length !in special + 1..model.manifest.buckets.last()) {
            throw InputException("no bucket for that length", "${request.length}", "at most ${model.manifest.buckets.last()}")
        }
        // The graph tells padding by its id, so no content may have it.
        val random = Random(request.seed)
        val content = IntArray(request.length - special) {
            random.nextInt(record.vocabSize - 1).let { id -> if (id >= record.padId) id + 1 else id }
        }
        val ids = record.prefixIds.toIntArray() + content + record.suffixIds.toIntArray()
        val (_, first) = timed { embedder.encodeTokens(ids) }
        repeat(request.warmup) { embedder.encodeTokens(ids) }
        val samples = List(request.repetitions) { timed { embedder.encodeTokens(ids) }.second }
        val middle = percentile(samples, 50)
        return mapOf(
            "latency" to mapOf(
                "tokens" to ids.size, "samples_s" to samples, "median_s" to middle, "p95_s" to percentile(samples, 95),
                "tokens_per_s" to ids.size / middle, "texts_per_s" to 1 / middle, "processor_s" to emptyList<Double>(),
            ),
            // Packed weights are kept in memory, so a load is always a cold one, and a process has one.
            "load" to mapOf(
                "import_s" to device.startSeconds(), "cold_s" to load, "cold_first_s" to first,
                "warm_s" to emptyList<Double>(), "first_s" to emptyList<Double>(),
            ),
            "memory" to device.memory(),
        )
    }

    private fun described(request: BenchmarkRequest, command: String, started: String): Map<String, Any?> {
        val manifest = model.manifest
        return mapOf(
            "kind" to "latency",
            "status" to "ok",
            "error" to null,
            "engine" to mapOf("name" to "edge_embed", "versions" to versions, "settings" to mapOf("runtime" to "android")),
            "model" to mapOf(
                "name" to manifest.name, "file" to model.file.name, "sha256" to model.sha256(),
                "recipe" to manifest.recipe, "parameters" to manifest.parameters, "dimension" to manifest.dimension,
                "buckets" to manifest.buckets, "synthetic" to manifest.sourceId.substringAfterLast("/").startsWith(SYNTHETIC),
            ),
            "cell" to mapOf(
                "target" to "adb", "accelerator" to "cpu", "length" to request.length, "threads" to request.threads,
                "batch" to 1,
            ),
            "machine" to device.machine(),
            "run" to mapOf(
                "command" to command, "started" to started, "warmup" to request.warmup,
                "repetitions" to request.repetitions, "seed" to request.seed, "interleaved_with" to emptyList<String>(),
            ),
            "storage" to mapOf("file_bytes" to model.file.length(), "cache_bytes" to null),
            "not_measured" to NOT_MEASURED,
            "schema_version" to SCHEMA_VERSION,
        )
    }

    private fun <T> timed(block: () -> T): Pair<T, Double> {
        val started = clock()
        val result = block()
        return result to (clock() - started) / 1e9
    }

    companion object {
        private const val SCHEMA_VERSION = 2
        private const val SYNTHETIC = "synthetic-" // how edge_embed_bench tells random weights
        private val EMPTY = listOf(
            "load", "latency", "text_latency", "memory", "text_memory", "delegate", "agreement", "throughput", "conditions",
        ).associateWith { null }
        private val NOT_MEASURED = mapOf(
            "text_latency" to "the activity measures token ids in, vector out",
            "text_memory" to "the activity measures token ids in, vector out",
            "delegate" to "the Android runtime does not report it",
            "storage.cache_bytes" to "packed weights are kept in memory",
        )

        /** Returns the file that edge_embed_bench reads; `error` says why it holds no record. */
        fun toJson(records: List<Map<String, Any?>>, error: String? = null): String =
            Json.write(mapOf("schema_version" to SCHEMA_VERSION, "records" to records, "error" to error)) + "\n"

        /** Returns what `edge_embed verify --target adb` reads: the ids and the vector of each probe of the file. */
        fun answersToJson(model: ModelFile, embedder: Embedder): String {
            val answers = model.probes().map { probe ->
                val ids = embedder.tokens(probe.text, probe.promptName)
                mapOf("tokens" to ids.toList(), "vector" to encodeVector(embedder.encodeTokens(ids)))
            }
            return Json.write(mapOf("schema_version" to SCHEMA_VERSION, "answers" to answers, "error" to null)) + "\n"
        }

        /** Returns a percentile, by linear interpolation between the neighbouring samples, rounded as numpy does. */
        fun percentile(samples: List<Double>, percent: Int): Double {
            val sorted = samples.sorted()
            val place = (sorted.size - 1) * (percent / 100.0)
            val below = sorted[floor(place).toInt()]
            val above = sorted[min(floor(place).toInt() + 1, sorted.size - 1)]
            val share = place - floor(place)
            return if (share < 0.5) below + (above - below) * share else above - (above - below) * (1 - share)
        }
    }
}

/**
 * What Linux, and so Android, tells of itself in files.
 *
 * @param root Where /proc and /sys are.
 */
class LinuxFacts(private val root: File = File("/")) {
    /** The fields of `Machine` in the benchmark's record schema; what cannot be read is null or missing. */
    fun machine(cpu: String, system: String, model: String? = null, soc: String? = null): Map<String, Any?> = mapOf(
        "cpu" to cpu,
        "architecture" to System.getProperty("os.arch"),
        "cores" to Runtime.getRuntime().availableProcessors(),
        "features" to (fields("proc/cpuinfo")["Features"] ?: "").split(" ").filter { it in FEATURES }.sorted(),
        "governor" to read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?.trim(),
        "memory_bytes" to bytes("proc/meminfo", "MemTotal"),
        "system" to system,
        "python" to null,
        "model" to model,
        "soc" to soc,
        "emulator" to null,
    )

    /** The fields of `Memory`, of this process. */
    fun memory(): Map<String, Long?> = mapOf(
        "rss_bytes" to bytes("proc/self/status", "VmRSS"),
        "anonymous_bytes" to bytes("proc/self/status", "RssAnon"),
        "peak_bytes" to bytes("proc/self/status", "VmHWM"),
    )

    /** Reads a line such as "MemTotal:  3908012 kB". */
    private fun bytes(file: String, name: String): Long? =
        fields(file)[name]?.substringBefore(" ")?.toLongOrNull()?.let { it * 1024 }

    private fun fields(file: String): Map<String, String> = (read(file) ?: "").lines().filter { ":" in it }
        .associate { it.substringBefore(":").trim() to it.substringAfter(":").trim() }

    private fun read(file: String): String? = try {
        File(root, file).readText()
    } catch (error: IOException) {
        null // an app may not read all of it, which the record then says by null
    }

    private companion object {
        // The instruction sets that matrix kernels are chosen by.
        val FEATURES = setOf("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")
    }
}
