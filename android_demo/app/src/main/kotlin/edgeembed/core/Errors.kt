package edgeembed.core

/**
 * Base of every error raised on purpose. The names follow edge_embed's Python errors.
 *
 * @property what What went wrong, one sentence.
 * @property got What was found.
 * @property fix What the user can do about it.
 */
open class EdgeEmbedException(val what: String, val got: String? = null, val fix: String? = null) :
    Exception(listOfNotNull(what, got?.let { "got: $it" }, fix?.let { "to fix it: $it" }).joinToString("\n  "))

/** The file is not a model of ours, or is cut, damaged or hostile. */
open class ModelFileException(what: String, got: String? = null, fix: String? = null) :
    EdgeEmbedException(what, got, fix)

/** The manifest is missing, malformed, or of a newer schema. */
class ManifestException(what: String, got: String? = null, fix: String? = null) :
    ModelFileException(what, got, fix)

/** The backend does not reproduce the probe that the file carries. */
class SelfCheckException(what: String, got: String? = null, fix: String? = null) :
    EdgeEmbedException(what, got, fix)

/** LiteRT refused the graph, or answered with something that is no vector. */
class RuntimeFailure(what: String, got: String? = null, fix: String? = null) :
    EdgeEmbedException(what, got, fix)

/** The tokenizer is missing, cannot be read, or is of a kind that this runtime does not have. */
class TokenizerException(what: String, got: String? = null, fix: String? = null) :
    EdgeEmbedException(what, got, fix)

/** A text or an option that cannot be used. */
open class InputException(what: String, got: String? = null, fix: String? = null) :
    EdgeEmbedException(what, got, fix)

/** A text is longer than the model can read and the policy is to refuse. */
class TextTooLongException(what: String, got: String? = null, fix: String? = null) :
    InputException(what, got, fix)
