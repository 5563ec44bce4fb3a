// Signatures of androidx.compose.ui.unit that the demo uses.
package androidx.compose.ui.unit

class Dp internal constructor()

val Int.dp: Dp get() = throw AssertionError()
