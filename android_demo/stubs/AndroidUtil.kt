// Signatures of android.util that the demo uses.
package android.util

object Log {
    fun i(tag: String, message: String): Int = throw AssertionError()

    fun e(tag: String, message: String, error: Throwable): Int = throw AssertionError()
}
