// Adjudication: the cells that blinded readers dispute, one after another, with their answers side by side. Readers
// are letters here, so that the answer is weighed and not who gave it. Decisions go the way of every other one (`desk`).
import { centerOf, drawPart, nominalSide } from "./cell_picture.js";
import * as dialogs from "./dialogs.js";
import { Desk } from "./desk.js";
import { Fields } from "./fields.js";
import { nameOf, pictureOf } from "./gallery.js";
import { Hotkeys, keyOf } from "./hotkeys.js";
import { data, has, make, t } from "./page_data.js";
import { drawSaved, problem, tell } from "./page_messages.js";
import { NOT_A_CELL, Palette } from "./palette.js";
import { read } from "./station.js";

const $ = (selector) => document.querySelector(selector);
const RETYPE_MS = 2500, ASK_AGAIN_MS = 600, ZOOM = 1.3, MOST_ZOOM = 8;

const vocabulary = await read("/api/vocabulary");
const hotkeys = new Hotkeys(vocabulary);
const desk = new Desk(data.patient.patient_id, vocabulary, {
  ask: (conflicts, events) => dialogs.conflict(conflicts, events, desk, desk.outbox.real),
  tell: (key, values) => tell(t(key, values)),
  history: "adjudications",
});
const cells = desk.cells, fields = new Fields(desk);
const asked = new URLSearchParams(location.search).getAll("cell").map((name) => ["cell", name]); // what the page before wanted to decide
let found = { cells: [] }, at = 0, inField = false, zoom = 1;
await Promise.all([desk.open(), fields.open()]).catch((error) => { problem(error.message); throw error; });
await ask();
const palette = new Palette($("#palette"), cells.codes, hotkeys, decide);

async function ask() { found = await read(`${desk.address}/disputes?${new URLSearchParams(asked)}`); }

const dispute = () => found.cells[at] ?? null;
const indexOf = (item) => (item ? cells.index.get(item.cell_id) : undefined);
/** What a dispute was settled by: a code, NOT_A_CELL, or null while nobody has. */
function decision(item) {
  const i = indexOf(item);
  if (i === undefined || !cells.isReviewed(i)) return null;
  if (item.agreed && cells.columns.decided_by[i] !== data.reader) return null; // the readers' name, and no signer's
  return cells.isRemoved(i) ? NOT_A_CELL : cells.columns.code[i];
}

const colorOf = (code) => data.colors[cells.codes.get(code)?.category] ?? "#6b7178";
function chip(code) {
  const made = make("b", { class: `chip ${code === NOT_A_CELL ? "gone" : "given"}` }, code === NOT_A_CELL ? "×" : code);
  if (code !== NOT_A_CELL) made.style.setProperty("--code", colorOf(code));
  return made;
}

const sayOf = (answer) => (answer.code === null ? t(`review.answer.${answer.said}`) : nameOf(cells, answer.code));
/** What to record to agree with an answer; undefined where it names nothing that a cell can have. */
const takeOf = (answer) => answer.code ?? { not_a_cell: NOT_A_CELL, not_drawn: NOT_A_CELL }[answer.said];

function drawList() {
  const before = new Map([...$("#list").children].map((option) => [option.dataset.cell, option]));
  $("#list").replaceChildren(...found.cells.map((item, k) => {
    const option = before.get(item.cell_id) ?? make("div", { role: "option", id: `dispute-${item.cell_id}`, "data-cell": item.cell_id, onclick: () => go(found.cells.findIndex((other) => other.cell_id === item.cell_id)) },
      make("img", { src: pictureOf(desk, indexOf(item) ?? 0), alt: "", width: 56, height: 56 }), make("span", { class: "said" }));
    const code = decision(item);
    option.setAttribute("aria-selected", String(k === at));
    option.classList.toggle("done", code !== null);
    option.lastChild.replaceChildren(code === null ? item.answers.map((answer) => answer.code ?? (answer.said === "unread" ? "–" : "×")).join(" / ") : chip(code));
    option.setAttribute("aria-label", t(code === null ? "review.adjudicate.open" : "review.adjudicate.settled", { n: k + 1, of: found.cells.length, answers: item.answers.map((answer) => `${answer.letter} ${sayOf(answer)}`).join(", ") }));
    return option;
  }));
  const current = $("#list").children[at];
  current?.scrollIntoView({ block: "nearest" });
  if (current) $("#list").setAttribute("aria-activedescendant", current.id);
  const done = found.cells.filter((item) => decision(item) !== null).length;
  $("#done").textContent = t("review.n_of_n", { x: done, n: found.cells.length });
  $("#bar").value = found.cells.length ? done / found.cells.length : 0;
}

function drawPanel() {
  const item = dispute(), i = indexOf(item);
  $("#panel").classList.toggle("none", i === undefined);
  if (i === undefined) {
    $("#cell-name").textContent = t("review.adjudicate.none");
    $("#answers").replaceChildren();
    return;
  }
  const fieldName = fields.byId.get(cells.columns.field_id[i])?.name ?? cells.columns.field_id[i];
  $("#cell-name").textContent = t(item.agreed ? "review.adjudicate.agreed_of" : "review.adjudicate.cell_of", { n: at + 1, of: found.cells.length });
  $("#answers").replaceChildren(...item.answers.map((answer) => {
    const take = takeOf(answer);
    const card = make("button", { class: "answer", disabled: take === undefined, "data-letter": answer.letter, title: take === undefined ? null : t("review.adjudicate.take", { letter: answer.letter }), onclick: () => decide(take) },
      make("span", { class: "letter" }, t("review.adjudicate.reader", { letter: answer.letter })),
      answer.code === null ? make("b", { class: "chip gone" }, answer.said === "unread" ? "–" : "×") : chip(answer.code), make("span", { class: "name" }, sayOf(answer)));
    return card;
  }), make("p", { class: "soft" }, t("review.adjudicate.in_field", { field: fieldName })));
  const code = decision(item);
  $("#stands").textContent = code === null ? t("review.adjudicate.undecided") : t("review.decided_by", { reader: cells.columns.decided_by[i] });
  $("#withdraw").hidden = code === null || desk.isLocked;
  palette.mark(code);
}

/** The cell with what is around it, or its whole field; the outline of the disputed cell is drawn in either. */
async function drawPicture() {
  const canvas = $("#picture"), i = indexOf(dispute()), token = (drawPicture.token = Symbol("picture"));
  const pen = canvas.getContext("2d");
  const ratio = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.max(1, canvas.clientWidth * ratio), Math.max(1, canvas.clientHeight * ratio)];
  $("#absent").hidden = true;
  if (i === undefined) return;
  canvas.setAttribute("aria-label", t("review.picture_of", { cell: $("#cell-name").textContent }));
  const id = cells.columns.field_id[i], field = fields.byId.get(id);
  try {
    const [picture] = await Promise.all([fields.picture(id), fields.contours(id)]);
    if (drawPicture.token !== token) return;
    const whole = Math.min(canvas.width / picture.width, canvas.height / picture.height);
    const near = Math.min(canvas.width, canvas.height) / (1.6 * nominalSide(field));
    const [x, y] = inField && zoom === 1 ? [picture.width / 2, picture.height / 2] : centerOf(cells, i);
    drawPart(pen, picture, { x, y, scale: (inField ? whole : near) * zoom }, cells.contours.get(cells.columns.cell_id[i]));
    canvas.dataset.shown = cells.columns.cell_id[i];
  } catch {
    if (drawPicture.token === token) $("#absent").hidden = false;
  }
}

function draw() {
  drawList();
  drawPanel();
}

function go(to) {
  if (!found.cells.length) return;
  at = Math.min(found.cells.length - 1, Math.max(0, to));
  draw();
  drawPicture();
}

function nextOpen() {
  for (let k = 1; k <= found.cells.length; k++) {
    const to = (at + k) % found.cells.length;
    if (decision(found.cells[to]) === null) return go(to);
  }
  draw();
  tell(t("review.adjudicate.all_done"));
}

function decide(code) {
  const item = dispute();
  if (!item || code === undefined) return;
  if (!desk.decide([{ kind: "adjudicate", cell_id: item.cell_id, new: code === NOT_A_CELL ? null : code }], "adjudicate")) return;
  tell(code === NOT_A_CELL ? t("review.removed.not_a_cell") : t("review.told.code", { code, name: nameOf(cells, code) }));
  nextOpen();
}

/** Take the decision about this cell back, whoever made it: it is disputed again. */
function withdraw() {
  const item = dispute();
  if (decision(item) === null || !desk.decide([{ kind: "withdraw", cell_id: item.cell_id, new: null }], "withdraw")) return;
  tell(t("review.adjudicate.disputed_again"));
}

function step(which) {
  const action = desk[which]();
  if (!action) return tell(t(`review.nothing_to_${which}`));
  const names = new Set([...action.forward, ...action.inverse].map((event) => event.cell_id));
  const to = found.cells.findIndex((item) => names.has(item.cell_id));
  if (to >= 0) go(to);
  tell(t(`review.told.${which}`, { what: has(`review.kind_of.${action.label}`) ? t(`review.kind_of.${action.label}`) : action.label }));
}

function show(whole) {
  inField = whole;
  zoom = 1;
  $("#view-cell").setAttribute("aria-pressed", String(!whole));
  $("#view-field").setAttribute("aria-pressed", String(whole));
  drawPicture();
}

function zoomBy(factor) {
  zoom = Math.min(MOST_ZOOM, Math.max(inField ? 1 : 1 / MOST_ZOOM, zoom * factor));
  drawPicture();
}

function showHelp() {
  dialogs.help([[
    [t("review.adjudicate"), [[["↑", "↓"], t("review.help.dispute_move")], [["Home", "End"], t("review.help.ends")], [["z"], t("review.help.dispute_open")], [["g"], t("review.help.dispute_field")], [["+", "−"], t("review.help.dispute_zoom")]]],
    [t("review.help.decide"), [[["A … Z"], t("review.help.dispute_code")], [["x"], t("review.help.dispute_not")], [["u", "y"], t("review.help.undo")], [["h"], t("review.help.keys")], [["?"], t("review.help")]]],
  ]], hotkeys, vocabulary);
}

const editKeys = () => dialogs.editKeys(hotkeys, vocabulary, () => palette.draw());
const commands = {
  ArrowDown: () => go(at + 1), ArrowRight: () => go(at + 1), ArrowUp: () => go(at - 1), ArrowLeft: () => go(at - 1),
  Home: () => go(0), End: () => go(found.cells.length), z: nextOpen, u: () => step("undo"), y: () => step("redo"), g: () => show(!inField), x: () => decide(NOT_A_CELL),
  Delete: () => decide(NOT_A_CELL), Backspace: () => decide(NOT_A_CELL), h: editKeys, "?": showHelp,
  "+": () => zoomBy(ZOOM), "=": () => zoomBy(ZOOM), "-": () => zoomBy(1 / ZOOM), Escape: () => { hotkeys.clear(); palette.typing(); },
};

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    const which = { z: event.shiftKey ? "redo" : "undo", y: "redo" }[keyOf(event)];
    if (!which) return;
    step(which);
    return event.preventDefault();
  }
  if ((event.key === "Enter" || event.key === " ") && event.target.closest?.("button, a")) return;
  const key = keyOf(event);
  if (hotkeys.typed && ["Escape", "Enter", "Backspace"].includes(key)) {
    hotkeys.clear();
    palette.typing();
    tell("");
    return event.preventDefault();
  }
  if ((!hotkeys.typed || !hotkeys.begins(key)) && commands[key]) {
    hotkeys.clear();
    palette.typing();
    commands[key]();
    return event.preventDefault();
  }
  const typed = hotkeys.type(key);
  clearTimeout(hotkeys.timer);
  palette.typing();
  if (!typed) return;
  event.preventDefault();
  if (typed.code) decide(typed.code);
  else {
    tell(t("review.typing", { keys: typed.waiting, codes: hotkeys.open().map((code) => `${hotkeys.of(code).slice(1)} ${code}`).join("   ") }));
    hotkeys.timer = setTimeout(() => { hotkeys.clear(); palette.typing(); }, RETYPE_MS);
  }
});

/** Readers may go on, and another signer may settle: ask for the list again when the patient has changed elsewhere. */
function askAgain() {
  clearTimeout(askAgain.timer);
  askAgain.timer = setTimeout(async () => {
    if (desk.outbox.length || desk.base === askAgain.seen) return;
    askAgain.seen = desk.base;
    const cell = dispute()?.cell_id;
    await ask().catch(() => null); // no connection: the outbox says so, and the list stays
    at = Math.max(0, found.cells.findIndex((item) => item.cell_id === cell));
    draw();
  }, ASK_AGAIN_MS);
}

desk.addEventListener("saved", () => drawSaved(desk.outbox));
desk.addEventListener("cells", () => { draw(); askAgain(); });
$("#undo").onclick = () => step("undo");
$("#redo").onclick = () => step("redo");
$("#withdraw").onclick = withdraw;
$("#keys").onclick = editKeys;
$("#help").onclick = showHelp;
$("#view-cell").onclick = () => show(false);
$("#view-field").onclick = () => show(true);
new ResizeObserver(() => drawPicture()).observe($(".canvas-box"));
addEventListener("beforeunload", (event) => { if (desk.outbox.length && !desk.outbox.isKept) event.preventDefault(); });

askAgain.seen = desk.base;
drawSaved(desk.outbox);
go(Math.max(0, found.cells.findIndex((item) => decision(item) === null && (!asked.length || asked.some(([, name]) => name === item.cell_id)))));
$("#list").focus({ preventScroll: true });
document.body.dataset.ready = "true";
