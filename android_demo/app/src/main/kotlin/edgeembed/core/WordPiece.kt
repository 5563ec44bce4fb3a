package edgeembed.core

import java.text.Normalizer

/**
 * BERT's WordPiece as `tokenizer.json` describes it: BertNormalizer, BertPreTokenizer, added tokens. A file
 * that asks for anything else is refused rather than read wrongly.
 */
class WordPiece(data: ByteArray) : Tokenizer {
    private class Added(val content: String, val id: Int, val before: Boolean, val after: Boolean)

    private val vocabulary: Map<String, Int>
    private val unknown: Int
    private val continuation: String
    private val longestWord: Int
    private val cleans: Boolean
    private val spacesChinese: Boolean
    private val stripsAccents: Boolean
    private val lowers: Boolean
    private val beforeNormalizing: List<Added>
    private val afterNormalizing: List<Added>

    init {
        val root = try {
            Json.parse(data) as? Map<*, *> ?: throw unreadable("not an object")
        } catch (error: JsonException) {
            throw unreadable(error.message)
        }
        val model = part(root, "model")
        val normalizer = part(root, "normalizer")
        val splitter = part(root, "pre_tokenizer")["type"]
        val types = listOf(normalizer["type"], splitter, model["type"])
        if (types != listOf("BertNormalizer", "BertPreTokenizer", "WordPiece")) {
            throw unreadable("$types; this runtime reads BERT's WordPiece only")
        }
        vocabulary = part(model, "vocab").entries.associate { (word, id) ->
            word as String to ((id as? Long)?.toInt() ?: throw unreadable("an id that is no number"))
        }
        continuation = model["continuing_subword_prefix"] as? String ?: throw unreadable("no subword prefix")
        longestWord = (model["max_input_chars_per_word"] as? Long)?.toInt() ?: throw unreadable("no longest word")
        unknown = vocabulary[model["unk_token"]] ?: throw unreadable("no unknown token")
        fun flag(name: String) = normalizer[name] as? Boolean ?: throw unreadable("a normalizer without $name")
        cleans = flag("clean_text")
        spacesChinese = flag("handle_chinese_chars")
        lowers = flag("lowercase")
        stripsAccents = normalizer["strip_accents"] as? Boolean ?: lowers
        val tokens = (root["added_tokens"] as? List<*> ?: emptyList<Any>()).map {
            it as? Map<*, *> ?: throw unreadable("an added token that is no object")
        }
        if (tokens.any { it["single_word"] == true }) throw unreadable("an added token that must be a whole word")
        fun chosen(normalized: Boolean) = tokens.filter { it["normalized"] == normalized }.map {
            val content = it["content"] as? String ?: throw unreadable("an added token without content")
            val id = vocabulary[content] ?: (it["id"] as? Long)?.toInt() ?: throw unreadable("an added token without id")
            Added(if (normalized) normalize(content) else content, id, it["lstrip"] == true, it["rstrip"] == true)
        }.filter { it.content.isNotEmpty() }
        beforeNormalizing = chosen(false)
        afterNormalizing = chosen(true)
    }

    override fun encode(text: String): IntArray {
        val ids = IntList()
        split(text, beforeNormalizing, ids) { part ->
            split(normalize(part), afterNormalizing, ids) { words(it, ids) }
        }
        return ids.toArray()
    }

    /** Cuts the added tokens out of `text`, the longest where several begin, and visits what lies between. */
    private fun split(text: String, tokens: List<Added>, ids: IntList, visit: (String) -> Unit) {
        var done = 0
        var at = 0
        while (at < text.length && tokens.isNotEmpty()) {
            val token = tokens.filter { text.startsWith(it.content, at) }.maxByOrNull { it.content.length }
            if (token == null) {
                at++
                continue
            }
            var start = at
            var end = at + token.content.length
            if (token.before) while (start > done && isSpace(text[start - 1].code)) start--
            if (token.after) while (end < text.length && isSpace(text[end].code)) end++
            if (start > done) visit(text.substring(done, start))
            ids.add(token.id)
            done = end
            at = end
        }
        if (done < text.length) visit(text.substring(done))
    }

    private fun normalize(text: String): String {
        val spaced = StringBuilder(text.length)
        text.codePoints().forEach { point ->
            when {
                cleans && UnicodeTables.isRemoved(point) -> Unit
                // A vertical tab or a next-line is a control character here, and was removed above.
                cleans && isSpace(point) -> spaced.append(' ')
                spacesChinese && isChinese(point) -> spaced.append(' ').appendCodePoint(point).append(' ')
                else -> spaced.appendCodePoint(point)
            }
        }
        if (!stripsAccents && !lowers) return spaced.toString()
        val apart = if (stripsAccents) Normalizer.normalize(spaced, Normalizer.Form.NFD) else spaced.toString()
        val out = StringBuilder(apart.length)
        apart.codePoints().forEach { point ->
            if (stripsAccents && UnicodeTables.isAccent(point)) return@forEach
            if (lowers) appendLower(out, point) else out.appendCodePoint(point)
        }
        return out.toString()
    }

    /** Splits at whitespace, and around each punctuation mark. */
    private fun words(text: String, ids: IntList) {
        val word = StringBuilder()
        fun flush() {
            if (word.isNotEmpty()) pieces(word.toString(), ids)
            word.setLength(0)
        }
        text.codePoints().forEach { point ->
            val mark = UnicodeTables.isPunctuation(point)
            if (mark || isSpace(point)) flush()
            if (mark || !isSpace(point)) word.appendCodePoint(point)
            if (mark) flush()
        }
        flush()
    }

    /** Takes the longest known piece, then the longest that continues it; a word with a gap is unknown. */
    private fun pieces(word: String, ids: IntList) {
        val found = IntList()
        var start = 0
        if (word.codePointCount(0, word.length) <= longestWord) {
            while (start < word.length) {
                val lead = if (start > 0) continuation else ""
                var end = word.length
                while (end > start && (word[end - 1].isHighSurrogate() || lead + word.substring(start, end) !in vocabulary)) end--
                if (end == start) break
                found.add(vocabulary.getValue(lead + word.substring(start, end)))
                start = end
            }
        }
        if (start < word.length) ids.add(unknown) else found.toArray().forEach(ids::add)
    }

    private fun part(root: Map<*, *>, name: String) = root[name] as? Map<*, *> ?: throw unreadable("no $name")

    private fun isChinese(point: Int) = CHINESE.any { point in it }

    private companion object {
        // The released tokenizers begin the last but one block at 2B920, not at 2B820.
        val CHINESE = listOf(
            0x3400..0x4DBF, 0x4E00..0x9FFF, 0xF900..0xFAFF, 0x20000..0x2A6DF, 0x2A700..0x2B81F, 0x2B920..0x2CEAF,
            0x2F800..0x2FA1F,
        )

        fun unreadable(got: String?) = TokenizerException("the tokenizer.json cannot be used", got)
    }
}

/** Unicode's White_Space. */
internal fun isSpace(point: Int) = when (point) {
    in 9..13, 0x20, 0x85, 0xA0, 0x1680, in 0x2000..0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 -> true
    else -> false
}
