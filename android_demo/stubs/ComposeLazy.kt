// Signatures of androidx.compose.foundation.lazy that the demo uses.
package androidx.compose.foundation.lazy

import androidx.compose.foundation.layout.Arrangement
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

interface LazyItemScope

interface LazyListScope

fun <T> LazyListScope.items(
    items: List<T>, key: ((item: T) -> Any)? = null, itemContent: @Composable LazyItemScope.(item: T) -> Unit,
): Unit = throw AssertionError()

@Composable
fun LazyColumn(
    modifier: Modifier = Modifier, verticalArrangement: Arrangement.Vertical = throw AssertionError(),
    content: LazyListScope.() -> Unit,
): Unit = throw AssertionError()
