// Running networks in the page: onnxruntime-web, from our own folder, in one worker for all figures of the page, so that
// a page scrolls, paints and answers while a network runs. The worker starts when the first network is needed.

let runtime = null; // Promise of the worker, ready to open networks

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

// The worker as someone who is asked: `ask(task, content, transfer)` -> Promise of its answer (see runtime_worker.mjs).
class RuntimeWorker {
  constructor() {
    this.waiting = new Map(); // id -> { resolve, reject }
    this.asked = 0;
    this.opened = 0; // networks that run in it
    this.fault = null; // why it runs no more
    this.worker = new Worker(new URL("./runtime_worker.mjs", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", ({ data: { id, answer, fault } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (fault === undefined) resolve(answer);
      else reject(new Error(fault));
    });
    this.worker.addEventListener("error", ({ message }) =>
      this.close(new Error(message || "The worker that runs the networks could not be started.")),
    );
  }
  ask(task, content, transfer = []) {
    if (this.fault) return Promise.reject(this.fault);
    return new Promise((resolve, reject) => {
      const id = ++this.asked;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, content }, transfer);
    });
  }
  // A fresh worker is the way out of a failed start: within one, neither the module nor its WebAssembly is asked for twice.
  close(fault) {
    if (this.fault) return;
    this.fault = fault;
    this.worker.terminate();
    runtime = null;
    for (const { reject } of this.waiting.values()) reject(fault);
    this.waiting.clear();
  }
}

// A view of a long array would be sent with all that it is a part of.
const whole = (arrays) =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, { shape, values }]) => [
      name,
      { shape, values: values.byteLength < values.buffer?.byteLength ? values.slice() : values },
    ]),
  );

async function startRuntime() {
  const started = new RuntimeWorker();
  try {
    await started.ask("start");
  } catch (error) {
    started.close(error);
    throw error;
  }
  return started;
}

// Calls run one after the other, in the order they were made: the runtime has one thread.
let queue = Promise.resolve();

// A figure's networks: `run(name, { input: { shape, values } })` -> { output: { shape, values } }.
// base: where the ONNX files lie. sizes: their bytes, by name. tell: progress in words.
export function openNetworks(base, sizes, tell) {
  const networks = new Map(); // name -> { worker, key }

  async function open(name) {
    runtime ??= startRuntime().catch((error) => {
      runtime = null; // the next touch tries again
      throw error;
    });
    const total = megabytes(sizes[name]);
    const [worker, bytes] = await Promise.all([
      runtime,
      download(new URL(`${name}.onnx`, base), (so_far) => tell(`Loading a network: ${megabytes(so_far)} of ${total}`)),
    ]);
    tell("Starting the runtime (14 MB, once)");
    try {
      const key = await worker.ask("open", { bytes }, [bytes.buffer]);
      worker.opened += 1;
      return { worker, key };
    } catch (error) {
      if (worker.opened === 0) worker.close(error);
      throw error;
    }
  }

  async function run(name, inputs) {
    if (!(name in sizes)) throw new Error(`There is no network ${name} for this figure.`);
    let network = networks.get(name);
    if (!network || network.worker.fault) {
      network = await open(name);
      networks.set(name, network);
    }
    return network.worker.ask("run", { key: network.key, inputs: whole(inputs) }); // copies: the figure keeps its own
  }

  return (name, inputs) => {
    const answer = queue.then(() => run(name, inputs));
    queue = answer.catch(() => {});
    return answer;
  };
}
