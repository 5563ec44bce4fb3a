package edgeembed.core

/** A row of a query's result. Columns count from 0. */
interface Row {
    fun long(column: Int): Long

    fun double(column: Int): Double

    /** Returns a text, null where the column is NULL. */
    fun text(column: Int): String?

    fun bytes(column: Int): ByteArray
}

/**
 * An SQLite file, open for reading. The index needs FTS5 with the trigram tokenizer, and `json_each`.
 *
 * Android's own SQLite has no FTS5, so the app implements this with AndroidX's bundled SQLite.
 */
interface IndexDatabase : AutoCloseable {
    /** Runs a query and turns each row into a value. Parameters are [String], [Long] or [Double]. */
    fun <T> query(sql: String, parameters: List<Any> = emptyList(), read: (Row) -> T): List<T>

    /** Runs `block` so that all its queries see the same state of the file. */
    fun <T> reading(block: () -> T): T
}
