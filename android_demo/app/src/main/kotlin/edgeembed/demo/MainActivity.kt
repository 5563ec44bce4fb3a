package edgeembed.demo

import android.net.Uri
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.compose.setContent
import androidx.activity.result.contract.ActivityResultContracts
import androidx.activity.viewModels
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.consumeWindowInsets
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.imePadding
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.material3.Button
import androidx.compose.material3.LinearProgressIndicator
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Scaffold
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle

/** Pick a model, index a collection, search by meaning. */
class MainActivity : ComponentActivity() {
    private val model: SearchViewModel by viewModels()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContent {
            MaterialTheme {
                val state by model.state.collectAsStateWithLifecycle()
                SearchScreen(state, model::openModel, model::openCollection, model::openIndex, model::search)
            }
        }
    }
}

@Composable
fun SearchScreen(
    state: SearchState,
    onModel: (Uri) -> Unit,
    onCollection: (Uri) -> Unit,
    onIndex: (Uri) -> Unit,
    onQuery: (String) -> Unit,
) {
    val pickModel = rememberLauncherForActivityResult(ActivityResultContracts.OpenDocument()) { it?.let(onModel) }
    val pickTexts = rememberLauncherForActivityResult(ActivityResultContracts.OpenDocument()) { it?.let(onCollection) }
    val pickIndex = rememberLauncherForActivityResult(ActivityResultContracts.OpenDocument()) { it?.let(onIndex) }
    Scaffold { edges ->
        Column(
            // The keyboard is open while one searches: without its padding it would hide what was found.
            modifier = Modifier.padding(edges).consumeWindowInsets(edges).imePadding().padding(16.dp).fillMaxSize(),
            verticalArrangement = Arrangement.spacedBy(12.dp),
        ) {
            Row(horizontalArrangement = Arrangement.spacedBy(12.dp)) {
                Button(onClick = { pickModel.launch(arrayOf("*/*")) }) { Text("Model") }
                Button(onClick = { pickTexts.launch(arrayOf("text/*")) }, enabled = state.model != null) { Text("Texts") }
                Button(onClick = { pickIndex.launch(arrayOf("*/*")) }, enabled = state.model != null) { Text("Index") }
            }
            Text(state.model?.let { "$it: ${state.indexed} of ${state.total} texts" } ?: "Choose a model file")
            if (state.working != null) LinearProgressIndicator(modifier = Modifier.fillMaxWidth())
            state.message?.let { Text(it, color = MaterialTheme.colorScheme.error) }
            OutlinedTextField(
                value = state.query,
                onValueChange = onQuery,
                modifier = Modifier.fillMaxWidth(),
                label = { Text("Search by meaning") },
                singleLine = true,
            )
            LazyColumn(verticalArrangement = Arrangement.spacedBy(8.dp)) {
                items(state.found, key = { it.row }) { found ->
                    Text(listOfNotNull("%.3f".format(found.score), found.source, found.text).joinToString("  "))
                }
            }
        }
    }
}
