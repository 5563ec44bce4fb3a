package edgeembed.demo

import android.app.Application
import android.net.Uri
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.viewModelScope
import edgeembed.core.EdgeEmbedException
import edgeembed.core.Embedder
import edgeembed.core.IndexSearch
import edgeembed.core.ModelFile
import edgeembed.core.Overflow
import edgeembed.core.SearchOptions
import edgeembed.core.Similarity
import edgeembed.core.VectorIndex
import java.io.File
import java.io.IOException
import java.io.InputStream
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.yield

/**
 * A text that answers the query.
 *
 * @property source The document that it is from, null for a line of a text file.
 */
data class Found(val row: Int, val text: String, val score: Float, val source: String? = null)

/**
 * All that the screen shows.
 *
 * @property model The loaded model's name, null before one is chosen.
 * @property indexed How many texts of [total] can be searched.
 * @property working What is going on, null when nothing is.
 * @property message What the user should know, null when there is nothing.
 */
data class SearchState(
    val model: String? = null,
    val indexed: Int = 0,
    val total: Int = 0,
    val query: String = "",
    val found: List<Found> = emptyList(),
    val working: String? = null,
    val message: String? = null,
)

/** Owns the model and the index. Everything slow runs on one background thread, in turn. */
class SearchViewModel(application: Application) : AndroidViewModel(application) {
    private val worker = Dispatchers.Default.limitedParallelism(1)
    private val mutableState = MutableStateFlow(SearchState())
    val state: StateFlow<SearchState> = mutableState.asStateFlow()

    // Touched on the worker only.
    private var embedder: Embedder? = null
    private var texts: List<String> = emptyList()
    private var index: VectorIndex? = null
    private var documents: IndexSearch? = null

    private var loading: Job? = null
    private var searching: Job? = null

    /** Copies the chosen file into the app, where LiteRT can map it, and loads it. */
    fun openModel(uri: Uri) = load("loading the model") {
        val file = File(getApplication<Application>().filesDir, MODEL)
        val copy = File(file.path + ".part")
        try {
            read(uri) { input -> copy.outputStream().use { input.copyTo(it) } }
            ModelFile.open(copy).verifyGraph() // what is no model leaves the one in use alone
            close()
            if (!copy.renameTo(file)) throw IOException("cannot keep ${file.name}")
        } finally {
            copy.delete()
        }
        val model = ModelFile.open(file)
        embedder = openEmbedder(model, usableThreads(), Overflow.TRUNCATE)
        mutableState.update { it.copy(model = "${model.manifest.name} ${model.manifest.recipe}") }
    }

    /** Opens an index that `edge_embed index` wrote with this model; it is copied into the app. */
    fun openIndex(uri: Uri) = load("opening the index") {
        val model = embedder ?: throw IOException("choose a model first")
        documents?.close()
        documents = null
        val file = File(getApplication<Application>().filesDir, INDEX)
        for (suffix in listOf("", "-wal", "-shm")) File(file.path + suffix).delete()
        read(uri) { input -> file.outputStream().use { input.copyTo(it) } }
        val search = IndexSearch(BundledDatabase(file))
        try {
            search.requireModel(model.manifest)
        } catch (error: EdgeEmbedException) {
            search.close()
            throw error
        }
        documents = search
        index = null
        mutableState.update { it.copy(indexed = search.chunks, total = search.chunks, found = emptyList()) }
        find(state.value.query)
    }

    /** Indexes a text file, a text per line. */
    fun openCollection(uri: Uri) = load("indexing") {
        val model = embedder ?: throw IOException("choose a model first")
        val lines = read(uri) { input -> input.bufferedReader().readLines().map { it.trim() }.filter { it.isNotEmpty() } }
        val rows = VectorIndex(model.dimension, Similarity.of(model.manifest.similarity), quantized = true)
        texts = lines
        index = rows
        documents?.close()
        documents = null
        mutableState.update { it.copy(indexed = 0, total = lines.size, found = emptyList()) }
        var cut = 0
        for (line in lines) {
            yield() // lets a query in between, and ends here when another file was chosen
            val embedding = model.encodeDocument(line)
            if (embedding.truncated) cut++
            rows.add(embedding.vector)
            mutableState.update { it.copy(indexed = rows.size) }
        }
        if (cut > 0) mutableState.update { it.copy(message = "$cut texts were cut to ${model.manifest.maxTokens} tokens") }
        find(state.value.query)
    }

    /** Searches as the user types: a newer query replaces the one before. */
    fun search(query: String) {
        mutableState.update { it.copy(query = query) }
        searching?.cancel()
        searching = viewModelScope.launch(worker) {
            delay(PAUSE_MS)
            reporting { find(query) }
        }
    }

    override fun onCleared() {
        // The worker may still be inside LiteRT; the model is closed after it, off the main thread.
        CoroutineScope(worker).launch { close() }
    }

    private fun load(what: String, block: suspend CoroutineScope.() -> Unit) {
        val before = loading?.apply { cancel() }
        loading = viewModelScope.launch(worker) {
            before?.join()
            mutableState.update { it.copy(working = what, message = null) }
            try {
                reporting { block() }
            } finally {
                mutableState.update { it.copy(working = null) }
            }
        }
    }

    private suspend fun reporting(block: suspend () -> Unit) {
        try {
            block()
        } catch (error: EdgeEmbedException) {
            mutableState.update { it.copy(message = error.message) }
        } catch (error: IOException) {
            mutableState.update { it.copy(message = error.message) }
        }
    }

    private fun find(query: String) {
        val model = embedder ?: return
        documents?.let { search ->
            val vector = if (query.isBlank()) null else model.encodeQuery(query).vector
            val hits = search.search(query, vector, SearchOptions(k = HITS))
            val found = hits.mapIndexed { row, hit -> Found(row, hit.snippet, hit.score.toFloat(), hit.documentId) }
            mutableState.update { it.copy(found = found) }
            return
        }
        val rows = index ?: return
        val hits = if (query.isBlank()) emptyList() else rows.search(model.encodeQuery(query).vector, HITS)
        mutableState.update { state -> state.copy(found = hits.map { Found(it.row, texts[it.row], it.score) }) }
    }

    private fun close() {
        embedder?.close()
        embedder = null
        index = null
        documents?.close()
        documents = null
        texts = emptyList()
        mutableState.update { SearchState(query = it.query, working = it.working) }
    }

    private fun <T> read(uri: Uri, block: (InputStream) -> T): T {
        val input = getApplication<Application>().contentResolver.openInputStream(uri)
        return (input ?: throw IOException("cannot read $uri")).use(block)
    }

    private companion object {
        const val MODEL = "model.tflite"
        const val INDEX = "index.db"
        const val PAUSE_MS = 120L
        const val HITS = 20
    }
}
