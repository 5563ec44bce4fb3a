package edgeembed.core

/** Turns text into content ids: nothing is added around them. */
fun interface Tokenizer {
    /** Returns the ids of `text`. Special tokens spelled out in the text become their ids. */
    fun encode(text: String): IntArray
}

/** Builds the tokenizer that a manifest describes from the content of the zip member `record.file`. */
fun loadTokenizer(record: TokenizerRecord, data: ByteArray): Tokenizer {
    val tokenizer = when (record.kind) {
        "sentencepiece" -> SentencePiece(data)
        "unigram" -> Unigram(data)
        "tokenizers" -> WordPiece(data)
        else -> throw TokenizerException("unknown kind of tokenizer", record.kind)
    }
    return if (record.lowercase) Tokenizer { tokenizer.encode(lowercase(it)) } else tokenizer
}

/** Returns `text` if every surrogate in it is one of a pair. */
fun checkText(text: String): String {
    var at = 0
    while (at < text.length) {
        val point = text.codePointAt(at)
        if (point in 0xD800..0xDFFF) {
            throw InputException("a text holds a lone surrogate, which no tokenizer can read", "position $at")
        }
        at += Character.charCount(point)
    }
    return text
}

/** Unicode's full lower case, as Python's `str.lower`: a sigma at the end of a word has a form of its own. */
internal fun lowercase(text: String): String {
    val points = text.codePoints().toArray()
    val out = StringBuilder(text.length)
    points.forEachIndexed { at, point ->
        if (point == SIGMA && endsWord(points, at)) out.append('ς') else appendLower(out, point)
    }
    return out.toString()
}

/** Appends one character in lower case whatever stands around it. */
internal fun appendLower(out: StringBuilder, point: Int) {
    // The only character that becomes two.
    if (point == 0x130) out.append("i\u0307") else out.appendCodePoint(UnicodeTables.lower(point))
}

private const val SIGMA = 0x3A3

private fun endsWord(points: IntArray, at: Int): Boolean {
    val before = (at - 1 downTo 0).firstOrNull { !caseIgnorable(points[it]) }
    val after = (at + 1 until points.size).firstOrNull { !caseIgnorable(points[it]) }
    return before != null && cased(points[before]) && (after == null || !cased(points[after]))
}

private fun cased(point: Int) = Character.isLowerCase(point) || Character.isUpperCase(point) ||
    Character.isTitleCase(point) || UnicodeTables.lower(point) != point // newer than this Java

/** Unicode's Case_Ignorable: marks, formats, modifiers, and what may stand within a word. */
private fun caseIgnorable(point: Int) = point in WITHIN_WORDS || when (Character.getType(point).toByte()) {
    Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.FORMAT, Character.MODIFIER_LETTER,
    Character.MODIFIER_SYMBOL -> true
    else -> false
}

private val WITHIN_WORDS =
    "'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A".map { it.code }.toSet()

/** What happens to a text that does not fit into the model. */
enum class Overflow {
    TRUNCATE, ERROR, MEAN
}

/**
 * How one text is run.
 *
 * @property windows Token ids of each run, special tokens included.
 * @property weights Content tokens that each window adds, for the mean over windows.
 * @property tokens How many tokens the whole text has, special tokens included.
 * @property truncated Whether some of them are not run.
 * @property padding Whether a window contains a padding token that the text spells and the model does not see.
 */
class Plan(
    val windows: List<IntArray>,
    val weights: List<Int>,
    val tokens: Int,
    val truncated: Boolean,
    val padding: Boolean,
)

private val QUERY_PROMPTS = listOf("query")
private val DOCUMENT_PROMPTS = listOf("document", "passage", "corpus")
private const val NO_TITLE = "title: none"

/** Returns the prompt of that name, "" for none. */
fun Manifest.prompt(name: String?): String = when (name) {
    null -> ""
    else -> prompts[name] ?: throw InputException(
        "the model has no prompt of that name", name, "choose one of: ${prompts.keys.joinToString()}",
    )
}

/** Returns the name of the prompt for queries, else of the model's default one. */
fun Manifest.queryPromptName(): String? = QUERY_PROMPTS.firstOrNull { it in prompts } ?: defaultPromptName

/** Returns the name of the prompt for documents, else of the model's default one. */
fun Manifest.documentPromptName(): String? = DOCUMENT_PROMPTS.firstOrNull { it in prompts } ?: defaultPromptName

/** Returns prompt and text with the title worked in: into the prompt's place for it, else before the text. */
fun withTitle(prompt: String, text: String, title: String?): Pair<String, String> {
    val label = checkText(title ?: "").trim(::isBlank)
    return when {
        label.isEmpty() -> prompt to text
        NO_TITLE in prompt -> prompt.replaceFirst(NO_TITLE, "title: $label") to text
        else -> prompt to "$label $text".trim(::isBlank)
    }
}

/** Python's `str.isspace`, which decides what is stripped. */
private fun isBlank(c: Char) = isSpace(c.code) || c in '\u001C'..'\u001F'

/** Returns the windows in which a text is run after a prompt. */
fun plan(tokenizer: Tokenizer, manifest: Manifest, prompt: String, text: String, overflow: Overflow): Plan {
    val record = manifest.tokenizer
    val content = tokenizer.encode(prompt + text)
    val room = manifest.maxTokens - record.prefixIds.size - record.suffixIds.size
    val total = manifest.maxTokens - room + content.size
    fun spellsPadding(ids: IntArray) = record.padId in ids && !record.seesPaddingTokens
    val prefix = record.prefixIds.toIntArray()
    val suffix = record.suffixIds.toIntArray()
    if (content.size <= room || overflow == Overflow.TRUNCATE) {
        val kept = content.copyOf(minOf(content.size, room))
        return Plan(listOf(prefix + kept + suffix), listOf(1), total, content.size > room, spellsPadding(kept))
    }
    if (overflow == Overflow.ERROR) {
        throw TextTooLongException(
            "a text is longer than the model can read", "$total tokens, at most ${manifest.maxTokens}",
            "split the text, or choose to cut it or to take the mean of its parts",
        )
    }
    // The prompt's last token may have merged with the text.
    val asked = if (prompt.isEmpty()) IntArray(0) else tokenizer.encode(prompt)
    val lead = content.copyOf(asked.indices.firstOrNull { it >= content.size || asked[it] != content[it] } ?: asked.size)
    val step = room - lead.size
    if (step < 1) throw InputException("the prompt leaves no room for text", "${lead.size} tokens", "choose a shorter one")
    val parts = (lead.size until content.size step step).map { content.copyOfRange(it, minOf(it + step, content.size)) }
    return Plan(parts.map { prefix + lead + it + suffix }, parts.map { it.size }, total, false, spellsPadding(content))
}
