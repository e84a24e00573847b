// Plotly plots on a published page: a picture until the reader asks for more, then drawn by the book's own plotly.js.

const PLOTLY = new URL("../plotly/plotly.min.js", import.meta.url);

let plotly = null; // Promise, one for all plots of a page

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY.href;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = null; // the next touch tries again
      script.remove();
      reject(new Error("plotly could not be loaded."));
    };
    document.head.append(script);
  });
  return plotly;
}

// Give each plot a button; it or a click on the picture draws the plot in the picture's place.
export function preparePlots(elements) {
  elements.forEach(prepare);
}

function prepare(element) {
  const poster = element.querySelector("img");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: "Make this plot interactive", className: "gentext-plot-button" });
  const start = async () => {
    if (element.dataset.state === "loading") return;
    element.dataset.state = "loading";
    button.textContent = "Loading plotly…";
    try {
      const spec = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
      const Plotly = await loadPlotly();
      const plot = document.createElement("div");
      plot.className = "gentext-plot";
      plot.setAttribute("role", "group");
      if (poster?.alt) plot.setAttribute("aria-label", poster.alt);
      element.append(plot);
      await Plotly.newPlot(plot, spec.data, spec.layout, { displaylogo: false, responsive: true, ...spec.config });
      poster?.closest("picture, a, img").remove();
      button.remove();
      element.dataset.state = "live";
    } catch (error) {
      element.dataset.state = "error";
      button.textContent = `${error.message} Try again`;
    }
  };
  element.dataset.state = "poster";
  button.addEventListener("click", start);
  poster?.addEventListener("click", start);
  element.append(button);
}
