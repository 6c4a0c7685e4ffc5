// The review page of one patient: joins desk, gallery, panel, field view and keys.
import { AuditMode } from "./audit_mode.js";
import * as dialogs from "./dialogs.js";
import { Desk } from "./desk.js";
import { FieldView } from "./field_view.js";
import { Fields } from "./fields.js";
import { Gallery, nameOf } from "./gallery.js";
import { Hotkeys, keyOf } from "./hotkeys.js";
import { EVERYTHING, ordered } from "./order.js";
import { data, has, kept, make, t } from "./page_data.js";
import { drawSaved, problem, tell } from "./page_messages.js";
import { NOT_A_CELL } from "./palette.js";
import { Panel } from "./panel.js";
import { Side } from "./side.js";
import { signOff } from "./sign_off.js";
import { read } from "./station.js";
import { Strip } from "./strip.js";

const $ = (selector) => document.querySelector(selector);
const RETYPE_MS = 2500;

const vocabulary = await read("/api/vocabulary");
const hotkeys = new Hotkeys(vocabulary);
const desk = new Desk(data.patient.patient_id, vocabulary, {
  ask: (conflicts, events) => dialogs.conflict(conflicts, events, desk, desk.outbox.real),
  tell: (key, values, link) => tell(t(key, values), link),
});
const cells = desk.cells;
const fields = new Fields(desk);
await Promise.all([desk.open(), fields.open()]).catch((error) => { problem(error.message); throw error; });

const gallery = new Gallery($("#grid"), desk);
const side = new Side($("#side"), desk, fields);
const panel = new Panel($("#panel"), desk, fields, hotkeys, { decide: giveCode, goTo });
const fieldView = new FieldView($("#field-view"), desk, fields, { tell: (key, values) => tell(t(key, values)), choose: (i) => { gallery.go(i) || showAll(i); } });
const strip = new Strip($("#strip"), desk, { fullReview, behind: () => dialogs.behind(desk, fields), audit: () => (audit.isOn ? audit.end() : toggleField(false).then(() => audit.begin())) });
const audit = new AuditMode(desk, { show: showAudit, leave: () => { document.body.classList.remove("auditing"); sort({ keep: false }); strip.later(); }, tell: (key, values) => tell(t(key, values)) });
let rank = null, inField = false;

panel.next.checked = kept.read("go-on", true);
panel.next.addEventListener("change", () => kept.write("go-on", panel.next.checked));

function sort({ keep = true } = {}) {
  gallery.show(ordered(cells, side.view, rank), { keep });
  count();
}

function showAudit(order, next) {
  document.body.classList.add("auditing");
  if (order) gallery.show(order, { keep: false });
  if (next) gallery.go(cells.index.get(next));
  $("#shown").textContent = t("review.audit.shown", { x: audit.answered.size, n: gallery.order.length });
  $("#again").hidden = true;
  $("#grid").focus({ preventScroll: true });
}

function count() {
  if (audit.isOn) return side.count();
  $("#shown").textContent = t("review.n_shown", { n: gallery.order.length, of: cells.length });
  const fresh = new Set(ordered(cells, side.view, rank));
  const n = gallery.order.filter((i) => !fresh.has(i)).length + [...fresh].filter((i) => !gallery.place.has(i)).length;
  $("#again").hidden = n === 0;
  $("#again").firstChild.textContent = `${t("review.sort_again", { n })} `;
  side.count();
}

function later(work) { // once, when the hands rest; counting 10,000 cells is no part of a key's answer
  clearTimeout(work.timer);
  work.timer = setTimeout(work, 120);
}

desk.addEventListener("saved", () => { drawSaved(desk.outbox); gallery.soon(); });
desk.addEventListener("cells", () => {
  gallery.soon();
  panelSoon();
  fieldView.draw();
  later(count);
  later(drawStrip);
  strip.later();
});
desk.addEventListener("recorded", () => strip.later());
desk.addEventListener("refused", () => { if (audit.isOn) audit.again(); });
gallery.addEventListener("moved", panelSoon);
gallery.addEventListener("open", () => toggleField(true));
side.addEventListener("view", async () => {
  if (audit.isOn) audit.end();
  if (side.view.order === "similar") await likeCurrent();
  else side.like.hidden = true;
  sort({ keep: false });
});
fieldView.addEventListener("moved", panelSoon);

async function likeCurrent() {
  const id = current() === null ? null : cells.columns.cell_id[current()];
  try {
    const answer = await read(`${desk.address}/cells/${encodeURIComponent(id)}/similar`);
    rank = new Map(answer.cell_ids.map((name, at) => [name, at]));
    side.like.textContent = t(`review.like.${answer.by}`);
    side.like.hidden = false;
  } catch (error) {
    tell(error.message);
    side.view.order = side.order.value = side.first;
  }
}

const current = () => (inField ? fieldView.current : gallery.current);
const selection = () => (inField ? fieldView.selection : gallery.selection);

function drawStrip() { strip.draw(); }

function panelSoon() { // once a frame
  panelSoon.frame ??= requestAnimationFrame(() => {
    panelSoon.frame = null;
    drawPanel();
  });
}

function drawPanel() {
  const chosen = selection();
  panel.show(current(), chosen.length);
  $("#chosen").textContent = chosen.length > 1 ? t("review.n_chosen", { n: chosen.length }) : "";
}

function goTo(i) {
  if (inField) fieldView.go(i);
  else if (!gallery.go(i)) showAll(i);
}

/** Show everything, with the cursor at a cell that the present filters hide. */
function showAll(i) {
  Object.assign(side.view, { ...structuredClone(EVERYTHING), order: side.view.order });
  side.clear();
  gallery.go(i);
}

function giveCode(code) {
  if (code === NOT_A_CELL) return notACell();
  if (audit.isOn && !inField) {
    if (current() !== null) audit.answer(current(), code);
    return;
  }
  const chosen = selection();
  const c = cells.columns;
  const events = chosen.filter((i) => c.code[i] !== code || cells.isRemoved(i)).map((i) => ({ kind: "relabel", cell_id: c.cell_id[i], new: code }));
  if (!chosen.length) return tell(t("review.choose_first"));
  if (events.length && !desk.decide(events, code)) return;
  tell(chosen.length > 1 ? t("review.told.codes", { n: chosen.length, code, name: nameOf(cells, code) }) : t("review.told.code", { code, name: nameOf(cells, code) }));
  advance(chosen);
}

function advance(chosen) {
  if (!panel.next.checked || chosen.length !== 1) return;
  if (inField) fieldView.step(1);
  else if (chosen[0] === gallery.current && gallery.at + 1 < gallery.order.length) gallery.move(gallery.at + 1);
}

/** Confirm the machine's category, where it has one code alone. */
function confirm() {
  if (audit.isOn) return tell(t("review.audit.how"));
  const c = cells.columns;
  const chosen = selection();
  const events = [];
  for (const i of chosen) {
    if (c.code[i] !== null || cells.isRemoved(i)) continue;
    const codes = cells.ofCategory.get(c.model_category[i]) ?? [];
    if (codes.length === 1) events.push({ kind: "relabel", cell_id: c.cell_id[i], new: codes[0].code });
    else if (chosen.length === 1) {
      tell(t("review.several_codes", { category: c.model_category[i] ?? "?", codes: codes.map((code) => `${code.code} (${hotkeys.of(code.code)})`).join(", ") }));
      return;
    }
  }
  const left = chosen.filter((i) => c.code[i] === null && !cells.isRemoved(i)).length - events.length;
  if (events.length) desk.decide(events, "confirm");
  if (left) tell(t("review.told.left", { n: left }));
  else if (events.length) tell(t("review.told.confirmed", { n: events.length }));
  if (!left) advance(chosen);
}

/** Not a cell, or a cell again: whatever most of the chosen are not. */
function notACell() {
  if (audit.isOn && !inField) {
    if (current() !== null) audit.answer(current(), null);
    return;
  }
  const chosen = selection();
  const c = cells.columns;
  const present = chosen.filter((i) => !cells.isRemoved(i));
  const kind = present.length ? "not_a_cell" : "restore";
  const events = (present.length ? present : chosen).map((i) => ({ kind: kind === "restore" ? kind : c.origin[i] === "model" ? "not_a_cell" : "delete", cell_id: c.cell_id[i], new: null }));
  if (!desk.decide(events, kind)) return;
  tell(t(`review.told.${kind}`, { n: events.length }));
  advance(chosen);
}

function step(which) {
  const action = desk[which]();
  if (!action) {
    tell(t(`review.nothing_to_${which}`));
    return;
  }
  const named = [...action.forward, ...action.inverse].map((event) => cells.index.get(desk.outbox.real(event.cell_id))).find((i) => i !== undefined);
  if (named !== undefined) goTo(named);
  tell(t(`review.told.${which}`, { what: has(`review.kind_of.${action.label}`) ? t(`review.kind_of.${action.label}`) : action.label }));
}

async function toggleField(on = !inField, fieldId = null) {
  if (on === inField) return;
  const i = current();
  inField = on;
  $("#field-view").hidden = !on;
  $("#gallery-view").hidden = on;
  $("#view-gallery").setAttribute("aria-pressed", String(!on));
  $("#view-field").setAttribute("aria-pressed", String(on));
  if (on) {
    await (fieldId === null ? fieldView.open(i) : fieldView.openField(fieldId));
    fieldView.canvas.focus({ preventScroll: true });
  } else {
    gallery.layout();
    if (i !== null && !gallery.go(i)) showAll(i);
    $("#grid").focus({ preventScroll: true });
  }
  drawPanel();
}

async function fullReview() {
  const by = desk.state.full_review_by;
  desk.decide([{ kind: "full_review", cell_id: null, new: !by }], "full_review");
  desk.state.full_review_by = by ? null : data.reader;
  strip.draw();
}

function showHelp() {
  const move = [["←", "→", "↑", "↓"], t("review.help.move")];
  const sign = (kind, text) => make("span", { class: `sign ${kind}` }, text);
  dialogs.help([
    [
      [t("review.help.gallery"), [
        move, [["Shift", "←→↑↓"], t("review.help.range")], [["Ctrl", "←→↑↓"], t("review.help.only")], [["Space"], t("review.help.toggle")],
        [["Ctrl", "A"], t("review.help.all")], [["Home", "End"], t("review.help.ends")], [["z"], t("review.help.next_open")],
        [["s"], t("review.help.similar")], [["o"], t("review.help.again")], [["/"], t("review.help.filter")], [["+", "−"], t("review.help.pictures")],
      ]],
      [t("review.help.decide"), [
        [["Enter"], t("review.help.confirm")], [["x"], t("review.help.not_a_cell")], [["u", "y"], t("review.help.undo")],
        [["c"], t("review.help.comment")], [["h"], t("review.help.keys")], [["Esc"], t("review.help.escape")],
      ]],
    ],
    [
      [t("review.help.field"), [
        [["g"], t("review.help.switch")], [["i"], t("review.help.add")], [["d"], t("review.help.redraw")], [["k"], t("review.help.split")], [["t"], t("review.help.merge")],
        [["o"], t("review.help.overlap")], [["q"], t("review.help.outline")], [["+", "−", "w"], t("review.help.zoom")], [["Shift", "←→↑↓"], t("review.help.pan")], [["[", "]"], t("review.help.fields")],
        [["Shift", "Enter"], t("review.help.checked")],
      ]],
      [t("review.help.signs"), [
        [[sign("machine", "N2?")], t("review.help.sign_machine")], [[sign("given", "N2")], t("review.help.sign_given")],
        [[sign("dot", "")], t("review.help.sign_changed")], [[sign("waiting", "N2")], t("review.help.sign_waiting")],
      ]],
    ],
  ], hotkeys, vocabulary);
}

function nextOpen() {
  if (inField) return fieldView.step(1, (i) => !cells.isReviewed(i));
  const order = gallery.order;
  for (let k = 1; k <= order.length; k++) {
    const at = (gallery.at + k) % order.length;
    if (!cells.isReviewed(order[at])) return gallery.move(at);
  }
  tell(t("review.none_open"));
}

const commands = {
  g: () => toggleField(), u: () => step("undo"), y: () => step("redo"), x: notACell, Delete: notACell, Backspace: notACell,
  c: () => dialogs.notes(desk, current() === null ? null : cells.columns.cell_id[current()], (event) => desk.decide([event], event.kind)),
  h: () => dialogs.editKeys(hotkeys, vocabulary, () => panel.drawPalette()),
  "?": showHelp, z: nextOpen, q: () => { panel.outline(); fieldView.outlines(); }, "/": () => side.order.focus(),
  Enter: confirm, Escape: () => { if (!hotkeys.clear()) (inField ? fieldView.escape() : audit.isOn ? audit.end() : gallery.one()); panel.typing(); },
};
const galleryCommands = {
  s: async () => { side.order.value = side.view.order = side.view.order === "similar" ? side.first : "similar"; side.choose(side.view.order); },
  o: () => sort({ keep: false }), "+": () => gallery.resize(1), "=": () => gallery.resize(1), "-": () => gallery.resize(-1), " ": () => gallery.toggle(),
};

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const target = event.target;
  const inside = target.closest?.("input, select, textarea");
  if (inside && !(inside.type === "checkbox")) {
    if (event.key === "Escape" || (event.key === "Enter" && inside.tagName !== "SELECT")) {
      event.preventDefault();
      $(inField ? ".field-canvas" : "#grid").focus({ preventScroll: true });
    }
    return;
  }
  if ((event.key === "Enter" || event.key === " ") && target.closest?.("button, a")) return;
  const key = keyOf(event);
  const answered = () => { event.preventDefault(); };
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") { step(event.shiftKey ? "redo" : "undo"); return answered(); }
    if (key === "y") { step("redo"); return answered(); }
    if (inField) return;
    if (key === "a") { gallery.all(); return answered(); }
    if (key === " ") { gallery.toggle(); return answered(); }
    if (gallery.key(event.key, event)) answered();
    return;
  }
  if (event.altKey) return;
  if (hotkeys.typed && ["Escape", "Enter", "Backspace"].includes(key)) {
    hotkeys.clear();
    panel.typing();
    tell("");
    return answered();
  }
  if (!hotkeys.typed || !hotkeys.begins(key)) {
    hotkeys.clear();
    if (inField ? fieldView.key(key, event) : gallery.key(event.key, event)) return answered();
    const command = (inField ? undefined : galleryCommands[key]) ?? commands[key];
    if (command) { command(); return answered(); }
  }
  const typed = hotkeys.type(key);
  clearTimeout(hotkeys.timer);
  panel.typing();
  if (!typed) return;
  answered();
  if (typed.code) giveCode(typed.code);
  else {
    tell(t("review.typing", { keys: typed.waiting, codes: hotkeys.open().map((code) => `${hotkeys.of(code).slice(1)} ${code}`).join("   ") }));
    hotkeys.timer = setTimeout(() => { hotkeys.clear(); panel.typing(); }, RETYPE_MS);
  }
});

$("#undo").onclick = () => step("undo");
$("#redo").onclick = () => step("redo");
$("#notes").onclick = () => commands.c();
$("#sign").onclick = () => signOff(desk, { changed: () => location.reload() }).catch((error) => tell(error.message));
$("#keys").onclick = () => commands.h();
$("#help").onclick = showHelp;
$("#again").onclick = () => sort({ keep: false });
$("#smaller").onclick = () => gallery.resize(-1);
$("#larger").onclick = () => gallery.resize(1);
$("#view-gallery").onclick = () => toggleField(false);
$("#view-field").onclick = () => toggleField(true);
if ($("#view-slide")) $("#view-slide").onclick = () => { $("#view-slide").hash = inField ? encodeURIComponent(fieldView.fieldId) : ""; };
addEventListener("beforeunload", (event) => { if (desk.outbox.length && !desk.outbox.isKept) event.preventDefault(); });

$("#standing").textContent = [data.patient.center, has(`state.word.${data.patient.state}`) ? t(`state.word.${data.patient.state}`) : null, desk.state.is_locked ? t("review.status.signed") : null].filter(Boolean).join(" · ");
sort({ keep: false });
drawSaved(desk.outbox);
strip.draw();
strip.later();
$("#grid").focus({ preventScroll: true });
const asked = new URLSearchParams(location.search); // a region, or a cell, of a slide leads here
const askedCell = cells.index.get(asked.get("cell"));
if (askedCell !== undefined) goTo(askedCell);
if (askedCell !== undefined) await toggleField(true);
else if (fields.byId.has(asked.get("field"))) await toggleField(true, asked.get("field"));
document.body.dataset.ready = "true";
