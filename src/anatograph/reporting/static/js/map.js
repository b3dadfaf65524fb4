// The map of subjects: coloured by any column; a lasso chooses, a click finds.
"use strict";
(() => {
  const {json, plot, look, plotConfig, css, save} = window.anatograph;
  const map = json("data-map");
  if (!map) return;
  const by = id => document.getElementById(id);
  const target = by("subject-map"), choice = by("colour-by"), planes = by("plane");
  // Plotly reads a few HTML tags in texts; names are shown as they are.
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const UNKNOWN = "not known";
  let picked = [];

  function traces() {
    const plane = map.planes[planes.value], column = map.columns[choice.value];
    const some = (rows, more) => ({
      type: "scatter", mode: "markers", x: rows.map(k => plane.x[k]), y: rows.map(k => plane.y[k]),
      text: rows.map(k => plain(map.subjects[k])), customdata: rows, ...more,
    });
    const rows = map.subjects.map((_, k) => k);
    const size = rows.length > 300 ? 6 : 9, grey = css("--edge");
    if (!column) return [some(rows, {name: "subjects", showlegend: false, marker: {color: map.colours[0], size},
      hovertemplate: "%{text}<extra></extra>"})];
    if (column.kind === "number") {
      const known = rows.filter(k => column.values[k] !== null), rest = rows.filter(k => column.values[k] === null);
      const shaded = some(known, {
        name: plain(column.name), showlegend: false, hovertext: known.map(k => column.values[k]),
        marker: {size, color: known.map(k => column.values[k]), colorscale: "Viridis", showscale: true,
          line: {width: 0.5, color: grey}, colorbar: {title: {text: plain(column.name)}, thickness: 14}},
        hovertemplate: "%{text}: %{hovertext}<extra></extra>"});
      return rest.length ? [shaded, some(rest, {name: UNKNOWN, marker: {size, color: grey, symbol: "circle-open"},
        hovertemplate: `%{text}: ${UNKNOWN}<extra></extra>`})] : [shaded];
    }
    const classes = [...new Set(column.values)].sort((a, b) => (a === UNKNOWN) - (b === UNKNOWN)
      || a.localeCompare(b, undefined, {numeric: true}));
    return classes.map((name, n) => some(rows.filter(k => column.values[k] === name), {
      name: plain(name), showlegend: true,
      marker: {size, color: name === UNKNOWN ? grey : map.colours[n % map.colours.length],
        symbol: name === UNKNOWN ? "circle-open" : map.symbols[(n + Math.floor(n / map.colours.length)) % map.symbols.length]},
      hovertemplate: `%{text}<extra>${plain(name)}</extra>`}));
  }

  function draw() {
    const plane = map.planes[planes.value], column = map.columns[choice.value];
    const classes = column?.kind === "class" ? new Set(column.values).size : 0;
    const upright = classes > 6 && target.clientWidth > 600;
    return Plotly.react(target, traces(), look({
      dragmode: "lasso", hovermode: "closest", uirevision: planes.value,
      margin: {l: 50, r: 15, t: 30 + 22 * Math.ceil((upright ? 1 : classes) / 3), b: 50},
      legend: upright ? {title: {text: plain(column.name)}, x: 1.01, y: 1}
        : {title: {text: plain(column?.name ?? "")}, orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
      xaxis: {title: {text: plane.axes[0]}, showticklabels: plane.scaled, zeroline: false},
      yaxis: {title: {text: plane.axes[1]}, showticklabels: plane.scaled, zeroline: false},
    }, 560), plotConfig);
  }

  function pick(rows) {
    picked = rows;
    by("save-selection").disabled = !rows.length;
    by("selection-text").textContent = rows.length
      ? `${rows.length} subject${rows.length === 1 ? "" : "s"} chosen; the quality cards show only these.` : "";
  }

  let listening = false;
  plot(target.closest("figure"), target, "subjects", async () => {
    await draw();
    if (listening) return;
    listening = true;
    target.on("plotly_selected", event => {
      const rows = (event?.points ?? []).map(point => point.customdata);
      if (!rows.length) return;
      pick(rows);
      window.anatograph.choose(new Set(rows.map(k => map.subjects[k])));
    });
    target.on("plotly_deselect", () => window.anatograph.choose(null));
    target.on("plotly_click", event => window.anatograph.find(map.subjects[event.points[0].customdata]));
    document.addEventListener("anatograph-all", () => { pick([]); Plotly.restyle(target, {selectedpoints: [null]}); });
    choice.addEventListener("change", draw);
    planes.addEventListener("change", draw);
    by("save-selection").addEventListener("click", () =>
      save("selection.csv", "text/csv", `${["subject_id", ...picked.map(k => map.subjects[k])].join("\n")}\n`));
    by("map-controls").hidden = false;
  });
})();
