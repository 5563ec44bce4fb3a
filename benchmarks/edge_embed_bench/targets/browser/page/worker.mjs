// The measuring process of the browser target: answers lines of JSON, as edge_embed_bench.measure does, out
// of a page in headless Chromium. Arguments: one JSON object, see `_Browser.launch`.

import {createServer} from 'node:http';
import {createReadStream, existsSync, readFileSync, statSync} from 'node:fs';
import {createRequire} from 'node:module';
import {availableParallelism} from 'node:os';
import {extname, join, normalize} from 'node:path';
import {createInterface} from 'node:readline';

const options = JSON.parse(process.argv[2]);
const require = createRequire(join(options.modules, 'node_modules', 'x.js'));
const {chromium} = require('playwright-core');

const TYPES = {
  '.html': 'text/html', '.mjs': 'text/javascript', '.js': 'text/javascript', '.wasm': 'application/wasm',
};
const PROFILE = [
  '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const ON_GPU = ['--enable-unsafe-webgpu', '--enable-features=Vulkan'];
const SOFTWARE = ['--use-webgpu-adapter=swiftshader', '--enable-unsafe-swiftshader'];

let context = null;
let page = null;
let runtime = null;
let profiles = 0;
let death = null;
const said = [];

const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
  const file = path.startsWith('/modules/') ? join(options.modules, 'node_modules', path.slice(9))
    : path.startsWith('/page/') ? join(options.page, path.slice(6))
    : options.models[path.slice(1)]?.graph;
  try {
    const {size} = statSync(file);
    response.writeHead(200, {
      'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream', 'Content-Length': size,
      // Without these two a page gets neither threads nor an exact clock.
      'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp',
      'Cache-Control': 'no-store',
    });
    createReadStream(file).pipe(response);
  } catch {
    response.writeHead(404).end();
  }
});

const operations = {
  async open() {
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    await start(options.gpu ? ON_GPU : ['--disable-gpu']);
    let adapter = options.gpu ? await call('adapter') : null;
    if (options.gpu && adapter === null) {
      await context.close();
      await start([...ON_GPU, ...SOFTWARE]);
      adapter = await call('adapter');
      if (adapter === null) throw new Error('this browser offers no WebGPU adapter');
    }
    runtime = {...(await call('open', {gpu: options.gpu, threads: options.threads})), adapter};
    return {import_s: runtime.import_s};
  },

  async load({model}) {
    const name = Object.keys(options.models).find((key) => options.models[key].path === model);
    const {buckets, pad_id, float16} = options.models[name];
    said.length = 0;
    const {load_s, complete} = await call('load', {
      url: `/${name}`, buckets, pad_id, float16, gpu: options.gpu,
    });
    const refused = said.filter((line) => /^[A-Z0-9_]+: /.test(line) && !/^(INFO|WARNING|ERROR):/.test(line));
    if (options.gpu && !complete && !said.some((line) => /^[1-9]\d* operations will run on the GPU/.test(line))) {
      throw new Error(`WebGPU cannot run any part of the graph: ${refused.join('; ') || said.slice(-3).join('; ')}`);
    }
    const version = (name) => require(`${name}/package.json`).version;
    const threads = options.gpu || options.threads < 2 ? 1 : options.threads;
    return {
      load_s, file: model,
      versions: {
        '@litertjs/core': version('@litertjs/core'), 'playwright-core': version('playwright-core'),
        chromium: context.browser()?.version() ?? (await page.evaluate(() => navigator.userAgent)),
      },
      settings: {
        batch: 'one text after another', 'ran on': ranOn(complete, refused),
        'cross-origin isolated': runtime.isolated ? 'yes' : 'no', 'wasm threads': String(threads),
        ...(options.gpu ? {precision: float16 ? 'float16 allowed' : 'float32', jspi: runtime.jspi ? 'yes' : 'no'} : {}),
      },
    };
  },

  embed: (request) => call('embed', request),

  async memory() {
    if (!existsSync('/proc/self/status')) return {unknown: 'this system does not report the memory of a browser'};
    const session = await context.browser().newBrowserCDPSession();
    const {processInfo} = await session.send('SystemInfo.getProcessInfo');
    await session.detach();
    const of = (type) => processInfo.filter((one) => one.type === type).map(({id}) => status(id));
    const largest = of('renderer').reduce((a, b) => (a.rss_bytes > b.rss_bytes ? a : b));
    // On a GPU the weights are in the process that owns it.
    return (options.gpu ? of('GPU') : []).reduce(add, largest);
  },

  async conditions() {
    return {temperature_c: null, cores: [...Array(availableParallelism()).keys()]};
  },

  async stored({paths}) {
    return {bytes: paths.map((path) => (statSync(path).isDirectory() ? 0 : statSync(path).size))};
  },

  async corpus() {
    throw new Error('a browser is given token ids, so it indexes no texts');
  },
};

async function start(flags) {
  context = await chromium.launchPersistentContext(join(options.profile, `${process.pid}-${profiles++}`), {
    executablePath: options.chromium, headless: true, args: [...PROFILE, ...flags], chromiumSandbox: false,
  });
  page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(0);
  page.on('crash', () => (death ??= 'the page crashed, as when memory runs out'));
  page.on('console', (message) => said.push(...message.text().split('\n').map((line) => line.trim())));
  page.on('pageerror', (error) => said.push(String(error)));
  context.on('close', () => (death ??= 'the browser died'));
  if (options.threads > 0) {
    // LiteRT.js makes as many threads as the browser says there are cores.
    await page.addInitScript((count) => {
      Object.defineProperty(Navigator.prototype, 'hardwareConcurrency', {get: () => count});
    }, options.threads);
  }
  death = null;
  await page.goto(`http://127.0.0.1:${server.address().port}/page/index.html`);
  await page.waitForFunction(() => window.bench !== undefined, undefined, {timeout: 60000});
}

async function call(name, argument) {
  const lost = new Promise((_, reject) => {
    page.once('crash', () => reject(new Error('crash')));
    context.once('close', () => reject(new Error('close')));
  });
  lost.catch(() => {});
  try {
    return await Promise.race([
      page.evaluate(([name, argument]) => window.bench[name](argument), [name, argument]), lost,
    ]);
  } catch (error) {
    throw new Error(death ?? `${error.message}`.split('\n    at ')[0].replace(/^page\.evaluate: /, ''));
  }
}

function ranOn(complete, refused) {
  if (!options.gpu) return 'WebAssembly (XNNPACK)';
  const device = `WebGPU (${runtime.adapter})`;
  return complete ? device : `${device} in part; in WebAssembly: ${[...new Set(refused)].join('; ') || 'not said'}`;
}

function status(pid) {
  const text = readFileSync(`/proc/${pid}/status`, 'ascii');
  const read = (name) => Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'))?.[1] ?? 0) * 1024;
  return {rss_bytes: read('VmRSS'), anonymous_bytes: read('RssAnon'), peak_bytes: read('VmHWM')};
}

function add(a, b) {
  return Object.fromEntries(Object.keys(a).map((key) => [key, a[key] + b[key]]));
}

async function serve() {
  for await (const line of createInterface({input: process.stdin})) {
    const {op, ...request} = JSON.parse(line);
    let answer;
    try {
      answer = await operations[op](request);
    } catch (error) {
      answer = {error: `${error.message ?? error}`};
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await context?.close();
  process.exit(0);
}

await serve();
