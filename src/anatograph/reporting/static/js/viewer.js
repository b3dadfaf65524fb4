// The viewer of chosen subjects: NiiVue, started when it comes into sight; pictures stand in where it cannot run.
"use strict";
(() => {
  const by = id => document.getElementById(id);
  const section = by("viewer"), app = by("viewer-app"), canvas = by("v-canvas");
  const data = window.anatograph.json("data-viewer");
  const AXES = {sagittal: 0, coronal: 1, axial: 2, all: 2};
  const ROW = 3, NO_MAP = "none";
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

  // Colours of the map; code 0 has none, nor have the weakest, counted from the value that is no evidence.
  function colours(map) {
    const span = map.ends[1] - map.ends[0];
    const neutral = 1 + 254 * Math.min(1, Math.max(0, (map.neutral - map.ends[0]) / span));
    const reach = Math.max(neutral - 1, 255 - neutral), least = by("v-hide").value / 100 * reach;
    const [R, G, B] = [0, 1, 2].map(channel => map.palette.map(colour => colour[channel]));
    const codes = map.palette.map((_, k) => k);  // NiiVue takes a colour as present or absent; the slider sets the opacity
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
    for (const id of ["v-opacity", "v-hide", "v-peak"]) by(id).disabled = !chosen || chosen.withheld;
    go(chosen?.peak ?? subject().middle);
    show();
    canvas.setAttribute("aria-busy", "false");
    canvas.setAttribute("aria-label", `slices of the scan of ${subject().name}${chosen ? ` with the map ${chosen.name}` : ""}`);
  }

  // One after the other, so that quick changes do not mix two subjects.
  const reload = () => {
    drawing = drawing.then(load).catch(error => trouble(`The viewer stopped (${error.message}); the pictures below stand in.`));
    return drawing;
  };

  function place(fraction) {
    nv.scene.crosshairPos = fraction;
    nv.drawScene();
    nv.createOnLocationChange();
  }

  const go = ([l, p, s]) => place(nv.mm2frac([-l, -p, s]));
  const count = (along = axis()) => nv.volumes[0].dimsRAS[along + 1];

  // A place in words: L 12, A 30, S 5 mm, each with the letter of its direction and no sign.
  const sides = [["R", "L"], ["A", "P"], ["I", "S"]];
  const inWords = lps => lps.map((value, k) => `${sides[k][value < 0 ? 0 : 1]} ${Math.abs(value).toFixed(0)}`).join(", ");

  // The region of the nearest landmark of the atlas, unless the place is farther off than landmarks are apart.
  function region(lps) {
    let best = data.reach ** 2, found = "";
    subject().landmarks.forEach(([l, p, s], k) => {
      const far = (l - lps[0]) ** 2 + (p - lps[1]) ** 2 + (s - lps[2]) ** 2;
      if (far < best) [best, found] = [far, data.regions[k]];
    });
    return found;
  }

  // HU, map and region at a place of NiiVue's (mm, right, anterior and superior positive).
  function say(mm) {
    const lps = [-mm[0], -mm[1], mm[2]], chosen = map();
    const [hu, value] = nv.volumes.map(volume => volume.getValue(...volume.mm2vox(mm)));
    by("v-place").textContent = `${inWords(lps)} mm`;
    by("v-hu").textContent = `${Math.round(hu)} HU`;
    const least = chosen ? chosen.ends[0] - (chosen.ends[1] - chosen.ends[0]) / 508 : 0;
    by("v-value").textContent = !chosen || chosen.withheld || value === undefined ? ""
      : value < least ? "no value of the map" : `map ${value.toPrecision(3)}`;
    by("v-region").textContent = region(lps);
  }

  function showLocation(location) {
    if (!nv.volumes.length) return;
    say(location.mm);
    letters();
    const slice = by("v-slice");
    slice.max = count() - 1;
    slice.value = Math.min(count() - 1, Math.floor(nv.scene.crosshairPos[axis()] * count()));
    slice.setAttribute("aria-valuetext", `slice ${Number(slice.value) + 1} of ${count()}`);
  }

  // The patient's directions at all four edges of every slice that is drawn.
  const EDGES = [["R", "L", "A", "P"], ["R", "L", "S", "I"], ["A", "P", "S", "I"]];
  const SPOTS = [[0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]];
  function letters() {
    const ratio = canvas.width / canvas.clientWidth;
    by("v-letters").replaceChildren(...nv.screenSlices.filter(one => one.axCorSag < EDGES.length).flatMap(one => {
      const [left, top, width, height] = one.leftTopWidthHeight;
      return EDGES[one.axCorSag].map((letter, edge) => {
        const mark = document.createElement("i");
        mark.textContent = letter;
        mark.dataset.edge = edge;
        mark.style.left = `${(left + SPOTS[edge][0] * width) / ratio}px`;
        mark.style.top = `${(top + SPOTS[edge][1] * height) / ratio}px`;
        return mark;
      });
    }));
  }

  // Under the pointer while it is over a slice, else at the crosshair.
  function under(event) {
    if (!nv.volumes.length || event.buttons) return;
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    const fraction = nv.canvasPos2frac([(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio]);
    if (fraction[0] >= 0) say(nv.frac2mm(fraction));
    else nv.createOnLocationChange();
  }

  // Only what belongs to the chosen subject and map stands below the picture, its colour bar, or why there is none, first.
  function show() {
    for (const article of section.querySelectorAll(".shown")) {
      article.classList.toggle("current", article.dataset.subject === by("v-subject").value);
      for (const part of article.querySelectorAll(".mapped"))
        part.classList.toggle("current", part.dataset.map === by("v-map").value);
    }
    const legend = section.querySelector(".shown.current .mapped.current :is(.legend, .no-map)");
    by("v-legend").replaceChildren(...(legend ? [legend.cloneNode(true)] : []));
  }

  function listMaps() {
    by("v-map").replaceChildren(...subject().maps.map((one, k) => new Option(one.name, k)), new Option("no map", NO_MAP));
  }

  function setPlanes() {
    const chosen = by("v-planes").value;
    by("v-stage").dataset.planes = chosen;
    nv.setSliceType({axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal,
      all: nv.sliceTypeMultiplanar}[chosen]);
    nv.resizeListener();
    if (nv.volumes.length) nv.createOnLocationChange();
  }

  function move(along, slice) {
    if (!nv.volumes.length) return;
    const fraction = [...nv.scene.crosshairPos];
    fraction[along] = (Math.min(count(along) - 1, Math.max(0, slice)) + 0.5) / count(along);
    place(fraction);
  }
  const step = (along, slices) => move(along, Math.floor(nv.scene.crosshairPos[along] * count(along)) + slices);

  function keys(event) {
    if (event.key !== "Tab") event.stopImmediatePropagation();  // NiiVue's own keys turn views that are not offered here
    const across = axis() === 0 ? 1 : 0;  // in every plane the right of the screen is the patient's left, or posterior
    const action = {
      ArrowUp: [axis(), 1], ArrowDown: [axis(), -1], PageUp: [axis(), 10], PageDown: [axis(), -10],
      ArrowRight: [across, -1], ArrowLeft: [across, 1],
    }[event.key];
    if (!action || !nv.volumes.length) return;
    event.preventDefault();
    step(...action);
  }

  async function start() {
    if (!hasWebgl2()) {
      trouble("This browser offers no WebGL2, so scans cannot be scrolled here; the pictures below show the strongest places.");
      return;
    }
    await window.anatograph.need("packed-niivue");
    app.hidden = false;
    section.classList.add("v-on");
    listMaps();
    nv = new niivue.Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientationTextVisible: false, multiplanarLayout: ROW,
      backColor: [0, 0, 0, 1], show3Dcrosshair: false, dragAndDropEnabled: false,
      crosshairColor: [1, 0.83, 0, 0.7], crosshairWidth: 0.5, crosshairWidthUnit: "mm", logLevel: "error", loadingText: "",
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, isOrientCube: false,
    });
    nv.onLocationChange = showLocation;
    await nv.attachToCanvas(canvas);
    if (innerWidth < 700) by("v-planes").value = "axial";
    setPlanes();
    by("v-subject").addEventListener("change", () => { listMaps(); reload(); });
    by("v-map").addEventListener("change", reload);
    by("v-window").addEventListener("change", event => {
      if (!nv.volumes.length) return;
      [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = event.target.value.split(",").map(Number);
      nv.updateGLVolume();
    });
    by("v-planes").addEventListener("change", setPlanes);
    by("v-slice").addEventListener("input", event => move(axis(), Number(event.target.value)));
    by("v-opacity").addEventListener("input", event => { if (nv.volumes.length > 1) nv.setOpacity(1, event.target.value / 100); });
    by("v-hide").addEventListener("input", () => {
      if (nv.volumes.length < 2) return;
      nv.addColormap("anatograph", colours(map()));
      nv.setColormap(nv.volumes[1].id, "anatograph");
    });
    by("v-peak").addEventListener("click", () => { if (nv.volumes.length) go(map().peak); });
    canvas.addEventListener("pointermove", under);
    canvas.addEventListener("pointerleave", () => { if (nv.volumes.length) nv.createOnLocationChange(); });
    canvas.addEventListener("keydown", keys, {capture: true});
    new ResizeObserver(() => { if (nv.volumes.length) { nv.drawScene(); letters(); } }).observe(canvas);
    window.anatograph.viewer = nv;
    await reload();
  }

  window.anatograph.whenNear(section, () =>
    start().catch(error => trouble(`The viewer could not start (${error.message}); the pictures below stand in.`)));
})();
