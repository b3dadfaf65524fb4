// The navigation follows the reader; a link to a folded section opens it; everything unfolds for print.
"use strict";
(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
  const sections = [...links.keys()].map(id => document.getElementById(id));
  const inSight = new Set();

  function follow(entries) {
    for (const {target, isIntersecting} of entries) inSight[isIntersecting ? "add" : "delete"](target);
    const current = sections.find(section => inSight.has(section));
    if (!current) return;
    for (const [id, link] of links) {
      if (id !== current.id) { link.removeAttribute("aria-current"); continue; }
      link.setAttribute("aria-current", "true");
      const list = link.closest("ul");
      list.scrollLeft = link.offsetLeft - (list.clientWidth - link.clientWidth) / 2;
    }
  }
  const watcher = new IntersectionObserver(follow, {rootMargin: "-70px 0px -55% 0px"});
  sections.forEach(section => watcher.observe(section));

  const unfold = id => document.getElementById(id)?.querySelector(":scope > details")?.setAttribute("open", "");
  const open = () => { if (location.hash.length > 1) unfold(decodeURIComponent(location.hash.slice(1))); };
  addEventListener("hashchange", open);
  for (const [id, link] of links) link.addEventListener("click", () => unfold(id));
  open();

  // Drawings that stand in the page itself can be saved with the colours they have now.
  for (const figure of document.querySelectorAll("figure[data-drawing]")) {
    figure.querySelector(".save").hidden = false;
    figure.querySelector('[data-save="svg"]').addEventListener("click", () => {
      const drawing = figure.querySelector("svg"), copy = drawing.cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const parts = "rect, path, text", looks = drawing.querySelectorAll(parts);
      copy.querySelectorAll(parts).forEach((part, k) => {
        const look = getComputedStyle(looks[k]);
        for (const name of ["fill", "stroke", "font", "stroke-width"]) part.style[name] = look.getPropertyValue(name);
      });
      window.anatograph.save(`${figure.dataset.drawing}.svg`, "image/svg+xml", copy.outerHTML);
    });
  }
  addEventListener("beforeprint", () => links.forEach((_, id) => unfold(id)));
})();
