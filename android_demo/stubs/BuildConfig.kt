// What Gradle generates for the demo.
package edgeembed.demo

object BuildConfig {
    const val LITERT_VERSION = "2.3.0"
}
