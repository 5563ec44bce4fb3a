// Signatures of androidx.compose.foundation.layout that the demo uses.
package androidx.compose.foundation.layout

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.Dp

interface PaddingValues

interface ColumnScope

interface RowScope

object Arrangement {
    interface Horizontal

    interface Vertical

    interface HorizontalOrVertical : Horizontal, Vertical

    fun spacedBy(space: Dp): HorizontalOrVertical = throw AssertionError()
}

fun Modifier.padding(paddingValues: PaddingValues): Modifier = throw AssertionError()

fun Modifier.padding(all: Dp): Modifier = throw AssertionError()

fun Modifier.fillMaxSize(fraction: Float = 1f): Modifier = throw AssertionError()

fun Modifier.fillMaxWidth(fraction: Float = 1f): Modifier = throw AssertionError()

@Composable
fun Column(
    modifier: Modifier = Modifier, verticalArrangement: Arrangement.Vertical = throw AssertionError(),
    content: @Composable ColumnScope.() -> Unit,
): Unit = throw AssertionError()

@Composable
fun Row(
    modifier: Modifier = Modifier, horizontalArrangement: Arrangement.Horizontal = throw AssertionError(),
    content: @Composable RowScope.() -> Unit,
): Unit = throw AssertionError()
