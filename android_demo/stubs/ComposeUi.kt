// Signatures of androidx.compose.ui that the demo uses.
package androidx.compose.ui

interface Modifier {
    companion object : Modifier
}
