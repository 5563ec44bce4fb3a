// Signatures of androidx.compose.material3 that the demo uses.
package androidx.compose.material3

import androidx.compose.foundation.layout.PaddingValues
import androidx.compose.foundation.layout.RowScope
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

class Color

class ColorScheme internal constructor(val error: Color)

object MaterialTheme {
    val colorScheme: ColorScheme
        @Composable get() = throw AssertionError()
}

@Composable
fun MaterialTheme(content: @Composable () -> Unit): Unit = throw AssertionError()

@Composable
fun Scaffold(modifier: Modifier = Modifier, content: @Composable (PaddingValues) -> Unit): Unit = throw AssertionError()

@Composable
fun Button(
    onClick: () -> Unit, modifier: Modifier = Modifier, enabled: Boolean = true, content: @Composable RowScope.() -> Unit,
): Unit = throw AssertionError()

@Composable
fun Text(text: String, modifier: Modifier = Modifier, color: Color = Color()): Unit = throw AssertionError()

@Composable
fun LinearProgressIndicator(modifier: Modifier = Modifier): Unit = throw AssertionError()

@Composable
fun OutlinedTextField(
    value: String, onValueChange: (String) -> Unit, modifier: Modifier = Modifier, enabled: Boolean = true,
    label: (@Composable () -> Unit)? = null, singleLine: Boolean = false,
): Unit = throw AssertionError()
