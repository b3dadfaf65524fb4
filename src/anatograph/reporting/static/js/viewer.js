// The viewer of chosen subjects: NiiVue, started when it comes into sight; pictures stand in where it cannot run.
"use strict";
(() => {
  const by = id => document.getElementById(id);
  const section = by("viewer"), app = by("viewer-app"), canvas = by("v-canvas");
  const data = JSON.parse(by("data-viewer").textContent);
  const AXES = {sagittal: 0, coronal: 1, axial: 2, all: 2};
  let nv = null, drawing = Promise.resolve();

  function trouble(text) {
    app.hidden = true;
    section.classList.remove("v-on");
    by("v-trouble").textContent = text;
    by("v-trouble").hidden = false;
  }

  function hasWebgl2() {
    try {
      const context = document.createElement("canvas").getContext("webgl2");
      context?.getExtension("WEBGL_lose_context")?.loseContext();
      return Boolean(context);
    } catch { return false; }
  }

  const subject = () => data.subjects[by("v-subject").value];
  const map = () => subject().maps[by("v-map").value];
  const axis = () => AXES[by("v-planes").value];

  // Colours of the map; code 0 has none, nor have the weakest, counted from the value that says nothing.
  function colours(map) {
    const span = map.ends[1] - map.ends[0];
    const neutral = 1 + 254 * Math.min(1, Math.max(0, (map.neutral - map.ends[0]) / span));
    const reach = Math.max(neutral - 1, 255 - neutral), least = by("v-hide").value / 100 * reach;
    const [R, G, B] = [0, 1, 2].map(channel => map.palette.map(colour => colour[channel]));
    const codes = map.palette.map((_, k) => k);  // NiiVue knows a colour as there or not; how clear is the slider's matter
    return {R, G, B, A: codes.map(k => k > 0 && Math.abs(k - neutral) >= least ? 255 : 0), I: codes};
  }

  async function load() {
    const number = by("v-subject").value, chosen = map();
    const [low, high] = by("v-window").value.split(",").map(Number);
    canvas.setAttribute("aria-busy", "true");
    while (nv.volumes.length) nv.removeVolumeByIndex(0);
    const scan = await niivue.NVImage.loadFromBase64({
      base64: by(`vol-${number}`).textContent, name: "scan.nii.gz", colormap: "gray", cal_min: low, cal_max: high});
    nv.addVolume(scan);
    if (chosen) {
      nv.addColormap("anatograph", colours(chosen));
      const step = (chosen.ends[1] - chosen.ends[0]) / 254;
      const heat = await niivue.NVImage.loadFromBase64({
        base64: by(`vol-${number}-${by("v-map").value}`).textContent, name: "map.nii.gz", colormap: "anatograph",
        cal_min: chosen.ends[0] - step, cal_max: chosen.ends[1], opacity: by("v-opacity").value / 100});
      nv.addVolume(heat);
    }
    for (const id of ["v-opacity", "v-hide", "v-peak"]) by(id).disabled = !chosen;
    go(chosen?.peak ?? subject().middle);
    show();
    canvas.setAttribute("aria-busy", "false");
    canvas.setAttribute("aria-label", `slices of the scan of ${subject().name}${chosen ? ` with the map ${chosen.name}` : ""}`);
  }

  // One after the other, so that a quick change of mind does not mix two subjects.
  const reload = () => { drawing = drawing.then(load).catch(error => trouble(`The viewer stopped (${error.message}); the pictures below stand in.`)); return drawing; };

  function place(fraction) {
    nv.scene.crosshairPos = fraction;
    nv.drawScene();
    nv.createOnLocationChange();
  }

  const go = ([l, p, s]) => place(nv.mm2frac([-l, -p, s]));
  const count = () => nv.volumes[0].dimsRAS[axis() + 1];

  function showLocation(location) {
    if (!nv.volumes.length) return;
    const [x, y, z] = location.mm, [hu, value] = location.values.map(v => v.value);
    const chosen = map();
    const least = chosen ? chosen.ends[0] - (chosen.ends[1] - chosen.ends[0]) / 508 : 0;
    const said = !chosen || value === undefined ? "" : value < least ? "; no value of the map" : `; map ${value.toPrecision(3)}`;
    by("v-place").textContent = `L ${(-x).toFixed(0)}, P ${(-y).toFixed(0)}, S ${z.toFixed(0)} mm: ${Math.round(hu)} HU${said}`;
    const slice = by("v-slice");
    slice.max = count() - 1;
    slice.value = Math.min(count() - 1, Math.floor(nv.scene.crosshairPos[axis()] * count()));
    slice.setAttribute("aria-valuetext", `slice ${Number(slice.value) + 1} of ${count()}`);
  }

  // Only what belongs to the chosen subject and map stands below the picture.
  function show() {
    for (const article of section.querySelectorAll(".shown")) {
      article.classList.toggle("current", article.dataset.subject === by("v-subject").value);
      for (const part of article.querySelectorAll(".mapped"))
        part.classList.toggle("current", part.dataset.map === by("v-map").value);
    }
  }

  function listMaps() {
    by("v-map").replaceChildren(...subject().maps.map((one, k) => new Option(one.name, k)), new Option("no map", "none"));
  }

  async function start() {
    if (!hasWebgl2()) {
      trouble("This browser offers no WebGL2, so scans cannot be scrolled here; the pictures below show the strongest places.");
      return;
    }
    const script = document.createElement("script");
    script.textContent = by("niivue-script").textContent;
    document.head.append(script);
    app.hidden = false;
    section.classList.add("v-on");
    listMaps();
    nv = new niivue.Niivue({
      isRadiologicalConvention: true, backColor: [0, 0, 0, 1], show3Dcrosshair: false, dragAndDropEnabled: false,
      crosshairColor: [1, 0.83, 0, 0.7], crosshairWidth: 0.6, logLevel: "error", loadingText: "",
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, isOrientCube: false, fontMinPx: 14,
    });
    nv.onLocationChange = showLocation;
    await nv.attachToCanvas(canvas);
    nv.setSliceType(nv.sliceTypeAxial);
    by("v-subject").addEventListener("change", () => { listMaps(); reload(); });
    by("v-map").addEventListener("change", reload);
    by("v-window").addEventListener("change", event => {
      if (!nv.volumes.length) return;
      [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = event.target.value.split(",").map(Number);
      nv.updateGLVolume();
    });
    by("v-planes").addEventListener("change", event => {
      nv.setSliceType({axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal,
        all: nv.sliceTypeMultiplanar}[event.target.value]);
      if (nv.volumes.length) nv.createOnLocationChange();
    });
    by("v-slice").addEventListener("input", event => move(Number(event.target.value)));
    by("v-opacity").addEventListener("input", event => { if (nv.volumes.length > 1) nv.setOpacity(1, event.target.value / 100); });
    by("v-hide").addEventListener("input", () => {
      if (nv.volumes.length < 2) return;
      nv.addColormap("anatograph", colours(map()));
      nv.setColormap(nv.volumes[1].id, "anatograph");
    });
    by("v-peak").addEventListener("click", () => { if (nv.volumes.length) go(map().peak); });
    canvas.addEventListener("keydown", event => {
      const step = {ArrowUp: 1, ArrowRight: 1, PageUp: 10, ArrowDown: -1, ArrowLeft: -1, PageDown: -10}[event.key];
      if (event.key !== "Tab") event.stopImmediatePropagation();  // NiiVue's own keys turn views that are not offered here
      if (!step) return;
      event.preventDefault();
      move(Number(by("v-slice").value) + step);
    }, {capture: true});
    window.anatograph = Object.assign(window.anatograph ?? {}, {viewer: nv});
    await reload();
  }

  function move(slice) {
    if (!nv.volumes.length) return;
    const fraction = [...nv.scene.crosshairPos];
    fraction[axis()] = (Math.min(count() - 1, Math.max(0, slice)) + 0.5) / count();
    place(fraction);
  }

  new IntersectionObserver((entries, observer) => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    start().catch(error => trouble(`The viewer could not start (${error.message}); the pictures below stand in.`));
  }, {rootMargin: "200px"}).observe(section);
})();
