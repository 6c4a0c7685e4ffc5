// The worklist: every patient with status and progress; arrow keys and Enter open one.
import { assign } from "./assign.js";
import * as dialogs from "./dialogs.js";
import "./entrance.js";
import { data, kept, make, t } from "./page_data.js";
import { read } from "./station.js";

const $ = (selector) => document.querySelector(selector);
const AGAIN_MS = 15_000;
const boxes = ["flagged", "mine"], inputs = ["find", "status", "center", "order", ...boxes];
const field = (name) => (boxes.includes(name) ? "checked" : "value");
const picked = new Set();
const withPicks = $("#assign") !== null;
let patients = [], disputes = {};

const compare = new Intl.Collator(data.language, { numeric: true }).compare;
const share = (patient) => (patient.n_cells ? patient.n_reviewed / patient.n_cells : 0);
const ORDERS = {
  patient: () => 0, least: (a, b) => share(a) - share(b), most: (a, b) => share(b) - share(a), flags: (a, b) => b.flags.length - a.flags.length,
};

function shown() {
  const find = $("#find").value.trim().toLowerCase();
  return patients
    .filter((patient) => (!find || `${patient.patient_id} ${patient.center}`.toLowerCase().includes(find))
      && (!$("#status").value || patient.status === $("#status").value)
      && (!$("#center").value || patient.center === $("#center").value)
      && (!$("#flagged").checked || patient.flags.length > 0)
      && (!$("#mine").checked || patient.blinded))
    .sort((a, b) => ORDERS[$("#order").value](a, b) || compare(a.patient_id, b.patient_id));
}

/** Whether a signer may assign it: not signed, not read blinded by the signer, and nobody who sees all has decided. */
const isOpen = (patient) => !patient.signed && !patient.blinded && (patient.assigned.length > 0 || patient.n_reviewed === 0);

function pick(patient) {
  if (!isOpen(patient)) return make("td", { class: "pick" });
  const box = make("input", { type: "checkbox", checked: picked.has(patient.patient_id), "aria-label": t("review.assign.pick", { patient: patient.patient_id }), tabindex: "-1", onchange: () => { picked[box.checked ? "add" : "delete"](patient.patient_id); count(); } });
  return make("td", { class: "pick" }, box);
}

function reading({ reader, n_reviewed, n_cells, finished }) {
  const said = finished ? t("review.list.finished") : t("review.n_of_n", { x: n_reviewed, n: n_cells });
  return make("span", { class: `reading${finished ? " finished" : ""}` }, make("b", {}, reader === data.reader ? t("review.list.you") : reader), ` ${said}`);
}

/** Who reads it blinded and how far they are; for signers what they dispute, with the way to settle it. */
function readers(patient) {
  const counted = disputes[patient.patient_id];
  const to = `/patients/${encodeURIComponent(patient.patient_id)}/adjudicate`;
  const all = (counted?.disputed ?? 0) + (counted?.settled ?? 0);
  const words = counted?.disputed ? t("review.list.disputed", { n: counted.disputed }) : t("review.list.settled", { n: all });
  return make("td", { class: "readers" }, ...patient.readings.map(reading),
    all ? make("a", { class: counted.disputed ? "dispute" : "soft", href: to }, words) : null, patient.readings.length || all ? null : "–");
}

function row(patient) {
  const address = `/patients/${encodeURIComponent(patient.patient_id)}`;
  const progress = make("progress", { max: Math.max(1, patient.n_cells), value: patient.n_reviewed, "aria-label": t("review.list.reviewed") });
  const others = patient.opened_by.filter((reader) => reader !== data.reader);
  const line = make("tr", { "data-patient": patient.patient_id },
    withPicks ? pick(patient) : null,
    make("th", { scope: "row" }, make("a", { href: address }, patient.patient_id)),
    make("td", {}, patient.center), make("td", {}, make("span", { class: `status ${patient.status}` }, t(`review.status.${patient.status}`))),
    make("td", { class: "wide" }, progress, make("span", {}, t("review.n_of_n", { x: patient.n_reviewed, n: patient.n_cells }))),
    withReaders() ? readers(patient) : null,
    make("td", { class: "n" }, String(patient.n_fields), ...(patient.has_slides ? [" · ", make("a", { href: `/slides/${encodeURIComponent(patient.patient_id)}` }, t("review.slide"))] : [])),
    make("td", { class: "flags" }, ...patient.flags.map((flag) => make("span", { class: "flag" }, data.words[`flag.${flag}`] ?? flag))),
    make("td", { class: "soft" }, data.words[`state.word.${patient.state}`] ?? "–"),
    make("td", { class: others.length ? "here" : "" }, patient.opened_by.map((reader) => (reader === data.reader ? t("review.list.you") : reader)).join(", ") || "–"));
  line.addEventListener("click", (event) => { if (!event.target.closest("a, .pick") && !getSelection().toString()) location.href = address; });
  return line;
}

const withReaders = () => withPicks || patients.some((patient) => patient.readings.length);

function count() {
  const open = shown().filter(isOpen).map((patient) => patient.patient_id);
  if (!withPicks) return;
  $("#assign").disabled = picked.size === 0;
  $("#pick-all").checked = open.length > 0 && open.every((name) => picked.has(name));
  $("#pick-all").disabled = open.length === 0;
}

function draw() {
  const focused = document.activeElement.closest?.("tr")?.dataset.patient;
  const list = shown();
  $("#patients").replaceChildren(...list.map(row));
  $("#none").hidden = list.length > 0;
  $("#readers-column").hidden = !withReaders();
  $("#mine-only").hidden = !patients.some((patient) => patient.blinded);
  count();
  const [reviewed, cells] = [list.reduce((sum, patient) => sum + patient.n_reviewed, 0), list.reduce((sum, patient) => sum + patient.n_cells, 0)];
  $("#totals").textContent = t("review.list.totals", { n: list.length, of: patients.length, reviewed, cells });
  if (focused) [...$("#patients").rows].find((line) => line.dataset.patient === focused)?.querySelector("a").focus();
}

async function load() {
  try {
    patients = await read("/api/worklist");
    if (withPicks && patients.some((patient) => patient.was_assigned && !patient.blinded)) disputes = await read("/api/disputes");
    for (const name of picked) if (!patients.some((patient) => patient.patient_id === name && isOpen(patient))) picked.delete(name);
    $("#problem").hidden = true;
  } catch (error) {
    $("#problem").textContent = `${t("review.list.lost")} ${error.message}`;
    $("#problem").hidden = false;
  }
  const centers = [...new Set(patients.map((patient) => patient.center))].sort(compare);
  const known = new Set([...$("#center").options].map((option) => option.value));
  $("#center").append(...centers.filter((center) => !known.has(center)).map((center) => make("option", { value: center }, center)));
  const place = kept.read("worklist", {}, sessionStorage);
  if (!load.done) for (const name of inputs) if (name in place) $(`#${name}`)[field(name)] = place[name];
  load.done = true;
  draw();
  clearTimeout(load.timer);
  load.timer = setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", load, { once: true }) : load()), AGAIN_MS);
}

for (const name of inputs) {
  $(`#${name}`).addEventListener("input", () => {
    kept.write("worklist", Object.fromEntries(inputs.map((key) => [key, $(`#${key}`)[field(key)]])), sessionStorage);
    draw();
  });
}

function showHelp() {
  const assigning = withPicks ? [[["Space"], t("review.help.list_pick")], [["a"], t("review.help.list_assign")]] : [];
  dialogs.help([[[t("review.worklist"), [[["↑", "↓"], t("review.help.list_move")], [["Enter"], t("review.help.list_open")], [["/"], t("review.help.list_find")], [["Esc"], t("review.help.list_clear")], ...assigning, [["?"], t("review.help")]]]]]);
}
$("#help").onclick = showHelp;

async function giveOut() {
  const chosen = patients.filter((patient) => picked.has(patient.patient_id));
  if (!chosen.length) return;
  try {
    await assign(chosen, () => { picked.clear(); load(); });
  } catch (error) {
    $("#problem").textContent = error.message;
    $("#problem").hidden = false;
  }
}
if (withPicks) {
  $("#assign").onclick = giveOut;
  $("#pick-all").onchange = (event) => {
    for (const patient of shown().filter(isOpen)) picked[event.target.checked ? "add" : "delete"](patient.patient_id);
    draw();
  };
}

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const links = [...$("#patients").querySelectorAll("th a")];
  const at = links.indexOf(document.activeElement);
  const typing = event.target.matches?.("input[type=search], select");
  const act = {
    ArrowDown: () => links[Math.min(links.length - 1, at + 1)]?.focus(), ArrowUp: () => links[Math.max(0, at - 1)]?.focus(),
    Home: () => links[0]?.focus(), End: () => links.at(-1)?.focus(),
    Escape: () => { $("#find").value = ""; $("#find").dispatchEvent(new Event("input")); links[0]?.focus(); },
    "/": () => { $("#find").focus(); $("#find").select(); }, "?": showHelp,
    ...(withPicks ? { a: giveOut, " ": at < 0 ? undefined : () => links[at].closest("tr").querySelector(".pick input")?.click() } : {}),
  }[event.key];
  if (!act || (event.target.matches?.("select") && event.key !== "Escape") || (typing && !["ArrowDown", "Escape"].includes(event.key))) return;
  event.preventDefault();
  act();
});

await load();
$("#patients").querySelector("th a")?.focus();
document.body.dataset.ready = "true";
