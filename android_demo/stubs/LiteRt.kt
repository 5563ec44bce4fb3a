// Signatures of com.google.ai.edge.litert:litert 2.3.0 that the demo uses.
package com.google.ai.edge.litert

class LiteRtException(message: String) : Exception(message)

enum class Accelerator { CPU, GPU, NPU }

abstract class JniHandle : AutoCloseable {
    final override fun close(): Unit = throw AssertionError()
}

class TensorBuffer internal constructor() : JniHandle() {
    fun writeInt(data: IntArray): Unit = throw AssertionError()

    fun readFloat(): FloatArray = throw AssertionError()
}

class Environment internal constructor()

class CompiledModel private constructor() : JniHandle() {
    data class CpuOptions(val numThreads: Int? = null, val xnnPackFlags: Int? = null, val xnnPackWeightCachePath: String? = null)

    class Options(internal vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffers(signature: String): List<TensorBuffer> = throw AssertionError()

    fun createOutputBuffers(signature: String): List<TensorBuffer> = throw AssertionError()

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signature: String): Unit = throw AssertionError()

    companion object {
        fun create(filePath: String, options: Options, optionalEnv: Environment? = null): CompiledModel = throw AssertionError()
    }
}
