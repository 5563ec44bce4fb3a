// Signatures of androidx.activity:activity-compose that the demo uses.
package androidx.activity.compose

import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContract
import androidx.compose.runtime.Composable

class ManagedActivityResultLauncher<I, O> internal constructor() {
    fun launch(input: I): Unit = throw AssertionError()
}

@Composable
fun <I, O> rememberLauncherForActivityResult(
    contract: ActivityResultContract<I, O>, onResult: (O) -> Unit,
): ManagedActivityResultLauncher<I, O> = throw AssertionError()

fun ComponentActivity.setContent(content: @Composable () -> Unit): Unit = throw AssertionError()
