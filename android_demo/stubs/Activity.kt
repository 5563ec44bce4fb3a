// Signatures of androidx.activity that the demo uses.
package androidx.activity

import android.app.Activity
import androidx.lifecycle.ViewModel

open class ComponentActivity : Activity()

inline fun <reified VM : ViewModel> ComponentActivity.viewModels(): Lazy<VM> = throw AssertionError()
