package edgeembed.demo

import android.app.Activity
import android.os.Build
import android.os.Bundle
import android.os.Process
import android.os.SystemClock
import android.util.Log
import android.view.WindowManager
import edgeembed.core.Benchmark
import edgeembed.core.BenchmarkRequest
import edgeembed.core.Device
import edgeembed.core.EdgeEmbedException
import edgeembed.core.LinuxFacts
import edgeembed.core.ModelFile
import edgeembed.core.Overflow
import java.io.File
import java.time.Instant
import kotlin.concurrent.thread

/**
 * Measures one cell and writes one record, or answers the file's probes; shows nothing. Started by adb, see
 * README.md.
 *
 * A process measures one load: stop the app between two starts. Files lie in the app's external files
 * directory, which adb can write and read; other places are refused.
 */
class BenchmarkActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        // A process behind a dark screen is put on slow cores.
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        if (savedInstanceState != null) return // the device was turned: the measurement is under way already
        val started = (SystemClock.elapsedRealtime() - Process.getStartElapsedRealtime()) / 1e3
        thread(name = "benchmark") {
            val out = file("out", "record.json")
            val json = try {
                measure(started)
            } catch (error: EdgeEmbedException) {
                Log.e(TAG, "not measured", error)
                Benchmark.toJson(emptyList(), error.message)
            }
            // Whoever waits for the file must not see half of it.
            val part = File(out.path + ".part")
            part.writeText(json)
            part.renameTo(out)
            Log.i(TAG, "wrote $out")
            runOnUiThread { finish() }
        }
    }

    private fun measure(started: Double): String {
        val request = BenchmarkRequest(
            length = intent.getIntExtra("length", 64),
            threads = intent.getIntExtra("threads", usableThreads()),
            warmup = intent.getIntExtra("warmup", 5),
            repetitions = intent.getIntExtra("repetitions", 30),
            seed = intent.getIntExtra("seed", 0),
        )
        val model = ModelFile.open(file("model", "model.tflite"))
        if (intent.getBooleanExtra("probes", false)) {
            model.verifyGraph()
            return openEmbedder(model, request.threads, Overflow.TRUNCATE).use { Benchmark.answersToJson(model, it) }
        }
        val benchmark = Benchmark(model, Phone(started), mapOf("litert" to BuildConfig.LITERT_VERSION))
        val record = benchmark.record(request, "am start -n $packageName/.BenchmarkActivity", Instant.now().toString()) {
            openEmbedder(model, request.threads, Overflow.TRUNCATE)
        }
        return Benchmark.toJson(listOf(record))
    }

    /** Returns the file that an extra names; only its last part counts. */
    private fun file(extra: String, default: String): File =
        File(getExternalFilesDir(null), File(intent.getStringExtra(extra) ?: default).name)

    private class Phone(private val started: Double) : Device {
        private val facts = LinuxFacts()

        override fun machine() = facts.machine(
            cpu = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else Build.HARDWARE,
            system = "Android ${Build.VERSION.RELEASE}",
            model = "${Build.MANUFACTURER} ${Build.MODEL}",
            soc = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else null,
        )

        override fun memory() = facts.memory()

        override fun startSeconds() = started
    }

    private companion object {
        const val TAG = "edge_embed"
    }
}
