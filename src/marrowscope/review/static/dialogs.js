// Dialogs: help, keys of the codes, notes, a conflict with another reader. The browser's own <dialog>: it holds the
// focus, gives it back, and Escape closes it.
import { problems } from "./hotkeys.js";
import { data, make, t } from "./page_data.js";

export function open(title, kind, ...content) {
  const close = make("button", { class: "quiet close", "aria-label": t("review.close"), onclick: () => dialog.close() }, "×");
  const dialog = make("dialog", { class: kind, "aria-labelledby": "dialog-title" }, make("header", {}, make("h2", { id: "dialog-title" }, title), close), ...content);
  const focused = document.activeElement;
  dialog.addEventListener("close", () => { dialog.remove(); focused?.focus({ preventScroll: true }); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog && kind !== "conflict") dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function help(columns, hotkeys, vocabulary) {
  const table = (rows) => make("dl", { class: "keys" }, ...rows.flatMap(([keys, what]) => [make("dt", {}, ...keys.map((key) => (key instanceof Node ? key : make("kbd", {}, key)))), make("dd", {}, what)]));
  const section = ([title, rows]) => make("section", {}, make("h3", {}, title), table(rows));
  const codes = vocabulary ? [make("section", { class: "codes" }, make("h3", {}, t("review.help.codes")), make("div", { class: "two" }, ...vocabulary.codes.map((code) =>
    make("p", {}, make("span", {}, ...[...hotkeys.of(code.code)].map((key) => make("kbd", {}, key))), make("b", {}, code.code), make("span", { class: "soft" }, code.names[data.language])))))] : [];
  open(t("review.help"), "help", make("div", { class: "columns" }, ...columns.map((groups) => make("div", {}, ...groups.map(section))), ...codes));
}

export function editKeys(hotkeys, vocabulary, changed) {
  const inputs = new Map();
  const said = make("p", { class: "problem", role: "alert" });
  const rows = vocabulary.codes.map((code) => {
    const input = make("input", { value: hotkeys.of(code.code), maxlength: 2, spellcheck: "false", autocomplete: "off", "aria-label": `${code.code} · ${code.names[data.language]}`, oninput: () => check() });
    inputs.set(code.code, input);
    return make("label", {}, make("b", {}, code.code), input, make("span", {}, code.names[data.language]));
  });
  const asked = () => new Map([...inputs].map(([code, input]) => [code, input.value.trim().toLowerCase()]));
  const check = () => {
    const found = problems(asked());
    const wrong = new Set(found.flatMap((item) => [item.code, item.other]));
    for (const [code, input] of inputs) input.setAttribute("aria-invalid", String(wrong.has(code)));
    const item = found[0];
    said.textContent = item ? t(`review.keys.${item.kind}`, { code: item.code, other: item.other ?? "", keys: item.keys }) : "";
    save.disabled = found.length > 0;
  };
  const save = make("button", { class: "primary", onclick: () => {
    if (hotkeys.remap(asked()).length) return check();
    changed();
    dialog.close();
  } }, t("review.save"));
  const defaults = make("button", { class: "quiet", onclick: () => { for (const [code, keys] of hotkeys.defaults) inputs.get(code).value = keys; check(); } }, t("review.keys.defaults"));
  const dialog = open(t("review.keys.title"), "edit-keys", make("p", { class: "soft" }, t("review.keys.why")), make("div", { class: "rows" }, ...rows), said, make("footer", {}, defaults, save));
}

/** Another reader has decided about the same cells: show whose decision stands, and ask. Gives true for mine. */
export function conflict(conflicts, events, desk, real) {
  return new Promise((resolve) => {
    const mine = new Map(events.map((event) => [real(event.cell_id), event]));
    const what = (event) => (event.kind === "relabel" ? event.new ?? t("review.conflict.taken_back") : t(`review.kind_of.${event.kind}`));
    const last = new Map(conflicts.map((event) => [event.cell_id, event]));
    const rows = [...last.values()].slice(0, 12).map((event) => make("tr", {},
      make("td", {}, make("img", { src: `/crops/${encodeURIComponent(desk.patientId)}/${encodeURIComponent(event.cell_id)}.webp`, alt: "", width: 72, height: 72 })),
      make("td", {}, make("b", {}, what(event)), make("small", {}, `${event.reader}, ${new Date(event.time_utc).toLocaleString(data.language)}`)),
      make("td", {}, make("b", {}, mine.has(event.cell_id) ? what(mine.get(event.cell_id)) : "–"))));
    let answer = false;
    const done = (value) => { answer = value; dialog.close(); };
    const dialog = open(t("review.conflict.title"), "conflict", make("p", {}, t("review.conflict.why", { n: last.size })),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, t("review.conflict.cell")), make("th", {}, t("review.conflict.stands")), make("th", {}, t("review.conflict.mine")))), make("tbody", {}, ...rows)),
      make("footer", {}, make("button", { class: "quiet", onclick: () => done(true) }, t("review.conflict.record_mine")), make("button", { class: "primary", autofocus: true, onclick: () => done(false) }, t("review.conflict.keep_theirs"))));
    dialog.addEventListener("close", () => resolve(answer));
  });
}

/** Notes on the patient and on the chosen cell, and answers to the flags. */
export function notes(desk, currentId, send) {
  const list = make("ul", { class: "comments" });
  const draw = () => {
    const shown = desk.state.comments.map((comment) => make("li", {}, make("p", {}, comment.text),
      make("small", {}, [comment.cell_id ? t("review.notes.on_cell") : comment.about === "adequacy" ? t("review.notes.adequacy") : t("review.notes.on_patient"), comment.reader, new Date(comment.time_utc).toLocaleString(data.language)].join(" · "))));
    list.replaceChildren(...(shown.length ? shown : [make("li", { class: "soft" }, t("review.notes.none"))]));
  };
  const about = make("select", { "aria-label": t("review.notes.about") }, make("option", { value: "patient" }, t("review.notes.on_patient")), make("option", { value: "adequacy" }, t("review.notes.adequacy")), currentId ? make("option", { value: "cell" }, t("review.notes.on_cell")) : null);
  const text = make("textarea", { rows: 3, maxlength: 4000, "aria-label": t("review.notes.text"), autofocus: true, onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) add(); } });
  const add = () => {
    if (!text.value.trim()) return;
    send({ kind: "comment", cell_id: about.value === "cell" ? currentId : null, new: { text: text.value.trim(), about: about.value === "adequacy" ? "adequacy" : null } });
    text.value = "";
  };
  const flags = data.patient.flags.map(({ flag, name }) => {
    const input = make("input", { value: desk.state.flags_answered[flag] ?? "", maxlength: 400, "aria-label": name });
    return make("label", { class: "flag" }, make("span", {}, name), input, make("button", { class: "quiet", onclick: () => { if (input.value.trim()) send({ kind: "flag_answered", cell_id: null, new: { flag, answer: input.value.trim() } }); } }, t("review.save")));
  });
  const dialog = open(t("review.notes"), "notes", make("div", { class: "write" }, about, text, make("button", { class: "primary", onclick: add }, t("review.notes.add"))), list,
    ...(flags.length ? [make("h3", {}, t("review.notes.flags")), ...flags] : []));
  draw();
  desk.addEventListener("cells", draw);
  dialog.addEventListener("close", () => desk.removeEventListener("cells", draw));
}

/** What could not go along to a new prediction, or is about the cells of another one, by name, and why. */
export function behind({ state, cells }, fields) {
  const item = (what, why) => make("li", {}, make("b", {}, what), make("small", {}, why));
  const left = state.left_behind.map(({ kind, readers, n, of }) => item(t(`review.behind.${kind}`, { n, of, readers: readers.join(", ") }), t(`review.behind.${kind}.why`)));
  const decisions = state.not_carried.map(({ field_id: field, code, removed, decided_by: reader, reason }) => {
    const what = removed ? t(`review.removed.${removed}`) : code === null ? t("review.behind.outline") : `${code} · ${cells.codes.get(code)?.names[data.language] ?? code}`;
    const where = t("review.behind.where", { field: fields.byId.get(field)?.name ?? field.split("/").at(-1) });
    return item([what, reader && t("review.decided_by", { reader })].filter(Boolean).join(", "), `${where} ${t(`review.behind.${reason}`)}`);
  });
  const misplaced = state.misplaced.map(({ kind, reader, time_utc: time }) =>
    item([t(`review.kind_of.${kind}`), t("review.decided_by", { reader }), new Date(time).toLocaleString(data.language)].join(", "), t("review.behind.misplaced.why")));
  open(t("review.behind.title"), "behind", make("p", { class: "soft" }, t("review.behind.how")), make("ul", { class: "checklist" }, ...left, ...decisions, ...misplaced));
}

export function choose(title, choices) {
  return new Promise((resolve) => {
    let answer = null;
    const dialog = open(title, "choose", make("footer", {}, ...choices.map(([value, label], at) => make("button", { class: at ? "quiet" : "primary", autofocus: at === 0, onclick: () => { answer = value; dialog.close(); } }, label))));
    dialog.addEventListener("close", () => resolve(answer));
  });
}
