package edgeembed.core

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.charset.CharacterCodingException
import java.security.MessageDigest
import java.util.zip.CRC32

/** A text that a file was verified with, and the name of the prompt before it. */
class Probe(val text: String, val promptName: String?)

/**
 * A model file: a LiteRT flatbuffer followed by a stored zip. Opening reads the zip's directory and the
 * manifest and hashes nothing. Every name, size and position is checked before it is used.
 */
class ModelFile private constructor(val file: File, val manifest: Manifest, private val members: Map<String, Member>) {
    internal class Member(val start: Long, val offset: Long, val size: Long, val crc: Long)

    val names: List<String> get() = members.keys.toList()

    /** Returns a member's content, checked against its checksum; the tokenizer also against its hash. */
    fun read(name: String): ByteArray {
        val member = members[name]
            ?: throw ModelFileException("$file has no member $name", names.joinToString(), "convert the model again")
        val data = reading(file) { readMember(it, file, name, member) }
        val record = manifest.tokenizer
        if (name == record.file && hex(MessageDigest.getInstance("SHA-256").digest(data)) != record.sha256) {
            throw ModelFileException("the tokenizer in $file is not the one that its manifest describes", fix = REPAIR)
        }
        return data
    }

    /** Returns the texts that the file was verified with; none if it carries none. */
    fun probes(): List<Probe> {
        if (PROBES !in names) return emptyList()
        return try {
            val items = (Json.parse(read(PROBES)) as Map<*, *>)["probes"] as List<*>
            items.map { it as Map<*, *> }.map { Probe(it["text"] as String, it["prompt_name"] as String?) }
        } catch (error: JsonException) {
            throw ModelFileException("the probes in $file are damaged", error.message, REPAIR)
        } catch (error: ClassCastException) {
            throw ModelFileException("the probes in $file are damaged", "values of another type", REPAIR)
        } catch (error: NullPointerException) {
            throw ModelFileException("the probes in $file are damaged", "values that are missing", REPAIR)
        }
    }

    /** Hashes the graph and compares with the manifest. */
    fun verifyGraph() {
        val found = hash(manifest.graphBytes)
        if (found != manifest.graphSha256) throw ModelFileException("the graph in $file is damaged", "sha256 $found", REPAIR)
    }

    /** Returns the hash of the whole file. */
    fun sha256(): String = hash(Long.MAX_VALUE)

    private fun hash(bytes: Long): String {
        val digest = MessageDigest.getInstance("SHA-256")
        reading(file) { handle ->
            val chunk = ByteArray(1 shl 20)
            var left = bytes
            while (left > 0) {
                val count = handle.read(chunk, 0, minOf(left, chunk.size.toLong()).toInt())
                if (count < 0) break
                digest.update(chunk, 0, count)
                left -= count
            }
        }
        return hex(digest.digest())
    }

    companion object {
        private const val REPAIR = "download or copy the file again"
        private const val PROBES = "probes.json"
        private const val MANIFEST_LIMIT = 16L shl 20
        private const val MEMBER_LIMIT = 256L shl 20
        private const val MEMBERS_LIMIT = 4096
        private const val END_RECORD = 22
        private const val ENTRY = 46
        private const val LOCAL_HEADER = 30
        private const val NEWEST_ZIP = 63
        private const val OLD_NAMES = // code page 437 from 0x80, for names without the UTF-8 flag
            "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
                "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00A0"

        /** Reads the zip's directory and the manifest. */
        fun open(file: File): ModelFile {
            if (!file.exists()) throw ModelFileException("there is no model file at $file", fix = "check the path")
            if (!file.isFile) throw ModelFileException("$file is not a file", fix = "check the path")
            return reading(file) { handle ->
                val members = readDirectory(handle, file)
                val manifest = Manifest.parse(readMember(handle, file, Manifest.FILE, members.getValue(Manifest.FILE)))
                if (manifest.graphBytes !in 8..members.values.minOf { it.start }) {
                    throw ModelFileException("the graph and the zip part of $file overlap", fix = REPAIR)
                }
                ModelFile(file, manifest, members)
            }
        }

        private fun <T> reading(file: File, block: (RandomAccessFile) -> T): T = try {
            RandomAccessFile(file, "r").use(block)
        } catch (error: IOException) {
            throw ModelFileException("cannot read the model file $file", error.message)
        }

        private fun readDirectory(handle: RandomAccessFile, file: File): Map<String, Member> {
            val size = handle.length()
            val head = bytes(handle, 0, 8)
            if (head.size < 8 || String(head, 4, 4, Charsets.ISO_8859_1) != "TFL3") {
                throw ModelFileException("$file is not a model file", "no TFL3 at offset 4 of $size bytes")
            }
            val end = bytes(handle, maxOf(size - END_RECORD, 0), END_RECORD)
            if (end.size < END_RECORD || !signed(end, 5, 6) || end[20] != 0.toByte() || end[21] != 0.toByte()) {
                throw ModelFileException(
                    "$file is a LiteRT model without the zip part that edge_embed appends",
                    "a model that edge_embed did not write, or a file that was cut short",
                    "convert the checkpoint with 'edge_embed convert', or download the file again",
                )
            }
            // A zip of the 64-bit form has one more record here; a flatbuffer is never so large.
            if (signed(bytes(handle, maxOf(size - END_RECORD - 20, 0), 4), 6, 7)) throw damaged(file, "a zip of 64 bits")
            val record = ByteBuffer.wrap(end).order(ByteOrder.LITTLE_ENDIAN)
            val length = record.getInt(12).toLong() and 0xFFFFFFFFL
            // Offsets count from the start of the zip where the zip was made apart from the graph.
            val shift = size - END_RECORD - length - (record.getInt(16).toLong() and 0xFFFFFFFFL)
            val start = size - END_RECORD - length
            if (start < 0 || length > MANIFEST_LIMIT) throw damaged(file, "a directory of $length bytes")
            val members = parseDirectory(handle, bytes(handle, start, length.toInt()), shift, size, file)
            val ranges = members.values.map { it.start to it.offset + it.size }.sortedWith(compareBy({ it.first }, { it.second }))
            if (ranges.zipWithNext().any { (a, b) -> a.second > b.first }) throw damaged(file, "members that overlap")
            if (Manifest.FILE !in members) {
                throw ManifestException(
                    "$file has a zip part without ${Manifest.FILE}",
                    members.keys.take(8).joinToString().ifEmpty { "an empty zip" },
                    "convert the checkpoint with 'edge_embed convert'",
                )
            }
            return members
        }

        private fun parseDirectory(
            handle: RandomAccessFile, directory: ByteArray, shift: Long, size: Long, file: File,
        ): Map<String, Member> {
            val entries = ByteBuffer.wrap(directory).order(ByteOrder.LITTLE_ENDIAN)
            val members = LinkedHashMap<String, Member>()
            var at = 0
            while (at < directory.size) {
                if (directory.size - at < ENTRY) throw damaged(file, "a directory that was cut")
                if (!signed(directory, 1, 2, at)) throw damaged(file, "a directory entry without its mark")
                if (directory[at + 6].toInt() and 0xFF > NEWEST_ZIP) throw damaged(file, "a zip of an unknown version")
                fun short(offset: Int) = entries.getShort(at + offset).toInt() and 0xFFFF
                fun int(offset: Int) = entries.getInt(at + offset).toLong() and 0xFFFFFFFFL
                val nameEnd = minOf(at + ENTRY + short(28), directory.size)
                val extraEnd = minOf(nameEnd + short(30), directory.size)
                val rawName = directory.copyOfRange(at + ENTRY, nameEnd)
                requireExtra(directory, nameEnd, extraEnd, file)
                val name = decodeName(rawName, short(8), file)
                val member = locate(handle, rawName, int(42) + shift, int(24), int(16), size, file) {
                    suspicious(name, short(8), short(10), int(20), int(24), int(42) + shift, size)
                }
                if (members.put(name, member) != null) throw damaged(file, "two members named $name")
                if (members.size > MEMBERS_LIMIT) throw damaged(file, "more than $MEMBERS_LIMIT members")
                at += ENTRY + short(28) + short(30) + short(32)
            }
            return members
        }

        private fun requireExtra(data: ByteArray, from: Int, to: Int, file: File) {
            var at = from
            while (to - at >= 4) {
                val length = (data[at + 2].toInt() and 0xFF) or ((data[at + 3].toInt() and 0xFF) shl 8)
                if (at + 4 + length > to) throw damaged(file, "a directory entry with a damaged extra field")
                at += 4 + length
            }
        }

        private fun decodeName(raw: ByteArray, flags: Int, file: File): String {
            val name = if (flags and 0x800 == 0) {
                raw.map { val b = it.toInt() and 0xFF; if (b < 0x80) b.toChar() else OLD_NAMES[b - 0x80] }.joinToString("")
            } else {
                try {
                    Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(raw)).toString()
                } catch (error: CharacterCodingException) {
                    throw damaged(file, "a member's name that is not UTF-8")
                }
            }
            return name.substringBefore('\u0000') // as zipfile names it
        }

        /** Returns what is wrong with a directory entry, if anything. */
        private fun suspicious(
            name: String, flags: Int, method: Int, stored: Long, length: Long, start: Long, size: Long,
        ): String? {
            val limit = if (name == Manifest.FILE) MANIFEST_LIMIT else MEMBER_LIMIT
            val unsafe = name.isEmpty() || name.startsWith("/") || name.endsWith("/") || "\\" in name ||
                ".." in name.split("/") || Regex("^[A-Za-z]:").containsMatchIn(name) || !printable(name)
            return when {
                unsafe -> "a member with an unsafe name"
                flags and 1 != 0 -> "the member $name is encrypted"
                method != 0 || stored != length -> "the member $name is compressed; ours are stored"
                length > minOf(limit, size) -> "the member $name declares $length bytes"
                start !in 0 until size -> "the member $name lies outside the file"
                else -> null
            }
        }

        private fun printable(name: String): Boolean = name.codePoints().allMatch { point ->
            when (Character.getType(point).toByte()) {
                Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
                Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR -> false
                Character.SPACE_SEPARATOR -> point == ' '.code
                else -> true
            }
        }

        private fun locate(
            handle: RandomAccessFile, rawName: ByteArray, start: Long, length: Long, crc: Long, size: Long, file: File,
            problem: () -> String?,
        ): Member {
            problem()?.let { throw damaged(file, it) }
            val raw = bytes(handle, start, LOCAL_HEADER)
            if (raw.size < LOCAL_HEADER || !signed(raw, 3, 4)) throw damaged(file, "a member without its local header")
            val header = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN)
            val nameLength = header.getShort(26).toInt() and 0xFFFF
            val offset = start + LOCAL_HEADER + nameLength + (header.getShort(28).toInt() and 0xFFFF)
            if (!bytes(handle, start + LOCAL_HEADER, nameLength).contentEquals(rawName)) {
                throw damaged(file, "two different names for one member")
            }
            if (offset + length > size) throw damaged(file, "a member that lies outside the file")
            return Member(start, offset, length, crc)
        }

        private fun readMember(handle: RandomAccessFile, file: File, name: String, member: Member): ByteArray {
            val data = bytes(handle, member.offset, member.size.toInt())
            val crc = CRC32().apply { update(data) }
            if (data.size.toLong() != member.size || crc.value != member.crc) {
                throw damaged(file, "the content of $name does not match its checksum")
            }
            return data
        }

        /** Returns up to `count` bytes from `start`: fewer where the file ends. */
        private fun bytes(handle: RandomAccessFile, start: Long, count: Int): ByteArray {
            val available = (handle.length() - start).coerceIn(0, count.toLong()).toInt()
            handle.seek(start)
            return ByteArray(available).also { handle.readFully(it) }
        }

        private fun signed(data: ByteArray, third: Int, fourth: Int, at: Int = 0): Boolean =
            data.size >= at + 4 && data[at] == 'P'.code.toByte() && data[at + 1] == 'K'.code.toByte() &&
                data[at + 2].toInt() == third && data[at + 3].toInt() == fourth

        private fun damaged(file: File, got: String) =
            ModelFileException("the zip part of $file is damaged", got, REPAIR)

        private fun hex(data: ByteArray): String = data.joinToString("") { "%02x".format(it) }
    }
}
