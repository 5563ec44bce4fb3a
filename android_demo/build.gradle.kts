// The Android plugin brings a Kotlin of its own, older than the one that LiteRT's and AndroidX's libraries may be compiled with.
buildscript {
    dependencies {
        classpath(libs.kotlin.gradle)
    }
}

plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.compose) apply false
}
