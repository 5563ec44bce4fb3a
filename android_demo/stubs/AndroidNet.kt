// Signatures of android.net that the demo uses.
package android.net

abstract class Uri
