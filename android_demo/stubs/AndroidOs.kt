// Signatures of android.os that the demo uses.
package android.os

class Bundle

object Build {
    val HARDWARE: String get() = throw AssertionError()
    val MANUFACTURER: String get() = throw AssertionError()
    val MODEL: String get() = throw AssertionError()
    val SOC_MODEL: String get() = throw AssertionError()

    object VERSION {
        val RELEASE: String get() = throw AssertionError()
        val SDK_INT: Int get() = throw AssertionError()
    }

    object VERSION_CODES {
        const val S = 31
    }
}

object Process {
    fun getStartElapsedRealtime(): Long = throw AssertionError()
}

object SystemClock {
    fun elapsedRealtime(): Long = throw AssertionError()
}
