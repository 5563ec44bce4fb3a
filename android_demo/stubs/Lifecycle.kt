// Signatures of androidx.lifecycle that the demo uses.
package androidx.lifecycle

import android.app.Application
import kotlinx.coroutines.CoroutineScope

abstract class ViewModel {
    protected open fun onCleared(): Unit = Unit
}

open class AndroidViewModel(application: Application) : ViewModel() {
    open fun <T : Application> getApplication(): T = throw AssertionError()
}

val ViewModel.viewModelScope: CoroutineScope get() = throw AssertionError()
