// A slide in deep zoom with the regions that were read, and near by with the outlines of their cells; a click on a cell
// or a region, or a name in the list, opens the field view.
import { data, make, t } from "./page_data.js";
import { SlideCells } from "./slide_cells.js";
import { addressOf, read } from "./station.js";

const $ = (selector) => document.querySelector(selector);
const LABEL_PX = 70, CLICKABLE_PX = 8, NEAR = 1.6, RULE_PX = 180, PAN = 0.15;
const RULES_UM = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
const TURNS = ["r", "R", "f", "F"]; // keys with which the viewer turns and mirrors: the list and the rule would not follow

const patient = encodeURIComponent(data.patient_id);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const cellOf = (cell) => `/patients/${patient}?cell=${encodeURIComponent(cell.cell_id)}`;
const fieldOf = (region) => `/patients/${patient}?field=${encodeURIComponent(region.field_id)}`;
let slides = [], slide = null, viewer = null, cells = null, vocabulary = null, rows = new Map();

function say(sentence) {
  $("#instead").textContent = sentence;
  $("#instead").hidden = !sentence;
  for (const name of ["#deep", "#rule", "#zooms", "#read"]) $(name).hidden = Boolean(sentence);
}

function view() {
  // OpenSeadragon would add a style of its own, which the policy refuses; it adds none where an element is marked as one
  if (!$("style[data-openseadragon-mobile-css]")) {
    const marked = document.createElementNS(null, "style"); // of no namespace, so that it is nothing to a browser
    marked.setAttribute("data-openseadragon-mobile-css", "true");
    document.head.append(marked);
  }
  viewer?.destroy();
  viewer = OpenSeadragon({
    element: $("#deep"), drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_RIGHT", navigatorSizeRatio: 0.16,
    navigatorOpacity: 1, navigatorBackground: "#dfdbd1", navigatorBorderColor: "#8d867c", navigatorDisplayRegionColor: "#74195a",
    animationTime: 0.4, visibilityRatio: 0.6, minZoomImageRatio: 0.9, maxZoomPixelRatio: 3, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    tileSources: {
      width: slide.width_px, height: slide.height_px, tileSize: slide.tile_px, tileOverlap: slide.overlap_px, minLevel: slide.min_level, maxLevel: slide.max_level,
      getTileUrl: (level, x, y) => `/slides/${patient}/${slide.number}/${level}/${x}_${y}.jpg`,
    },
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", t("review.slide.picture", { name: slide.name }));
  viewer.navigator.element.setAttribute("aria-hidden", "true");
  viewer.navigator.canvas.tabIndex = -1;
  viewer.navigator.element.tabIndex = -1;
  viewer.addOnceHandler("open", mark);
  viewer.addHandler("open-failed", () => say(t("review.slide.problem.unreadable", { name: slide.name })));
  viewer.addHandler("tile-load-failed", () => { $("#deep").dataset.lost = "true"; });
  cells = new SlideCells(slide, vocabulary, { redraw: drawCells });
  viewer.canvas.append(cells.canvas);
  viewer.addHandler("update-viewport", () => { measure(); drawCells(); });
  viewer.addHandler("canvas-click", (event) => {
    const cell = event.quick && cellAt(event.position), region = event.quick && regionAt(event.position);
    if (cell) location.href = cellOf(cell);
    else if (region) location.href = fieldOf(region);
  });
  viewer.addHandler("canvas-key", (event) => { if (TURNS.includes(event.originalEvent.key) || key(event.originalEvent)) event.preventDefaultAction = true; });
  viewer.canvas.addEventListener("pointermove", (event) => {
    const box = viewer.canvas.getBoundingClientRect();
    const place = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
    const region = regionAt(place), cell = cellAt(place);
    viewer.canvas.style.cursor = cell || region ? "pointer" : "grab";
    point(region);
    if (cell === cells.pointed) return;
    cells.pointed = cell;
    drawCells();
  });
}

/** What of the slide is in view: its pixels at the corner, the screen's size, and pixels of the screen to one of it. */
function seen() {
  const image = viewer.world.getItemAt(0);
  if (!image) return null;
  const { x: left, y: top } = image.viewportToImageCoordinates(viewer.viewport.pointFromPixel(new OpenSeadragon.Point(0, 0), true));
  const { x: width, y: height } = viewer.viewport.getContainerSize();
  return { left, top, width, height, scale: image.viewportToImageZoom(viewer.viewport.getZoom(true)) };
}

function drawCells() { // once a frame
  drawCells.frame ??= requestAnimationFrame(() => {
    drawCells.frame = null;
    const view = seen();
    if (!view) return;
    $("#deep").classList.toggle("near", cells.isNear(view.scale));
    cells.draw(view);
  });
}

function cellAt({ x, y }) {
  const view = seen();
  return view && cells.isNear(view.scale) ? cells.at(view.left + x / view.scale, view.top + y / view.scale) : null;
}

/** Answer a key on the picture: arrows choose a cell where there are outlines, Enter opens it, q takes outlines away. */
function key(event) {
  const view = seen(), arrow = ARROWS[event.key];
  if (!view || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key === "q") {
    outlines();
    return true;
  }
  if (!cells.isNear(view.scale)) return false;
  if (event.key === "Enter" && cells.current) {
    location.href = cellOf(cells.current);
    return true;
  }
  if (event.key === "Escape") cells.current = null;
  else if (!arrow) return false;
  else if (event.shiftKey) viewer.viewport.panBy(new OpenSeadragon.Point(...arrow.map((by) => by * PAN)).times(viewer.viewport.getBounds().width)).applyConstraints();
  else {
    const cell = cells.toward(...arrow, view);
    if (cell) $("#chosen").textContent = cells.say(cell);
    if (cell && !isWithin(cell.box, view)) viewer.viewport.panTo(viewer.world.getItemAt(0).imageToViewportCoordinates(...cell.middle));
  }
  event.preventDefault();
  drawCells();
  return true;
}

const isWithin = ({ left, top, right, bottom }, view) => left >= view.left && top >= view.top && right <= view.left + view.width / view.scale && bottom <= view.top + view.height / view.scale;

function outlines() {
  cells.isOn = !cells.isOn;
  $("#outlines").setAttribute("aria-pressed", String(cells.isOn));
  drawCells();
}

const rectangle = ([x0, y0, x1, y1]) => viewer.viewport.imageToViewportRectangle(x0, y0, x1 - x0, y1 - y0);

/** Draw the regions, and list them with their cells and the way to each. */
function mark() {
  rows = new Map();
  for (const region of slide.regions) {
    const frame = make("div", { class: "region" }, make("span", {}, String(region.n_cells)));
    viewer.addOverlay({ element: frame, location: rectangle(region.box_xyxy) });
    const link = make("a", { href: fieldOf(region) }, region.name);
    const row = make("tr", {}, make("th", { scope: "row" }, link), make("td", { class: "n" }, String(region.n_cells)));
    row.addEventListener("pointerenter", () => point(region));
    link.addEventListener("focus", () => { point(region); show(region); });
    rows.set(region, { row, frame });
  }
  $("#regions").replaceChildren(...[...rows.values()].map(({ row }) => row));
  const asked = slide.regions.find((region) => region.field_id === decodeURIComponent(location.hash.slice(1)));
  if (asked) {
    show(asked, true);
    point(asked);
  }
  measure();
  viewer.forceRedraw();
  document.body.dataset.ready = "true";
}

function show(region, isNear = false) {
  const place = rectangle(region.box_xyxy), seen = viewer.viewport.getBounds();
  if (isNear) viewer.viewport.fitBounds(new OpenSeadragon.Rect(place.x - place.width * (NEAR - 1) / 2, place.y - place.height * (NEAR - 1) / 2, place.width * NEAR, place.height * NEAR), true);
  else if (!seen.containsPoint(place.getCenter())) viewer.viewport.panTo(place.getCenter());
}

function point(region) {
  for (const [other, { row, frame }] of rows) {
    row.classList.toggle("pointed", other === region);
    frame.classList.toggle("pointed", other === region);
  }
}

/** Return the region under a point of the screen; one that is tiny there can be hit all the same. */
function regionAt(position) {
  const image = viewer.world.getItemAt(0);
  if (!image) return null;
  const { x, y } = image.viewportToImageCoordinates(viewer.viewport.pointFromPixel(position, true));
  const slack = CLICKABLE_PX / 2 / image.viewportToImageZoom(viewer.viewport.getZoom(true));
  return slide.regions.find(({ box_xyxy: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1)
    ?? slide.regions.find(({ box_xyxy: [x0, y0, x1, y1] }) => x1 - x0 < 2 * slack && x >= x0 - slack && x < x1 + slack && y >= y0 - slack && y < y1 + slack) ?? null;
}

/** Labels where they have room, and the scale of the picture as it stands. */
function measure() {
  const image = viewer.world.getItemAt(0);
  if (!image) return;
  const scale = image.viewportToImageZoom(viewer.viewport.getZoom(true)); // pixels of the screen per pixel of the slide
  const widest = Math.max(0, ...slide.regions.map(({ box_xyxy: [x0, , x1] }) => x1 - x0));
  $("#deep").classList.toggle("labeled", widest * scale >= LABEL_PX);
  $("#rule").hidden = !slide.um_per_px;
  if (!slide.um_per_px) return;
  const um = RULES_UM.filter((value) => value / slide.um_per_px * scale <= RULE_PX).at(-1) ?? RULES_UM[0];
  $("#rule span").style.width = `${um / slide.um_per_px * scale}px`;
  $("#rule span").textContent = um < 1000 ? `${um} µm` : `${um / 1000} mm`;
}

function choose(number) {
  slide = slides.find((item) => item.number === number);
  $("#which").value = String(number);
  if (slide.problem) {
    say(t(`review.slide.problem.${slide.problem}`, { name: slide.name }));
    document.body.dataset.ready = "true";
    return;
  }
  say("");
  view();
}

document.addEventListener("visibilitychange", () => { // somebody may have named cells meanwhile
  if (document.hidden || !cells) return;
  cells.forget();
  drawCells();
});
$("#closer").onclick = () => viewer.viewport.zoomBy(1.6).applyConstraints();
$("#farther").onclick = () => viewer.viewport.zoomBy(1 / 1.6).applyConstraints();
$("#whole").onclick = () => viewer.viewport.goHome();
$("#outlines").onclick = outlines;
$("#which").onchange = () => choose(Number($("#which").value));

try {
  [slides, vocabulary] = await Promise.all([read(`${addressOf(data.patient_id)}/slides`), read("/api/vocabulary")]);
  $("#which").replaceChildren(...slides.map((item) => make("option", { value: item.number }, item.name)));
  $("#which").hidden = slides.length < 2;
  const hash = decodeURIComponent(location.hash.slice(1));
  const asked = slides.find((item) => item.regions?.some((region) => region.field_id === hash));
  if (slides.length) choose((asked ?? slides[0]).number);
  else {
    say(t("review.slide.none"));
    document.body.dataset.ready = "true";
  }
} catch (error) {
  say(error.message);
  document.body.dataset.ready = "true";
}
