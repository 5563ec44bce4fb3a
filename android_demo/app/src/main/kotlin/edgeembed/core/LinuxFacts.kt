package edgeembed.core

import java.io.File
import java.io.IOException

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
