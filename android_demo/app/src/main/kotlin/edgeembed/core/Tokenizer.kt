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
