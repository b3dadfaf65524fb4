// Quality cards: find, order, page, layers, flicker, enlarge, and what was chosen on the map of subjects.
"use strict";
(() => {
  const PAGE = {cards: 24, rows: 100};
  const by = id => document.getElementById(id);
  const quality = by("quality"), list = by("cards"), body = by("rows").querySelector("tbody");
  const cards = [...list.children], rows = [...body.children];
  const items = cards.map((card, k) => ({
    card, row: rows[k], k, id: card.dataset.id ?? "",
    name: card.querySelector("h4").textContent,
    level: card.dataset.level,
    text: `${card.querySelector("h4").textContent} ${card.querySelector(".reasons")?.textContent ?? ""}`.toLowerCase(),
    numbers: [...rows[k].querySelectorAll("[data-n]")].map(cell => cell.dataset.n === "" ? NaN : Number(cell.dataset.n)),
  }));
  let page = 0, chosen = null, shown = items;

  function sorted(some) {
    const order = by("order").value, sign = by("descending").checked ? -1 : 1;
    if (order === "look") return sign > 0 ? some : [...some].reverse();
    const compare = order === "name"
      ? (a, b) => a.name.localeCompare(b.name, undefined, {numeric: true})
      : (a, b) => a.numbers[order] - b.numbers[order];
    const known = order === "name" ? some : some.filter(item => !Number.isNaN(item.numbers[order]));
    const rest = some.filter(item => !known.includes(item));
    return [...[...known].sort((a, b) => sign * compare(a, b)), ...rest];
  }

  function passes(item) {
    const wanted = by("only").value, verdict = window.anatograph.verdict?.(item.id) ?? "";
    if (wanted === "all") return true;
    if (wanted === "flagged") return item.level === "check" || item.level === "reject";
    if (wanted === "open") return !verdict;
    return wanted === "keep" || wanted === "exclude" ? verdict === wanted : item.level === wanted;
  }

  function draw() {
    const wanted = by("find").value.trim().toLowerCase();
    shown = sorted(items.filter(item => (!wanted || item.text.includes(wanted)) && passes(item)
      && (!chosen || chosen.has(item.name))));
    const shape = by("shape").value, size = PAGE[shape], pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(page, pages - 1);
    const visible = shown.slice(page * size, (page + 1) * size), now = new Set(visible);
    list.hidden = shape !== "cards";
    by("rows").hidden = shape !== "rows";
    for (const item of items) item.card.hidden = item.row.hidden = !now.has(item);
    for (const item of visible) { list.append(item.card); body.append(item.row); }
    by("pager").hidden = pages < 2;
    by("page-number").textContent = `page ${page + 1} of ${pages}`;
    by("previous").disabled = page === 0;
    by("next").disabled = page === pages - 1;
    by("clear-selection").hidden = !chosen;
    const from = chosen ? " chosen on the map" : "";
    by("subject-count").textContent = visible.length === items.length
      ? `${items.length} subject${items.length === 1 ? "" : "s"}`
      : `${visible.length} of ${shown.length}${from}${shown.length < items.length ? `, of ${items.length} in all` : ""} shown`;
  }

  const again = () => { page = 0; draw(); };
  by("find").addEventListener("input", again);
  for (const id of ["order", "descending", "only", "shape"]) by(id).addEventListener("change", again);
  by("previous").addEventListener("click", () => { page -= 1; draw(); });
  by("next").addEventListener("click", () => { page += 1; draw(); });
  by("clear-selection").addEventListener("click", () => window.anatograph.choose(null));
  for (const box of document.querySelectorAll("[data-layer]"))
    box.addEventListener("change", () => quality.classList.toggle(`show-${box.dataset.layer}`, box.checked));

  let timer = null;
  by("flicker").addEventListener("click", event => {
    const on = timer === null;
    event.currentTarget.setAttribute("aria-pressed", String(on));
    quality.classList.toggle("flick", on);
    if (on) timer = setInterval(() => quality.classList.toggle("first"), 700);
    else { clearInterval(timer); timer = null; }
  });

  // One card as large as the window, with the next and the previous one a key away.
  const large = by("large");
  let open = null;
  function enlarge(item) {
    open = item;
    by("large-name").textContent = item.name;
    const parts = [".head .level", ".slices", ".reasons", ".figures"].map(part => item.card.querySelector(part))
      .filter(Boolean).map(part => part.cloneNode(true));
    const slices = parts.findIndex(part => part.matches(".slices"));
    const plain = document.createElement("div");
    plain.className = "slices";
    plain.append(...parts[slices].childNodes);
    plain.querySelectorAll("img").forEach(image => { image.loading = "eager"; });
    parts[slices] = plain;
    by("large-body").replaceChildren(...parts);
    document.dispatchEvent(new CustomEvent("anatograph-large", {detail: item.id}));
    if (!large.open) large.showModal();
  }
  function step(along) {
    const next = shown[shown.indexOf(open) + along];
    if (next?.card.querySelector(".slices")) enlarge(next);
  }
  by("large-previous").addEventListener("click", () => step(-1));
  by("large-next").addEventListener("click", () => step(1));
  large.addEventListener("keydown", event => {
    const along = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (along && event.target.tagName !== "INPUT") { event.preventDefault(); step(along); }
  });
  large.addEventListener("close", () => open?.card.querySelector(".slices")?.focus());
  list.addEventListener("click", event => {
    const slices = event.target.closest("button.slices");
    if (slices) enlarge(items.find(item => item.card === slices.closest(".card")));
  });

  Object.assign(window.anatograph, {
    redrawCards: draw,
    // Show only these subjects (a set of names), or all again.
    choose(names) {
      chosen = names;
      again();
      if (!names) document.dispatchEvent(new Event("anatograph-all"));
    },
    // Bring one subject's card into view.
    find(name) {
      const item = items.find(one => one.name === name);
      if (!item) return;
      by("find").value = "";
      by("only").value = "all";
      chosen = chosen?.has(name) ? chosen : null;
      by("shape").value = "cards";
      quality.querySelector(":scope > details").open = true;
      draw();
      page = Math.floor(shown.indexOf(item) / PAGE.cards);
      draw();
      for (const one of items) one.card.classList.toggle("found", one === item);
      item.card.scrollIntoView({block: "center"});
    },
  });
  by("subject-controls").hidden = by("layer-controls").hidden = false;
  draw();
})();
