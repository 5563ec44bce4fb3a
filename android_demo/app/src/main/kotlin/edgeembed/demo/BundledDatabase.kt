package edgeembed.demo

import androidx.sqlite.SQLiteConnection
import androidx.sqlite.SQLiteException
import androidx.sqlite.SQLiteStatement
import androidx.sqlite.driver.bundled.BundledSQLiteDriver
import androidx.sqlite.driver.bundled.SQLITE_OPEN_READWRITE
import edgeembed.core.IndexDatabase
import edgeembed.core.IndexFileException
import edgeembed.core.Row
import java.io.File

/**
 * An index file by the SQLite that AndroidX brings along: Android's own has no FTS5.
 *
 * It is opened for writing though nothing is written: in its WAL mode SQLite keeps a file of locks beside it.
 */
class BundledDatabase(file: File) : IndexDatabase {
    private val connection: SQLiteConnection = translated { BundledSQLiteDriver().open(file.path, SQLITE_OPEN_READWRITE) }

    override fun <T> query(sql: String, parameters: List<Any>, read: (Row) -> T): List<T> = translated {
        val statement = connection.prepare(sql)
        try {
            parameters.forEachIndexed { at, value -> bind(statement, at + 1, value) }
            val row = StatementRow(statement)
            buildList { while (statement.step()) add(read(row)) }
        } finally {
            statement.close()
        }
    }

    override fun <T> reading(block: () -> T): T {
        query("BEGIN") {}
        try {
            return block()
        } finally {
            query("ROLLBACK") {}
        }
    }

    override fun close() = connection.close()

    private fun bind(statement: SQLiteStatement, place: Int, value: Any) = when (value) {
        is String -> statement.bindText(place, value)
        is Long -> statement.bindLong(place, value)
        is Double -> statement.bindDouble(place, value)
        else -> throw IllegalArgumentException("a parameter of ${value::class}")
    }

    private fun <T> translated(block: () -> T): T = try {
        block()
    } catch (error: SQLiteException) {
        throw IndexFileException("the index cannot be read", error.message, "copy it to the device again")
    }

    private class StatementRow(private val statement: SQLiteStatement) : Row {
        override fun long(column: Int) = statement.getLong(column)
        override fun double(column: Int) = statement.getDouble(column)
        override fun text(column: Int): String? = if (statement.isNull(column)) null else statement.getText(column)
        override fun bytes(column: Int): ByteArray = statement.getBlob(column)
    }
}
