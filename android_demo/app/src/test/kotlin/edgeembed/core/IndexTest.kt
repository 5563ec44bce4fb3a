package edgeembed.core

import java.io.File
import java.nio.file.Files
import java.sql.Connection
import java.sql.DriverManager
import java.sql.ResultSet
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Asserts that Kotlin finds in index files that Python wrote what Python finds there. */
class IndexTest {
    @Test
    fun words() = checkAnswers("words")

    @Test
    fun trigrams() = checkAnswers("trigrams")

    private fun checkAnswers(lexical: String) = opened(lexical) { database ->
        val small = (GOLDEN["small"] as Map<*, *>).mapValues { (it.value as Long).toInt() }
        val sizes = ScanSizes(
            small.getValue("EXACT_BELOW"), small.getValue("CANDIDATES"), small.getValue("LEAST_CANDIDATES"),
            small.getValue("WIDER"),
        )
        val searches = mapOf(false to IndexSearch(database), true to IndexSearch(database, sizes))
        for (answer in (GOLDEN["answers"] as Map<*, *>)[lexical] as List<*>) {
            answer as Map<*, *>
            val question = answer["question"] as String
            val options = options(answer["options"] as Map<*, *>)
            val vector = decodeVector((GOLDEN["vectors"] as Map<*, *>)[question] as String)
            val found = searches.getValue(answer["small"] as Boolean).search(question, vector, options)
            val case = "$question ${answer["options"]} ${answer["small"]}"
            val expected = (answer["hits"] as List<*>).map { it as Map<*, *> }
            assertEquals(case, expected.map { it["document_id"] to it["chunk"] }, found.map { it.documentId to it.chunk.toLong() })
            expected.zip(found).forEach { (hit, ours) -> checkHit(case, hit, ours) }
        }
    }

    private fun checkHit(case: String, expected: Map<*, *>, hit: IndexHit) {
        assertEquals(case, expected["text"], hit.text)
        assertEquals(case, listOf(expected["start"], expected["end"]), listOf(hit.start.toLong(), hit.end.toLong()))
        assertEquals(case, expected["title"], hit.title)
        assertEquals(case, expected["headings"], hit.headings)
        assertEquals(case, expected["metadata"], hit.metadata)
        assertEquals(case, expected["snippet"], hit.snippet)
        // The sum of standardized scores is rounded to four decimals, perhaps on the other side of a half.
        checkScore(case, expected["score"], hit.score, 1.1e-4)
        checkScore(case, expected["vector_score"], hit.vectorScore)
        checkScore(case, expected["text_score"], hit.textScore)
    }

    /** float32 is summed in another order than numpy's: the last bits may differ. */
    private fun checkScore(case: String, expected: Any?, got: Double?, near: Double = 2e-6) {
        if (expected == null || got == null) assertEquals(case, expected, got)
        else assertEquals(case, (expected as Number).toDouble(), got, near)
    }

    private fun options(given: Map<*, *>): SearchOptions {
        @Suppress("UNCHECKED_CAST")
        return SearchOptions(
            k = (given["k"] as Long? ?: 10).toInt(),
            mode = SearchMode.valueOf((given["mode"] as String? ?: "hybrid").uppercase()),
            where = given["where"] as Map<String, Any?>? ?: emptyMap(),
            minScore = given["min_score"] as Double?,
            perDocument = given["per_document"] as Boolean? ?: false,
            diversity = (given["diversity"] as Double? ?: 0.0).toFloat(),
            weights = (given["weights"] as List<*>?)?.let { it[0] as Double to it[1] as Double } ?: SearchOptions().weights,
            snippetLength = (given["snippet_length"] as Long? ?: 240).toInt(),
            marks = (given["marks"] as List<*>?)?.let { it[0] as String to it[1] as String } ?: ("**" to "**"),
        )
    }

    @Test
    fun `what cannot be searched is refused`() = opened("words") { database ->
        val search = IndexSearch(database)
        assertEquals(emptyList<IndexHit>(), search.search(" ", null))
        assertThrows(InputException::class.java) { search.search("red", null) }
        assertThrows(InputException::class.java) { search.search("red", FloatArray(3)) }
        assertThrows(InputException::class.java) { search.search("red", FloatArray(64) { Float.NaN }) }
        val text = SearchOptions(mode = SearchMode.TEXT)
        assertTrue(search.search("red\u0000planet", null, text).isNotEmpty())
        assertThrows(InputException::class.java) { search.search("\uD800", null, text) }
        for (where in listOf(mapOf("a" to mapOf("like" to 1)), mapOf("a" to Any()), mapOf("a" to emptyMap<String, Any>()))) {
            assertThrows(InputException::class.java) {
                search.search("red", null, SearchOptions(mode = SearchMode.TEXT, where = where))
            }
        }
        assertThrows(InputException::class.java) { search.search("red", null, SearchOptions(k = 0)) }
    }

    @Test
    fun `damaged files are named`() {
        val damage = listOf(
            "PRAGMA application_id = 1" to "no index", "PRAGMA user_version = 99" to "schema",
            "DELETE FROM settings WHERE name = 'dimension'" to "dimension",
            "UPDATE signs SET data = zeroblob(length(data)) WHERE block = 0" to "block 0 of signs",
            "DELETE FROM signs" to "block 0 of signs",
            "UPDATE codes SET checksum = checksum + 1" to "of codes", "DELETE FROM codes" to "of codes",
        )
        for ((statement, message) in damage) opened("words") { database ->
            database.connection.createStatement().use { it.execute(statement) }
            val error = assertThrows(IndexFileException::class.java) {
                IndexSearch(database).search("red", FloatArray(64) { 1f }, SearchOptions(mode = SearchMode.VECTOR))
            }
            assertTrue("$statement: ${error.message}", message in error.message!!)
        }
    }

    @Test
    fun `what is added meanwhile is found`() = opened("words") { database ->
        val search = IndexSearch(database)
        val ones = FloatArray(64) { 1f }
        val vector = SearchOptions(mode = SearchMode.VECTOR, k = 1)
        val first = search.search("red", ones, vector).single()
        val statements = listOf(
            "DELETE FROM documents WHERE name = '${first.documentId}'",
            "UPDATE signs SET data = zeroblob(1024) || substr(data, 1025), checksum = 0",
            "UPDATE state SET generation = generation + 1",
        )
        database.connection.createStatement().use { statement -> statements.forEach(statement::execute) }
        assertThrows(IndexFileException::class.java) { search.search("red", ones, vector) }
    }

    /** An index of the golden files, in a copy: SQLite writes beside a file that it only reads. */
    private fun opened(lexical: String, use: (Jdbc) -> Unit) {
        val folder = Files.createTempDirectory("index").toFile()
        try {
            val copy = File(File(System.getProperty("golden") ?: "../../tests/golden"), "index.$lexical.db").copyTo(File(folder, "index.db"))
            Jdbc(DriverManager.getConnection("jdbc:sqlite:$copy")).use(use)
        } finally {
            folder.deleteRecursively()
        }
    }

    private class Jdbc(val connection: Connection) : IndexDatabase {
        override fun <T> query(sql: String, parameters: List<Any>, read: (Row) -> T): List<T> =
            connection.prepareStatement(sql).use { statement ->
                parameters.forEachIndexed { at, value -> statement.setObject(at + 1, value) }
                statement.executeQuery().use { result ->
                    val row = JdbcRow(result)
                    buildList { while (result.next()) add(read(row)) }
                }
            }

        override fun <T> reading(block: () -> T): T {
            connection.autoCommit = false
            try {
                return block()
            } finally {
                connection.rollback()
                connection.autoCommit = true
            }
        }

        override fun close() = connection.close()
    }

    private class JdbcRow(private val result: ResultSet) : Row {
        override fun long(column: Int) = result.getLong(column + 1)
        override fun double(column: Int) = result.getDouble(column + 1)
        override fun text(column: Int): String? = result.getString(column + 1)
        override fun bytes(column: Int): ByteArray = result.getBytes(column + 1) ?: ByteArray(0)
    }

    private companion object {
        val GOLDEN = Json.parse(File(File(System.getProperty("golden") ?: "../../tests/golden"), "index.json").readBytes()) as Map<*, *>
    }
}
