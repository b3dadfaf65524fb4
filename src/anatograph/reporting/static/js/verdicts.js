// Keep, exclude and comment on each card, by mouse or by key; exported as review.csv.
"use strict";
(() => {
  const by = id => document.getElementById(id);
  const {key, reviews: known} = window.anatograph.json("data-review");
  const reviews = new Reviews(key, known);
  const cards = new Map([...document.querySelectorAll(".card[data-id]")].map(card => [card.dataset.id, card]));
  const panels = new Map();  // of each card, and the one in the enlarged view

  function panel(id) {
    const box = document.createElement("div");
    box.className = "review";
    for (const [verdict, text] of [["keep", "Keep"], ["exclude", "Exclude"]]) {
      const button = document.createElement("button");
      Object.assign(button, {type: "button", textContent: text});
      button.dataset.verdict = verdict;
      button.setAttribute("aria-label", `${text} ${id}`);
      button.addEventListener("click", () => change(id, {verdict: reviews.get(id).verdict === verdict ? "" : verdict}));
      box.append(button);
    }
    const comment = document.createElement("input");
    Object.assign(comment, {type: "text", placeholder: "comment"});
    comment.setAttribute("aria-label", `comment on ${id}`);
    comment.addEventListener("change", () => change(id, {comment: Reviews.line(comment.value)}));
    box.append(comment);
    return box;
  }

  function fill(id) {
    const {verdict, comment} = reviews.get(id), card = cards.get(id);
    for (const box of [panels.get(id), ...by("large-review").querySelectorAll(`[data-of="${CSS.escape(id)}"]`)]) {
      for (const button of box.querySelectorAll("button"))
        button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
      box.querySelector("input").value = comment;
    }
    card.classList.toggle("exclude", verdict === "exclude");
    card.querySelector(".verdict").textContent = {keep: "kept", exclude: "excluded"}[verdict] ?? "";
  }

  function state() {
    const ids = [...cards.keys()];
    by("review-status").textContent = `${reviews.count(ids, "keep")} kept, ${reviews.count(ids, "exclude")} excluded`
      + (reviews.unsaved ? "; not exported yet" : "");
  }

  function change(id, what) {
    reviews.set(id, what);
    fill(id);
    state();
  }

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const id = by("large").open ? by("large-review").dataset.id : event.target.closest?.(".card")?.dataset.id;
    const verdict = {k: "keep", x: "exclude", u: ""}[event.key];
    if (!id || !cards.has(id)) return;
    if (verdict !== undefined) change(id, {verdict});
    else if (event.key === "c") (by("large").open ? by("large-review") : cards.get(id)).querySelector(".review input").focus();
    else return;
    event.preventDefault();
  });
  document.addEventListener("anatograph-large", event => {
    const id = event.detail;
    by("large-review").dataset.id = id;
    by("large-review").replaceChildren();
    if (!cards.has(id)) return;
    const box = panel(id);
    box.dataset.of = id;
    by("large-review").append(box);
    fill(id);
  });
  for (const [id, card] of cards) {
    const box = panel(id);
    panels.set(id, box);
    card.append(box);
    fill(id);
  }
  window.anatograph.verdict = id => reviews.get(id).verdict;
  by("export-review").addEventListener("click", () => { reviews.save(); state(); });
  addEventListener("beforeunload", event => { if (reviews.unsaved) event.preventDefault(); });
  by("review-controls").hidden = false;
  state();
})();
