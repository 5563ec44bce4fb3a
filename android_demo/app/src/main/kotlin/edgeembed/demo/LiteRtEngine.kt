package edgeembed.demo

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import edgeembed.core.Embedder
import edgeembed.core.Engine
import edgeembed.core.ModelFile
import edgeembed.core.Overflow
import edgeembed.core.RuntimeFailure
import edgeembed.core.loadTokenizer
import edgeembed.core.padded

/** LiteRT on the CPU, one signature per bucket. The only file that knows LiteRT. */
class LiteRtEngine(model: ModelFile, threads: Int) : Engine {
    private class Buffers(val input: List<TensorBuffer>, val output: List<TensorBuffer>)

    private val padId = model.manifest.tokenizer.padId
    private val buffers = HashMap<Int, Buffers>()
    private val compiled = guarded("LiteRT cannot load ${model.file.name}") {
        val options = CompiledModel.Options(Accelerator.CPU)
        // Without a weight cache each bucket would pack a copy of the weights of its own.
        options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads, xnnPackWeightCachePath = ":memory")
        CompiledModel.create(model.file.path, options)
    }

    override fun run(length: Int, ids: IntArray): FloatArray = guarded("LiteRT cannot run the graph") {
        val signature = "embed_$length"
        val own = buffers.getOrPut(length) {
            Buffers(compiled.createInputBuffers(signature), compiled.createOutputBuffers(signature))
        }
        own.input.single().writeInt(padded(ids, length, padId))
        compiled.run(own.input, own.output, signature)
        own.output.single().readFloat()
    }

    override fun close() {
        for (own in buffers.values) (own.input + own.output).forEach { it.close() }
        buffers.clear()
        compiled.close()
    }

    private fun <T> guarded(what: String, block: () -> T): T = try {
        block()
    } catch (error: LiteRtException) {
        throw RuntimeFailure(what, error.message)
    }
}

/** Loads a model and makes it prove itself on the probe that its file carries. */
fun openEmbedder(model: ModelFile, threads: Int, overflow: Overflow): Embedder {
    val record = model.manifest.tokenizer
    val tokenizer = loadTokenizer(record, model.read(record.file))
    val embedder = Embedder(model.manifest, tokenizer, LiteRtEngine(model, threads), overflow = overflow)
    try {
        embedder.selfCheck()
    } catch (error: Throwable) {
        embedder.close()
        throw error
    }
    return embedder
}

/** Phones have at most four fast cores; more threads than that slow a single text down. */
fun usableThreads(): Int = minOf(Runtime.getRuntime().availableProcessors(), 4)
