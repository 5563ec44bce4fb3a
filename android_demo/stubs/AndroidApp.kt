// Signatures of android.app that the demo uses.
package android.app

import android.content.Context
import android.content.Intent
import android.os.Bundle

open class Application : Context()

open class Activity : Context() {
    val intent: Intent get() = throw AssertionError()

    protected open fun onCreate(savedInstanceState: Bundle?): Unit = throw AssertionError()

    fun runOnUiThread(action: Runnable): Unit = throw AssertionError()

    open fun finish(): Unit = throw AssertionError()
}
