package edgeembed.core

/**
 * A filter on metadata as SQL over `documents.id`, in the language of Python's `where`: a string, number or
 * boolean for equality, a list for one of several, a map of "gt", "gte", "lt", "lte" for a range, a map of
 * "exists" for presence, null for absence.
 */
internal class IndexWhere(where: Map<String, Any?>) {
    val sql: String
    val parameters = ArrayList<Any>()

    init {
        sql = where.entries.joinToString(" AND ") { (name, wanted) -> condition(name, wanted) }
    }

    private fun condition(name: String, wanted: Any?): String = when (wanted) {
        null -> absent(name)
        is String, is Number, is Boolean -> {
            parameters.addAll(listOf(name, scalar(name, wanted)))
            inFields("name = ? AND value = ?")
        }
        is List<*> -> if (wanted.isEmpty()) "0" else {
            val options = wanted.map { scalar(name, it) }
            parameters.addAll(listOf(name, Json.write(options)))
            inFields("name = ? AND value IN (SELECT value FROM json_each(?))")
        }
        is Map<*, *> -> operators(name, wanted)
        else -> throw unknown(name, wanted)
    }

    private fun operators(name: String, wanted: Map<*, *>): String {
        if (wanted.isEmpty() || wanted.keys.any { it !in RANGES && it != "exists" }) throw unknown(name, wanted)
        val clauses = ArrayList<String>()
        if ("exists" in wanted) {
            val exists = wanted["exists"] as? Boolean ?: throw unknown(name, wanted)
            clauses += if (exists) inFields("name = ?").also { parameters += name } else absent(name)
        }
        val ranges = wanted.filterKeys { it != "exists" }
        if (ranges.isNotEmpty()) {
            parameters += name
            val tests = ranges.map { (key, given) ->
                val bound = scalar(name, given)
                parameters += bound
                val kinds = if (bound is String) "('text')" else "('integer', 'real')"
                "value ${RANGES[key]} ? AND typeof(value) IN $kinds"
            }
            clauses += inFields((listOf("name = ?") + tests).joinToString(" AND "))
        }
        return clauses.joinToString(" AND ")
    }

    private fun absent(name: String): String {
        parameters += name
        return "documents.id NOT IN (SELECT document FROM fields WHERE name = ?)"
    }

    private fun inFields(test: String) = "documents.id IN (SELECT document FROM fields WHERE $test)"

    private fun scalar(name: String, value: Any?): Any = when (value) {
        is String -> checkText(value)
        is Boolean -> if (value) 1L else 0L
        is Int -> value.toLong()
        is Long -> value
        is Float -> scalar(name, value.toDouble())
        is Double -> if (value.isFinite()) value else throw unknown(name, value)
        else -> throw unknown(name, value)
    }

    private fun unknown(name: String, got: Any?) = InputException("the filter on $name cannot be used", "$got")

    private companion object {
        val RANGES = mapOf("gt" to ">", "gte" to ">=", "lt" to "<", "lte" to "<=")
    }
}
