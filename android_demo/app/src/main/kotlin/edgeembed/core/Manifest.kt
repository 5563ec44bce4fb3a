package edgeembed.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

/** How text becomes ids: the zip member, its kind, and the ids put around and after the text. */
data class TokenizerRecord(
    val file: String,
    val kind: String,
    val sha256: String,
    val lowercase: Boolean,
    val padId: Int,
    val prefixIds: List<Int>,
    val suffixIds: List<Int>,
    val vocabSize: Int,
    val seesPaddingTokens: Boolean,
)

/** A probe for load time: token ids, the file's own answer, the least cosine allowed. */
class SelfCheck(val tokens: List<Int>, val vector: FloatArray, val minCosine: Double)

/**
 * What a file says of itself: the zip member `edge_embed.json`. Every field of the schema is checked;
 * those that this runtime uses are kept, the whole of it is [raw].
 */
class Manifest private constructor(val raw: Map<String, Any?>) {
    val name = text("name")
    val sourceId = part("source")["id"] as String
    val recipe = part("recipe")["name"] as String
    val graphBytes = part("graph")["bytes"] as Long
    val graphSha256 = part("graph")["sha256"] as String
    val parameters = part("architecture")["parameters"] as Long
    val buckets = ints(raw["buckets"])
    val maxTokens = int(raw["max_tokens"])
    val normalize = raw["normalize"] as Boolean
    val dimension = int(raw["dimension"])
    val matryoshkaDimensions = ints(raw["matryoshka_dimensions"])
    val similarity = text("similarity")

    @Suppress("UNCHECKED_CAST")
    val prompts = raw["prompts"] as Map<String, String>
    val defaultPromptName = raw["default_prompt_name"] as String?
    val tokenizer = part("tokenizer").let {
        TokenizerRecord(
            it["file"] as String, it["kind"] as String, it["sha256"] as String, it["lowercase"] as Boolean,
            int(it["pad_id"]), ints(it["prefix_ids"]), ints(it["suffix_ids"]), int(it["vocab_size"]),
            it["sees_padding_tokens"] == true,
        )
    }
    val selfCheck = part("self_check").let {
        SelfCheck(ints(it["tokens"]), decodeVector(it["embedding"] as String), (it["min_cosine"] as Number).toDouble())
    }

    init {
        check()
    }

    /** Returns the smallest bucket that holds so many tokens. */
    fun bucketFor(tokens: Int): Int = buckets.first { it >= tokens }

    private fun check() {
        val special = tokenizer.prefixIds.size + tokenizer.suffixIds.size
        val ids = tokenizer.prefixIds + tokenizer.suffixIds + selfCheck.tokens + tokenizer.padId
        val outside = ids.filter { it !in 0 until tokenizer.vocabSize }
        val problem = when {
            buckets.isEmpty() || buckets != buckets.toSortedSet().toList() || buckets[0] < 1 ->
                "buckets must be ascending positive lengths, not $buckets"
            maxTokens !in 1..buckets.last() -> "max_tokens $maxTokens exceeds the largest bucket"
            selfCheck.tokens.size !in 1..buckets.last() -> "the self-check probe does not fit into any bucket"
            special >= maxTokens -> "the special tokens leave no room for text"
            dimension < 1 || matryoshkaDimensions.any { it !in 1..dimension } -> "dimensions out of range: $dimension"
            selfCheck.vector.size != dimension -> "the self-check vector does not have the model's dimension"
            tokenizer.kind !in KINDS -> "unknown tokenizer kind ${tokenizer.kind}"
            outside.isNotEmpty() -> "token ids outside the vocabulary of ${tokenizer.vocabSize}: $outside"
            similarity !in SIMILARITIES -> "unknown similarity $similarity"
            !(selfCheck.minCosine > 0 && selfCheck.minCosine <= 1) ->
                "the self-check's least cosine is ${selfCheck.minCosine}, not in (0, 1]"
            else -> return
        }
        throw ManifestException("the manifest is inconsistent", problem, AGAIN)
    }

    private fun text(name: String) = raw[name] as String

    private fun part(name: String) = raw[name] as Map<*, *>

    companion object {
        const val FILE = "edge_embed.json"
        private const val SCHEMA_VERSION = 1
        private const val AGAIN = "convert the model again"
        private val KINDS = setOf("sentencepiece", "unigram", "tokenizers")
        private val SIMILARITIES = setOf("cosine", "dot", "euclidean", "manhattan")

        /**
         * Field and type by record; `[x]` is a list, `{x}` a map from names, `x?` may be null. A field that
         * ends with `=` has a default: a file may lack it. Fields that are not listed are ignored.
         */
        private val SCHEMA: Map<String, Map<String, String>> = mapOf(
            "Manifest" to "name:str source:Source architecture:Architecture recipe:Recipe graph:Graph " +
                "buckets:[int] max_tokens:int pooling:[str] normalize:bool dimension:int " +
                "matryoshka_dimensions:[int] similarity:str prompts:{str} default_prompt_name:str? " +
                "tokenizer:Tokenizer licence:Licence tools:{str} parity:Parity self_check:SelfCheck " +
                "schema_version:int",
            "Source" to "id:str revision:str? sha256:str",
            "Architecture" to "family:str parameters:int config:{any}",
            "Recipe" to "name:str spec:str groups:{{any}}",
            "Graph" to "bytes:int sha256:str fp16_safe:bool",
            "Tokenizer" to "file:str kind:str sha256:str lowercase:bool pad_id:int prefix_ids:[int] " +
                "suffix_ids:[int] vocab_size:int sees_padding_tokens:bool=",
            "Licence" to "name:str?= files:[str]=",
            "SelfCheck" to "tokens:[int] embedding:str min_cosine:float",
            "Parity" to "passed:bool failures:[str] probes:int cosine_mean:float cosine_min:float " +
                "norm_error_max:float non_finite:int zero_vectors:int token_mismatches:int neighbours:float " +
                "neighbours_k:int thresholds:{float} buckets:[Bucket]",
            "Bucket" to "length:int probes:int cosine_mean:float cosine_min:float",
        ).mapValues { (_, fields) -> fields.split(" ").associate { it.substringBefore(":") to it.substringAfter(":") } }

        /** Parses and checks manifest text. */
        fun parse(data: ByteArray): Manifest {
            val raw = try {
                Json.parse(data)
            } catch (error: JsonException) {
                throw ManifestException("the manifest is not valid JSON", error.message, AGAIN)
            }
            if (raw !is Map<*, *>) throw ManifestException("the manifest is not a JSON object")
            val version = raw["schema_version"]
            if (version !is Long || version < 1) throw ManifestException("the manifest has no schema version", "$version")
            if (version > SCHEMA_VERSION) {
                throw ManifestException("the file was written by a newer edge_embed", "schema $version", "update this app")
            }
            require("Manifest", raw, "manifest")
            @Suppress("UNCHECKED_CAST")
            return Manifest(raw as Map<String, Any?>)
        }

        private fun require(type: String, value: Any?, where: String) {
            when {
                type.endsWith("?") -> if (value != null) require(type.dropLast(1), value, where)
                type.startsWith("[") && value is List<*> ->
                    value.forEachIndexed { i, item -> require(type.substring(1, type.length - 1), item, "$where[$i]") }
                type.startsWith("{") && value is Map<*, *> ->
                    value.forEach { (key, item) -> require(type.substring(1, type.length - 1), item, "$where.$key") }
                type in SCHEMA && value is Map<*, *> -> for ((field, kind) in SCHEMA.getValue(type)) {
                    if (field in value) {
                        require(kind.removeSuffix("="), value[field], "$where.$field")
                    } else if (!kind.endsWith("=")) {
                        throw ManifestException("the manifest lacks a field", "$where.$field", AGAIN)
                    }
                }
                else -> {
                    val fits = when (type) {
                        "any" -> true
                        "str" -> value is String
                        "int" -> value is Long
                        "bool" -> value is Boolean
                        "float" -> value is Double || value is Long
                        else -> false
                    }
                    if (!fits) throw ManifestException("the manifest field $where has the wrong type", "$value", AGAIN)
                }
            }
        }

        private fun int(value: Any?): Int = try {
            Math.toIntExact(value as Long)
        } catch (error: ArithmeticException) {
            throw ManifestException("a number in the manifest is too large", "$value", AGAIN)
        }

        private fun ints(value: Any?): List<Int> = (value as List<*>).map { int(it) }
    }
}

/** Returns a vector as [decodeVector] reads it. */
fun encodeVector(vector: FloatArray): String {
    val data = ByteBuffer.allocate(4 * vector.size).order(ByteOrder.LITTLE_ENDIAN)
    vector.forEach(data::putFloat)
    return Base64.getEncoder().encodeToString(data.array())
}

/** Returns the float32 vector whose little-endian bytes `text` holds in base64. */
fun decodeVector(text: String): FloatArray {
    val data = try {
        Base64.getDecoder().decode(text)
    } catch (error: IllegalArgumentException) {
        throw ManifestException("a vector in the file is damaged", error.message)
    }
    // Java's decoder also takes text without its padding, Python's does not.
    if (text.length % 4 != 0 || data.size % 4 != 0) {
        throw ManifestException("a vector in the file is damaged", "${data.size} bytes")
    }
    val floats = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    return FloatArray(floats.remaining()).also { floats.get(it) }
}
