// Signatures of android.content that the demo uses.
package android.content

import android.net.Uri
import java.io.File
import java.io.InputStream

abstract class Context {
    open val contentResolver: ContentResolver get() = throw AssertionError()
    open val filesDir: File get() = throw AssertionError()
    open val packageName: String get() = throw AssertionError()

    open fun getExternalFilesDir(type: String?): File? = throw AssertionError()
}

abstract class ContentResolver {
    fun openInputStream(uri: Uri): InputStream? = throw AssertionError()
}

open class Intent {
    fun getBooleanExtra(name: String, defaultValue: Boolean): Boolean = throw AssertionError()

    fun getIntExtra(name: String, defaultValue: Int): Int = throw AssertionError()

    fun getStringExtra(name: String): String? = throw AssertionError()
}
