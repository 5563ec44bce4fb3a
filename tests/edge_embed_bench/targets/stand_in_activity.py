"""What the stand-in phone runs for the demo's benchmark activity: the same extras in, the same file out.

It really runs the pushed model, through our measuring module. The file has the shape of
tests/golden/record.json, which the Kotlin tests prove to be the shape of what the app writes.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

PHONE = Path(sys.argv[1])
GOLDEN = Path(__file__).parents[2] / "golden" / "record.json"
FILES = PHONE / "sdcard/Android/data/edgeembed.demo/files"


def extras(words):
    """Parses `--es model x --ei length 8 --ez probes true`."""
    found = {}
    for at, word in enumerate(words):
        if word in ("--es", "--ei", "--ez"):
            value = words[at + 2]
            found[words[at + 1]] = {"--es": str, "--ei": int, "--ez": lambda v: v == "true"}[word](value)
    return found


def probes(model, threads):
    from edge_embed.model_file.file import ModelFile
    from edge_embed.proof.rerun import Rerun

    with Rerun(model, threads) as rerun:
        rows = [rerun.answer(probe) for probe in ModelFile.open(model).probes()]
    answers = [
        {"tokens": tokens, "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
        for tokens, vector in rows
    ]
    return {"schema_version": 2, "answers": answers, "error": None}


def measured(model, options):
    from edge_embed.model_file.file import ModelFile
    from edge_embed_bench.files import sha256_of
    from edge_embed_bench.worker import measure, token_ids

    manifest = ModelFile.open(model).manifest
    worker = measure.Worker()
    import_s = worker.open("edge_embed_bench.worker.own_engine:EdgeEmbed")["import_s"]
    length, threads = options["length"], options["threads"]
    job = {"model": str(model), "artifact": None, "cache": "memory", "threads": threads, "length": length}
    load = worker.load(**job)["load_s"]
    batch = token_ids.batch(manifest.tokenizer, length, 1, options["seed"])
    first = worker.embed(batch, 1)["samples_s"][0]
    worker.embed(batch, options["warmup"])
    samples = worker.embed(batch, options["repetitions"])["samples_s"]
    middle = float(np.median(samples))
    whole = json.loads(GOLDEN.read_text())
    record = copy.deepcopy(whole["records"][0])
    record["model"] |= {
        "name": manifest.name,
        "file": model.name,
        "sha256": sha256_of(model),
        "recipe": manifest.recipe.name,
        "dimension": manifest.dimension,
        "buckets": manifest.buckets,
    }
    record["cell"] |= {"length": length, "threads": threads}
    record["load"] |= {"import_s": import_s, "cold_s": load, "cold_first_s": first}
    record["latency"] = {
        "tokens": length,
        "samples_s": samples,
        "median_s": middle,
        "p95_s": float(np.percentile(samples, 95)),
        "tokens_per_s": length / middle,
        "texts_per_s": 1 / middle,
    }
    record["memory"] = worker.memory()
    record["storage"]["file_bytes"] = model.stat().st_size
    return whole | {"records": [record], "error": None}


def main():
    options = extras(sys.argv[2:])
    behaviour = (PHONE / "behaviour").read_text().strip()
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "unplugged":
        (PHONE / "devices").write_text("")
    if behaviour in ("unplugged", "hung"):
        time.sleep(60)
    model, threads = FILES / options["model"], options.get("threads", 1)
    if behaviour == "refused":
        content = {"schema_version": 2, "records": [], "error": "the graph is damaged"}
    else:
        content = probes(model, threads) if options.get("probes") else measured(model, options)
    part = FILES / (options["out"] + ".part")
    part.write_text(json.dumps(content))
    part.rename(FILES / options["out"])


if __name__ == "__main__":
    main()
