// The bare pages: enough to see that a station works. Each page names its part in <main data-page>.
const main = document.querySelector("main");

async function read(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

async function worklist() {
  const body = document.querySelector("tbody");
  for (const patient of await read("/api/worklist")) {
    const row = document.createElement("tr");
    const link = element("a", patient.patient_id);
    link.href = `/patients/${encodeURIComponent(patient.patient_id)}`;
    row.append(document.createElement("td"));
    row.firstChild.append(link);
    row.append(element("td", patient.center), element("td", patient.status));
    row.append(element("td", `${patient.n_reviewed} of ${patient.n_cells}`), element("td", patient.opened_by.join(", ")));
    body.append(row);
  }
}

async function patient() {
  const name = encodeURIComponent(main.dataset.patient);
  const cells = await read(`/api/patients/${name}/cells`);
  const order = cells.cell_id.map((_, index) => index).sort((a, b) => cells.certainty[a] - cells.certainty[b]);
  const gallery = document.querySelector("#cells");
  for (const index of order.slice(0, 200)) {
    const figure = document.createElement("figure");
    const picture = document.createElement("img");
    picture.src = `/crops/${name}/${encodeURIComponent(cells.cell_id[index])}.webp`;
    picture.alt = cells.model_category[index] ?? "";
    picture.width = picture.height = 112;
    figure.append(picture, element("figcaption", cells.code[index] ?? `${cells.model_category[index]}?`));
    gallery.append(figure);
  }
}

({ worklist, patient })[main.dataset.page]?.().catch((error) => main.prepend(element("p", error.message)));
