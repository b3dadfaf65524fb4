// Plots by Plotly: the map of subjects, training curves, predictions.
"use strict";
(() => {
  // Okabe and Ito's colours, distinguishable with any colour vision; symbols distinguish classes without colour.
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down"];
  const CONFIG = {displaylogo: false, responsive: true, plotlyServerURL: ""};
  const by = id => document.getElementById(id);
  const read = id => by(id) ? JSON.parse(by(id).textContent) : null;
  // Plotly reads a few HTML tags in texts; names are shown as they are.
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const base = (title, more) => ({
    title: {text: plain(title), font: {size: 14}, x: 0, xanchor: "left", y: 0.98}, height: 300,
    margin: {l: 50, r: 10, t: 55, b: 45},
    font: {family: "system-ui, sans-serif", size: 12}, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, ...more,
  });
  const axis = title => ({title: {text: title}, gridcolor: "#e3e8ee", zerolinecolor: "#c5ced8", automargin: true});

  (read("data-curves") ?? []).forEach((curve, k) => {
    const traces = curve.series.map((s, n) => ({
      x: s.x, y: s.y, name: s.name, mode: s.x.length > 60 ? "lines" : "lines+markers",
      line: {color: COLOURS[n], dash: n ? "dash" : "solid"}, marker: {size: 5},
    }));
    const block = Math.max(...curve.series.map(s => s.averaged));
    const x = axis(block > 1 ? `update (means of ${block})` : "update");
    Plotly.newPlot(`curve-${k}`, traces, base(curve.title, {xaxis: x, yaxis: axis("")}), CONFIG);
  });

  (read("data-scatter") ?? []).forEach((s, k) => {
    const all = [...s.truth, ...s.prediction];
    const ends = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
    const traces = [
      {x: ends, y: ends, mode: "lines", line: {color: "#8d9aa8", width: 1}, hoverinfo: "skip"},
      {x: s.truth, y: s.prediction, text: s.subjects.map(plain), mode: "markers",
        marker: {size: 7, color: COLOURS[0], opacity: 0.75},
        hovertemplate: "%{text}<br>true %{x:.4g}, predicted %{y:.4g}<extra></extra>"},
    ];
    const more = {showlegend: false, hovermode: "closest", xaxis: axis("true"), yaxis: axis("predicted, held out")};
    Plotly.newPlot(`scatter-${k}`, traces, base(s.title, more), CONFIG);
    by(`scatter-${k}`).on("plotly_click", event => window.anatograph?.find(s.subjects[event.points[0].pointNumber]));
  });

  const map = read("data-map");
  if (map) subjectMap(map);

  function subjectMap(map) {
    const target = by("subject-map"), choice = by("colour-by"), planes = by("plane");
    let picked = [];

    function traces() {
      const plane = map.planes[planes.value], column = map.columns[choice.value];
      const some = (rows, more) => ({
        mode: "markers", x: rows.map(k => plane.x[k]), y: rows.map(k => plane.y[k]),
        text: rows.map(k => plain(map.subjects[k])), customdata: rows, ...more,
      });
      const rows = map.subjects.map((_, k) => k);
      const size = rows.length > 300 ? 6 : 9;
      if (!column) return [some(rows, {showlegend: false, marker: {color: COLOURS[0], size},
        hovertemplate: "%{text}<extra></extra>"})];
      if (column.kind === "number") {
        const known = rows.filter(k => column.values[k] !== null), rest = rows.filter(k => column.values[k] === null);
        const shaded = some(known, {
          showlegend: false, hovertext: known.map(k => column.values[k]),
          marker: {size, color: known.map(k => column.values[k]), colorscale: "Viridis", showscale: true,
            colorbar: {title: {text: plain(column.name)}}},
          hovertemplate: "%{text}: %{hovertext}<extra></extra>"});
        return rest.length ? [shaded, some(rest, {name: "not known", marker: {size, color: "#b8c0c9", symbol: "circle-open"},
          hovertemplate: "%{text}: not known<extra></extra>"})] : [shaded];
      }
      const classes = [...new Set(column.values)].sort((a, b) => a.localeCompare(b, undefined, {numeric: true}));
      return classes.map((name, n) => some(rows.filter(k => column.values[k] === name), {
        name: plain(name), showlegend: true,
        marker: {size, color: name === "not known" ? "#b8c0c9" : COLOURS[n % COLOURS.length],
          symbol: SYMBOLS[(n + Math.floor(n / COLOURS.length)) % SYMBOLS.length]},
        hovertemplate: `%{text}<extra>${plain(name)}</extra>`}));
    }

    function draw() {
      const column = map.columns[choice.value];
      const layout = base("", {
        height: 560, dragmode: "lasso", hovermode: "closest", margin: {l: 10, r: 10, t: 40, b: 10}, uirevision: planes.value,
        legend: {title: {text: plain(column?.name ?? "")}},
        xaxis: {showticklabels: false, zeroline: false, gridcolor: "#eef1f5"},
        yaxis: {showticklabels: false, zeroline: false, gridcolor: "#eef1f5"},
      });
      Plotly.react(target, traces(), layout, CONFIG);
    }

    function pick(rows) {
      picked = rows;
      by("save-selection").disabled = !rows.length;
      by("selection-text").textContent = rows.length ? `${rows.length} subjects chosen; the montage above shows just these.` : "";
    }

    draw();
    target.on("plotly_selected", event => {
      const rows = (event?.points ?? []).map(point => point.customdata);
      if (!rows.length) return;
      pick(rows);
      window.anatograph?.choose(new Set(rows.map(k => map.subjects[k])));
    });
    target.on("plotly_deselect", () => window.anatograph?.choose(null));
    target.on("plotly_click", event => window.anatograph?.find(map.subjects[event.points[0].customdata]));
    document.addEventListener("anatograph-all", () => { pick([]); Plotly.restyle(target, {selectedpoints: [null]}); });
    choice.addEventListener("change", draw);
    planes.addEventListener("change", draw);
    by("save-selection").addEventListener("click", () => {
      const text = ["subject_id", ...picked.map(k => map.subjects[k])].join("\n") + "\n";
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
      link.download = "selection.csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    by("map-controls").hidden = false;
  }

  for (const kind of ["beforeprint", "afterprint"])
    window.addEventListener(kind, () => document.querySelectorAll(".js-plotly-plot").forEach(plot => Plotly.Plots.resize(plot)));
})();
