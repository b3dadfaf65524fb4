// Scripts that travel compressed in the page are unpacked when they are first needed.
"use strict";
window.anatograph = {};
(() => {
  const loaded = {};
  async function unpacked(id) {
    const packed = await fetch(`data:application/octet-stream;base64,${document.getElementById(id).textContent}`);
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
  }
  // Run the packed script, once.
  window.anatograph.need = id => loaded[id] ??= unpacked(id).then(text => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  });
  // Call back once, when an element comes near the part of the page that is in sight.
  window.anatograph.whenNear = (element, then) => new IntersectionObserver((entries, observer) => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    then();
  }, {rootMargin: "400px"}).observe(element);
  window.anatograph.json = id => {
    const element = document.getElementById(id);
    return element ? JSON.parse(element.textContent) : null;
  };
  window.anatograph.save = (name, type, content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], {type}));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
})();
