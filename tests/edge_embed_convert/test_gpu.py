"""What conversion does for GPUs: both families are taken whole, and the rewrites change no bit on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_embed.engine.litert.gpu_graph import read_graph
from edge_embed.engine.litert.log import captured_log
from edge_embed_convert.graph.passes.keep_batch import keep_batch

DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")

TEXTS = ["a text of a few words", "words " * 100]

ON_GPU = f"""
import dataclasses, json, sys, warnings
from edge_embed import Embedder
warnings.simplefilter("ignore")
texts = {TEXTS!r}
with Embedder(sys.argv[1], weight_cache="memory", num_threads=1) as cpu:
    expected = cpu.encode(texts)
with Embedder(sys.argv[1], accelerator="gpu", weight_cache="memory", num_threads=1) as gpu:
    cosines = (expected * gpu.encode(texts)).sum(-1).tolist()
    print(json.dumps(dataclasses.asdict(gpu.acceleration) | {{"cosines": cosines}}))
"""


@pytest.mark.device("gpu")
@pytest.mark.parametrize(
    ("family", "least"), [("gemma_file", 0.99), ("bert_file", 0.999)], ids=["gemma", "bert"]
)
def test_the_gpu_takes_the_family_whole(family, least, request):
    path = request.getfixturevalue(family).path
    environment = os.environ | {
        "VK_DRIVER_FILES": str(DRIVER),
        "LD_LIBRARY_PATH": str(DRIVER.parent),
        "XDG_RUNTIME_DIR": "/tmp",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_GPU, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["complete"], report["outside"]
    assert report["outside"] == []
    assert min(report["cosines"]) > least


def _run(graph, length, tokens):
    from ai_edge_litert.interpreter import Interpreter

    with captured_log():
        runner = Interpreter(model_content=graph).get_signature_runner(f"embed_{length}")
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(tokens)] = tokens
        return runner(tokens=padded)["embedding"]


@pytest.mark.parametrize("family", ["gemma_file", "bert_file"])
def test_a_scale_per_row_changes_nothing_on_the_cpu(family, request):
    conversion = request.getfixturevalue(family)
    size = conversion.manifest.graph.bytes
    before, after = conversion.path.read_bytes()[:size], read_graph(conversion.path, size)
    rows = conversion.manifest.tokenizer.vocab_size
    assert size + 12 * rows <= len(after) < size + 24 * rows  # one list of each kind for all buckets
    for length in conversion.manifest.buckets:
        tokens = conversion.manifest.self_check.tokens[:length]
        np.testing.assert_array_equal(_run(after, length, tokens), _run(before, length, tokens))


def test_projections_keep_the_batch(bert_file):
    from ai_edge_litert.tools import flatbuffer_utils as utils

    size = bert_file.manifest.graph.bytes
    model = utils.read_model_from_bytearray(bytearray(bert_file.path.read_bytes()[:size]))
    shapes = [
        [len(graph.tensors[i].shape) for i in (op.inputs[0], op.outputs[0])]
        for graph in model.subgraphs
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode == utils.BuiltinOperator.FULLY_CONNECTED
    ]
    assert shapes
    assert all(pair == [3, 3] for pair in shapes)
    tensors = [len(graph.tensors) for graph in model.subgraphs]
    keep_batch(model)  # what is done already stays as it is
    assert [len(graph.tensors) for graph in model.subgraphs] == tensors
