#!/usr/bin/env bash
# Compiles the demo and runs its core's tests on this machine's Java, without Gradle and without an SDK.
#
#   ./test.sh           says what is missing, and otherwise tests
#   ./test.sh --fetch   also fetches what is missing: the Kotlin compiler from npm, JUnit and SQLite from Debian,
#                       and, as root on Debian, installs Java and npm
#
# TOOLS is where fetched tools are kept.
set -euo pipefail
cd "$(dirname "$0")"

KOTLIN_VERSION=2.4.20
TOOLS=${TOOLS:-$PWD/build/tools}
OUT=build/jvm
KOTLIN=$TOOLS/package/lib

fetch() {
    mkdir -p "$TOOLS"
    local programs=()
    command -v java >/dev/null || programs+=(openjdk-17-jre-headless)
    command -v npm >/dev/null || programs+=(npm)
    if ((EUID == 0 && ${#programs[@]})); then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${programs[@]}" >&2
    fi
    if [[ ! -f $KOTLIN/kotlin-compiler.jar ]]; then
        npm pack --silent --pack-destination "$TOOLS" "kotlin-compiler@$KOTLIN_VERSION" >&2
        tar -xzf "$TOOLS/kotlin-compiler-$KOTLIN_VERSION.tgz" -C "$TOOLS"
        rm "$TOOLS/kotlin-compiler-$KOTLIN_VERSION.tgz"
    fi
    if ! junit >/dev/null || ! sqlite >/dev/null; then
        # Unpacked here rather than installed: that needs no root and leaves the system as it is.
        (cd "$TOOLS" && apt-get download --quiet junit4 libhamcrest-java \
            libxerial-sqlite-jdbc-java libxerial-sqlite-jdbc-jni >&2)
        for package in "$TOOLS"/*.deb; do dpkg-deb -x "$package" "$TOOLS/debian"; done
        rm "$TOOLS"/*.deb
    fi
}

# Prints JUnit's class path: the system's packages, else what was fetched.
junit() {
    local root
    for root in "" "$TOOLS/debian"; do
        if [[ -e $root/usr/share/java/junit4.jar && -e $root/usr/share/java/hamcrest.jar ]]; then
            echo "$root/usr/share/java/junit4.jar:$root/usr/share/java/hamcrest.jar"
            return
        fi
    done
    return 1
}

# Prints the jar with the JDBC driver, and the folder with its native library, which the tests' SQLite is.
sqlite() {
    local root jar library
    for root in "" "$TOOLS/debian"; do
        jar=$root/usr/share/java/xerial-sqlite-jdbc.jar
        library=$(find "$root/usr/lib" -name libsqlitejdbc.so -print -quit 2>/dev/null)
        if [[ -e $jar && -n $library ]]; then
            echo "$jar $(dirname "$library")"
            return
        fi
    done
    return 1
}

compile() { # OUT CLASSPATH FILES-AND-OPTIONS...
    local out=$1 path=$2
    shift 2
    java -jar "$KOTLIN/kotlin-compiler.jar" "$@" -d "$out" -classpath "$KOTLIN/kotlin-stdlib.jar:$path" \
        -no-stdlib -no-reflect -jvm-target 17 -Werror
}

# What could not be fetched is named below as missing.
[[ ${1:-} != --fetch ]] || fetch || true

missing=()
command -v java >/dev/null || missing+=("java 17 or newer (Debian: openjdk-17-jre-headless)")
[[ -f $KOTLIN/kotlin-compiler.jar ]] || missing+=("kotlin-compiler $KOTLIN_VERSION from npm, unpacked in $TOOLS")
junit >/dev/null || missing+=("JUnit 4 (Debian: junit4)")
sqlite >/dev/null || missing+=("SQLite's JDBC driver (Debian: libxerial-sqlite-jdbc-java)")
if ((${#missing[@]})); then
    printf 'test-android needs:\n' >&2
    printf '  %s\n' "${missing[@]}" >&2
    printf 'to fetch them: android_demo/test.sh --fetch (needs npm, apt-get and the network)\n' >&2
    exit 3
fi

sources=app/src/main/kotlin/edgeembed
tests=app/src/test/kotlin
mkdir -p $OUT
echo "compiling the core and its tests" >&2
compile $OUT/core.jar "" $sources/core
compile $OUT/tests.jar "$OUT/core.jar:$(junit)" $tests -Xfriend-paths=$OUT/core.jar
echo "compiling the Android layer against signatures (stubs/)" >&2
# The compiler brings coroutines of a version in which limitedParallelism was still an experiment.
rm -rf $OUT/stubs
mkdir $OUT/stubs
awk -v out=$OUT/stubs '/^package /{file = sprintf("%s/%02d.kt", out, ++count)} file {print >file}' stubs/*.txt
compile $OUT/demo.jar "$OUT/core.jar:$KOTLIN/kotlinx-coroutines-core-jvm.jar" $sources/demo $OUT/stubs \
    -opt-in=kotlinx.coroutines.ExperimentalCoroutinesApi
classes=$(cd $tests && find . -name '*Test.kt' | sed 's#^\./##; s#\.kt$##; s#/#.#g' | sort)
# shellcheck disable=SC2086 # one argument per class
read -r jdbc native < <(sqlite)
java -Dgolden=../tests/golden -Dorg.sqlite.lib.path="$native" \
    -cp "$OUT/core.jar:$OUT/tests.jar:$KOTLIN/kotlin-stdlib.jar:$(junit):$jdbc" \
    org.junit.runner.JUnitCore $classes
