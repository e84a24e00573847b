// The worker in which all networks of a page run. It is asked by runtime.mjs, one task at a time:
//
//   { id, task: "start" }                              -> { id, answer: undefined }
//   { id, task: "open", content: { bytes } }           -> { id, answer: key }          the network of an ONNX file
//   { id, task: "run", content: { key, inputs } }      -> { id, answer: outputs }      arrays { shape, values } by name
//
// or, where that fails, -> { id, fault: one sentence }.

const ORT = new URL("../ort/", import.meta.url);

let ort = null; // the onnxruntime module
const sessions = [];

const tasks = {
  async start() {
    if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly, which runs the networks.");
    ort = await import(new URL("ort.wasm.min.mjs", ORT).href);
    ort.env.wasm.numThreads = 1; // more would need a cross-origin isolated page
    ort.env.wasm.wasmPaths = ORT.href;
  },
  // The runtime fetches its own WebAssembly when the first session starts, so that the browser compiles while it loads
  // and keeps the result for the next page.
  async open({ bytes }) {
    return sessions.push(await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] })) - 1;
  },
  async run({ key, inputs }) {
    const feeds = {};
    for (const [name, { shape, values }] of Object.entries(inputs)) feeds[name] = new ort.Tensor("float32", values, shape);
    const results = await sessions[key].run(feeds);
    return Object.fromEntries(
      Object.entries(results).map(([name, tensor]) => [name, { shape: [...tensor.dims], values: owned(tensor.data) }]),
    );
  },
};

// The values in a buffer of their own, which can be given away.
const owned = (values) => (values.byteLength === values.buffer.byteLength ? values : values.slice());

addEventListener("message", async ({ data: { id, task, content } }) => {
  try {
    const answer = await tasks[task](content);
    const transfer = task === "run" ? [...new Set(Object.values(answer).map(({ values }) => values.buffer))] : [];
    postMessage({ id, answer }, transfer);
  } catch (error) {
    postMessage({ id, fault: error.message ?? String(error) });
  }
});
