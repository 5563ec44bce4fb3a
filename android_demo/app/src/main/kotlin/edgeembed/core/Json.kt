package edgeembed.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** The text is not JSON. */
class JsonException(message: String) : Exception(message)

/**
 * JSON as Python's `json` reads and writes it, NaN and Infinity included, so that both runtimes take and
 * refuse the same manifests. Whole numbers become [Long] and others [Double]: a manifest tells them apart.
 * (Android's own org.json takes much that is not JSON and does not exist on the JVM.)
 */
object Json {
    /** Returns maps, lists, strings, [Long], [Double], [Boolean] and null. */
    fun parse(text: String): Any? = Reader(text).document()

    /** Parses UTF-8, with or without a byte order mark. */
    fun parse(data: ByteArray): Any? {
        val text = try {
            Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(data)).toString()
        } catch (error: CharacterCodingException) {
            throw JsonException("not UTF-8: ${error.message}")
        }
        return parse(text.removePrefix("\uFEFF"))
    }

    /** Writes what [parse] returns. */
    fun write(value: Any?): String = StringBuilder().also { append(it, value) }.toString()

    private fun append(out: StringBuilder, value: Any?) {
        when (value) {
            null, is Boolean, is Int, is Long, is Float, is Double -> out.append(value)
            is String -> quote(out, value)
            is List<*> -> value.forEachIndexed { i, item ->
                out.append(if (i == 0) "[" else ", ")
                append(out, item)
            }.also { out.append(if (value.isEmpty()) "[]" else "]") }
            is Map<*, *> -> {
                out.append('{')
                value.entries.forEachIndexed { i, (key, item) ->
                    if (i > 0) out.append(", ")
                    quote(out, key as String)
                    out.append(": ")
                    append(out, item)
                }
                out.append('}')
            }
            else -> throw IllegalArgumentException("no JSON for ${value::class}")
        }
    }

    private fun quote(out: StringBuilder, text: String) {
        out.append('"')
        for (c in text) when {
            c == '"' || c == '\\' -> out.append('\\').append(c)
            c < ' ' || c.isSurrogate() -> out.append("\\u%04x".format(c.code))
            else -> out.append(c)
        }
        out.append('"')
    }

    private const val DEPTH = 900 // Python gives up at about a thousand
    private val NUMBER = Regex("(-?(?:0|[1-9][0-9]*))(\\.[0-9]+)?([eE][-+]?[0-9]+)?")
    private val WORDS = mapOf(
        "null" to null, "true" to true, "false" to false, "NaN" to Double.NaN,
        "Infinity" to Double.POSITIVE_INFINITY, "-Infinity" to Double.NEGATIVE_INFINITY,
    )

    private class Reader(private val text: String) {
        private var at = 0

        fun document(): Any? {
            val value = value(0)
            space()
            if (at < text.length) fail("something after the end")
            return value
        }

        private fun value(depth: Int): Any? {
            if (depth > DEPTH) fail("nested too deeply")
            space()
            return when (if (at < text.length) text[at] else fail("an early end")) {
                '{' -> members(depth)
                '[' -> items(depth)
                '"' -> string()
                else -> scalar()
            }
        }

        private fun members(depth: Int): Map<String, Any?> {
            val members = LinkedHashMap<String, Any?>()
            at++
            space()
            if (take('}')) return members
            do {
                space()
                if (at >= text.length || text[at] != '"') fail("a member without a name")
                val name = string()
                space()
                if (!take(':')) fail("a member without a value")
                members[name] = value(depth + 1)
                space()
            } while (take(','))
            if (!take('}')) fail("an object without an end")
            return members
        }

        private fun items(depth: Int): List<Any?> {
            val items = ArrayList<Any?>()
            at++
            space()
            if (take(']')) return items
            do {
                items.add(value(depth + 1))
                space()
            } while (take(','))
            if (!take(']')) fail("an array without an end")
            return items
        }

        private fun string(): String {
            val out = StringBuilder()
            at++
            while (true) {
                val c = next()
                when {
                    c == '"' -> return out.toString()
                    c < ' ' -> fail("a control character in a string")
                    c == '\\' -> out.append(escape())
                    else -> out.append(c)
                }
            }
        }

        private fun escape(): Char = when (val c = next()) {
            '"', '\\', '/' -> c
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                var code = 0
                repeat(4) {
                    val digit = next()
                    if (digit > 'f') fail("a bad escape")
                    code = code * 16 + Character.digit(digit, 16).also { if (it < 0) fail("a bad escape") }
                }
                code.toChar()
            }
            else -> fail("a bad escape")
        }

        private fun scalar(): Any? {
            for ((word, value) in WORDS) if (text.startsWith(word, at)) return value.also { at += word.length }
            val match = NUMBER.find(text, at)?.takeIf { it.range.first == at } ?: fail("no value")
            at = match.range.last + 1
            val whole = match.groupValues[2].isEmpty() && match.groupValues[3].isEmpty()
            return if (whole) match.value.toLongOrNull() ?: fail("too large a number") else match.value.toDouble()
        }

        private fun space() {
            while (at < text.length && text[at] in " \t\n\r") at++
        }

        private fun next(): Char = if (at < text.length) text[at++] else fail("a string without an end")

        private fun take(c: Char): Boolean = (at < text.length && text[at] == c).also { if (it) at++ }

        private fun fail(what: String): Nothing = throw JsonException("$what at character $at")
    }
}
