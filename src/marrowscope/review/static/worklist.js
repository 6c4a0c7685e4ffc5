// The worklist: every patient with status and progress; arrow keys and Enter open one.
import * as dialogs from "./dialogs.js";
import { data, kept, make, t } from "./page_data.js";
import { read, send } from "./station.js";

const $ = (selector) => document.querySelector(selector);
const AGAIN_MS = 15_000;
const inputs = ["find", "status", "center", "order", "flagged"];
let patients = [];

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
      && (!$("#flagged").checked || patient.flags.length > 0))
    .sort((a, b) => ORDERS[$("#order").value](a, b) || compare(a.patient_id, b.patient_id));
}

function row(patient) {
  const address = `/patients/${encodeURIComponent(patient.patient_id)}`;
  const progress = make("progress", { max: Math.max(1, patient.n_cells), value: patient.n_reviewed, "aria-label": t("review.list.reviewed") });
  const others = patient.opened_by.filter((reader) => reader !== data.reader);
  const line = make("tr", { "data-patient": patient.patient_id },
    make("th", { scope: "row" }, make("a", { href: address }, patient.patient_id)),
    make("td", {}, patient.center), make("td", {}, make("span", { class: `status ${patient.status}` }, t(`review.status.${patient.status}`))),
    make("td", { class: "wide" }, progress, make("span", {}, t("review.n_of_n", { x: patient.n_reviewed, n: patient.n_cells }))),
    make("td", { class: "n" }, String(patient.n_fields)),
    make("td", { class: "flags" }, ...patient.flags.map((flag) => make("span", { class: "flag" }, data.words[`flag.${flag}`] ?? flag))),
    make("td", { class: "soft" }, data.words[`state.word.${patient.state}`] ?? "–"),
    make("td", { class: others.length ? "here" : "" }, patient.opened_by.map((reader) => (reader === data.reader ? t("review.list.you") : reader)).join(", ") || "–"));
  line.addEventListener("click", (event) => { if (!event.target.closest("a") && !getSelection().toString()) location.href = address; });
  return line;
}

function draw() {
  const focused = document.activeElement.closest?.("tr")?.dataset.patient;
  const list = shown();
  $("#patients").replaceChildren(...list.map(row));
  $("#none").hidden = list.length > 0;
  const [reviewed, cells] = [list.reduce((sum, patient) => sum + patient.n_reviewed, 0), list.reduce((sum, patient) => sum + patient.n_cells, 0)];
  $("#totals").textContent = t("review.list.totals", { n: list.length, of: patients.length, reviewed, cells });
  if (focused) [...$("#patients").rows].find((line) => line.dataset.patient === focused)?.querySelector("a").focus();
}

async function load() {
  try {
    patients = await read("/api/worklist");
    $("#problem").hidden = true;
  } catch (error) {
    $("#problem").textContent = `${t("review.list.lost")} ${error.message}`;
    $("#problem").hidden = false;
  }
  const centers = [...new Set(patients.map((patient) => patient.center))].sort(compare);
  const known = new Set([...$("#center").options].map((option) => option.value));
  $("#center").append(...centers.filter((center) => !known.has(center)).map((center) => make("option", { value: center }, center)));
  const place = kept.read("worklist", {}, sessionStorage);
  if (!load.done) for (const name of inputs) if (name in place) $(`#${name}`)[name === "flagged" ? "checked" : "value"] = place[name];
  load.done = true;
  draw();
  setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", load, { once: true }) : load()), AGAIN_MS);
}

for (const name of inputs) {
  $(`#${name}`).addEventListener("input", () => {
    kept.write("worklist", Object.fromEntries(inputs.map((key) => [key, $(`#${key}`)[key === "flagged" ? "checked" : "value"]])), sessionStorage);
    draw();
  });
}

function showHelp() {
  dialogs.help([[[t("review.worklist"), [[["↑", "↓"], t("review.help.list_move")], [["Enter"], t("review.help.list_open")], [["/"], t("review.help.list_find")], [["Esc"], t("review.help.list_clear")], [["?"], t("review.help")]]]]]);
}
$("#help").onclick = showHelp;
$("#leave")?.addEventListener("click", async () => {
  await send("/api/leave", {}).catch(() => null); // an ended session is left already
  location.href = "/login";
});

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
  }[event.key];
  if (!act || (event.target.matches?.("select") && event.key !== "Escape") || (typing && !["ArrowDown", "Escape"].includes(event.key))) return;
  event.preventDefault();
  act();
});

await load();
$("#patients").querySelector("th a")?.focus();
document.body.dataset.ready = "true";
