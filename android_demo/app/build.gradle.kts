plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.compose)
}

android {
    namespace = "edgeembed.demo"
    compileSdk = 37

    defaultConfig {
        applicationId = "edgeembed.demo"
        minSdk = 26 // java.util.Base64 and java.nio.file; LiteRT itself takes 24
        targetSdk = 36
        versionCode = 1
        versionName = "0.1"
        // The benchmark's records name the runtime that they measured.
        buildConfigField("String", "LITERT_VERSION", "\"${libs.versions.litert.get()}\"")
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    buildFeatures {
        compose = true
        buildConfig = true
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    testOptions.unitTests.all {
        it.systemProperty("golden", rootDir.resolve("../tests/golden").path)
    }
}

dependencies {
    implementation(libs.activity.compose)
    implementation(platform(libs.compose.bom))
    implementation(libs.compose.material3)
    implementation(libs.coroutines.android)
    implementation(libs.lifecycle.runtime.compose)
    implementation(libs.lifecycle.viewmodel)
    implementation(libs.litert)
    implementation(libs.sqlite.bundled)
    testImplementation(libs.junit)
    testImplementation(libs.sqlite.jdbc)
}
