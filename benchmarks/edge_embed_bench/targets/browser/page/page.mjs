// The engine under measurement in a browser: LiteRT.js over one model file. Every clock runs here.

import {loadAndCompile, loadLiteRt, supportsFeature, Tensor, TensorBufferType} from '@litertjs/core';

const INPUT = 'tokens';
const OUTPUT = 'embedding';

let model = null;
let job = null;

/** Compiles LiteRT's WebAssembly. A GPU needs JSPI to hand single operators back to the processor. */
async function open({gpu, threads}) {
  const jspi = gpu && (await supportsFeature('jspi'));
  const started = performance.now();
  await loadLiteRt('/modules/@litertjs/core/wasm/', {threads: !gpu && threads > 1, jspi});
  return {import_s: seconds(started), jspi, isolated: crossOriginIsolated};
}

/** Fetches a model over loopback and compiles it. */
async function load(options) {
  job = options;
  const started = performance.now();
  const answer = await fetch(job.url);
  if (!answer.ok) throw new Error(`the model cannot be fetched: ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  model = await loadAndCompile(bytes, {
    accelerator: job.gpu ? 'webgpu' : 'wasm',
    ...(job.gpu ? {gpuOptions: {precision: job.float16 ? 'fp16' : 'fp32'}} : {}),
  });
  return {load_s: seconds(started), complete: model.isFullyAccelerated};
}

/** Runs a batch of token ids `calls` times, one text after another. */
async function embed({batch, calls, vectors}) {
  const samples_s = [];
  let result = [];
  for (let call = 0; call < calls; call++) {
    const started = performance.now();
    result = [];
    for (const ids of batch) result.push(await run(ids));
    samples_s.push(seconds(started));
  }
  // A page cannot read its processor time.
  return {samples_s, processor_s: [], ...(vectors ? {vectors: result} : {})};
}

async function run(ids) {
  const length = job.buckets.find((bucket) => bucket >= ids.length);
  const tokens = new Int32Array(length).fill(job.pad_id);
  tokens.set(ids);
  let input = new Tensor(tokens, [1, length]);
  if (job.gpu) input = await input.moveTo('webgpu');
  const outputs = await model.run(`embed_${length}`, {[INPUT]: input});
  const output = outputs[OUTPUT];
  // The vector must have arrived before the clock stops.
  const here = job.gpu ? await output.copyTo('wasm') : output;
  const vector = Array.from(here.toTypedArray());
  for (const tensor of new Set([input, output, here])) tensor.delete();
  return vector;
}

/** Names the WebGPU adapter, or returns null where there is none. */
async function adapter() {
  const found = await navigator.gpu?.requestAdapter();
  if (!found) return null;
  const {vendor, architecture, device, description} = found.info;
  return description || [vendor, architecture, device].filter(Boolean).join(' ') || 'unnamed';
}

function seconds(started) {
  return (performance.now() - started) / 1000;
}

window.bench = {adapter, embed, load, open};
