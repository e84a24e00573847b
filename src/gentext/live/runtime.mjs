// Running networks in the page: onnxruntime-web, from our own folder, fetched when the first network is needed.

const ORT = new URL("../ort/", import.meta.url);

let runtime = null; // Promise of the onnxruntime module, one for all figures of a page

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

// Fetch a file whole, telling `progress(bytesSoFar)` as it comes.
async function download(url, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname.split("/").pop()} could not be loaded (${response.status}).`);
  const parts = [];
  let bytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    bytes += value.length;
    progress(bytes);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// The runtime fetches its own WebAssembly when the first session starts, so that the browser compiles while it loads
// and keeps the result for the next page.
async function startRuntime() {
  if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly, which runs the networks.");
  const ort = await import(new URL("ort.wasm.min.mjs", ORT).href);
  ort.env.wasm.numThreads = 1; // more would need a cross-origin isolated page
  ort.env.wasm.wasmPaths = ORT.href;
  return ort;
}

// Calls run one after the other, in the order they were made: the runtime has one thread.
let queue = Promise.resolve();

// A figure's networks: `run(name, { input: { shape, values } })` -> { output: { shape, values } }.
// base: where the ONNX files lie. sizes: their bytes, by name. tell: progress in words.
export function openNetworks(base, sizes, tell) {
  const sessions = new Map(); // name -> Promise of a session

  async function open(name) {
    runtime ??= startRuntime().catch((error) => {
      runtime = null; // the next touch tries again
      throw error;
    });
    const total = megabytes(sizes[name]);
    const [ort, bytes] = await Promise.all([
      runtime,
      download(new URL(`${name}.onnx`, base), (so_far) => tell(`Loading a network: ${megabytes(so_far)} of ${total}`)),
    ]);
    tell("Starting the runtime (14 MB, once)");
    return { ort, session: await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }) };
  }

  async function run(name, inputs) {
    if (!(name in sizes)) throw new Error(`There is no network ${name} for this figure.`);
    if (!sessions.has(name)) {
      sessions.set(name, open(name).catch((error) => {
        sessions.delete(name);
        throw error;
      }));
    }
    const { ort, session } = await sessions.get(name);
    const feeds = {};
    for (const [key, { shape, values }] of Object.entries(inputs)) feeds[key] = new ort.Tensor("float32", values, shape);
    const results = await session.run(feeds);
    return Object.fromEntries(
      Object.entries(results).map(([key, tensor]) => [key, { shape: [...tensor.dims], values: tensor.data }]),
    );
  }

  return (name, inputs) => {
    const answer = queue.then(() => run(name, inputs));
    queue = answer.catch(() => {});
    return answer;
  };
}
