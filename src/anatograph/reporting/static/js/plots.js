// Plots by Plotly, in the colours of the theme, drawn when they come into sight; SVG and data to download.
"use strict";
(() => {
  const {need, whenNear, json, save} = window.anatograph;
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Plotly asks no server, and has no button that would.
  const config = {displaylogo: false, displayModeBar: false, responsive: true, plotlyServerURL: ""};
  function look(layout, height) {
    const axis = own => ({gridcolor: css("--grid"), zerolinecolor: css("--edge"), linecolor: css("--edge"),
      automargin: true, ...own});
    return {
      font: {family: "system-ui, sans-serif", size: 12, color: css("--ink")}, height,
      paper_bgcolor: css("--ground"), plot_bgcolor: css("--ground"), margin: {l: 55, r: 15, t: 60, b: 50},
      hoverlabel: {bgcolor: css("--back"), bordercolor: css("--edge"), font: {color: css("--ink")}},
      legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, ...layout,
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    };
  }

  const cell = value => /[",\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? "");
  const text = html => String(html ?? "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  // What is drawn, as a table: a row a point.
  function table(element) {
    const title = name => text(element.layout[name]?.title?.text) || name[0];
    const rows = [["series", title("xaxis"), title("yaxis"), "low", "high", "label", "value"]];
    for (const trace of element.data) {
      const bar = trace.error_x ?? trace.error_y, along = trace.error_x ? trace.x : trace.y;
      (trace.x ?? []).forEach((x, k) => {
        if (x === null || x === undefined) return;
        rows.push([text(trace.name), x, trace.y[k], bar ? along[k] - (bar.arrayminus ?? bar.array)[k] : "",
          bar ? along[k] + bar.array[k] : "", text(trace.text?.[k]), trace.hovertext?.[k] ?? ""]);
      });
    }
    // Where rows have names, their places on the axis say nothing; nor do empty columns.
    const named = element.layout.yaxis?.ticktext && !element.layout.yaxis.title?.text;
    const kept = rows[0].map((_, k) => k !== 2 || !named).map((own, k) => own && rows.slice(1).some(row => row[k] !== ""));
    return rows.map(row => row.filter((_, k) => kept[k]).map(cell).join(",")).join("\n") + "\n";
  }

  function buttons(figure, element, name) {
    const box = figure.querySelector(".save");
    box.hidden = false;
    box.querySelector('[data-save="csv"]').onclick = () => save(`${name}.csv`, "text/csv", table(element));
    box.querySelector('[data-save="svg"]').onclick = async () => {
      const url = await Plotly.toImage(element, {format: "svg", width: element.clientWidth, height: element.clientHeight});
      save(`${name}.svg`, "image/svg+xml", decodeURIComponent(url.slice(url.indexOf(",") + 1)));
    };
  }

  function trouble(element, error) {
    element.textContent = `This plot could not be drawn (${error.message}). A browser of 2023 or later is needed.`;
    element.style.minHeight = "0";
  }

  const drawn = [];
  // Draw when near: redraw() is called then, and again when the theme changes.
  function plot(figure, element, name, redraw) {
    whenNear(element, () => need("packed-plotly").then(redraw).then(() => {
      drawn.push(redraw);
      buttons(figure, element, name);
    }).catch(error => trouble(element, error)));
  }
  dark.addEventListener("change", () => drawn.forEach(redraw => redraw()));

  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    const name = figure.dataset.figure, element = document.getElementById(`figure-${name}`);
    plot(figure, element, name, async () => {
      const spec = json(`data-${name}`);
      await Plotly.react(element, spec.traces, look(spec.layout, spec.height), config);
      if (!spec.click.length) return;
      element.removeAllListeners("plotly_click");
      element.on("plotly_click", event => window.anatograph.find(spec.click[event.points[0].pointNumber]));
    });
  }
  Object.assign(window.anatograph, {plot, look, plotConfig: config, css});

  const all = () => document.querySelectorAll(".js-plotly-plot").forEach(one => Plotly.Plots.resize(one));
  for (const kind of ["beforeprint", "afterprint"]) addEventListener(kind, () => { if (window.Plotly) all(); });
})();
