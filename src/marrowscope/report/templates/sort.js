"use strict";
// Sorts the cohort table by a click on a column's head and filters it; without scripts the table stands as written.
(() => {
  const table = document.getElementById("cohort");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    return kind === "number" ? parseFloat(text.replaceAll(",", "")) : text.toLocaleLowerCase();
  };
  const order = new Intl.Collator(undefined, { numeric: true });
  const sort = (column, kind, descending) => {
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a, column, kind), value(b, column, kind)];
      const difference = kind === "number" ? x - y : order.compare(x, y);
      return descending ? -difference : difference;
    });
    body.append(...rows);
  };
  heads.forEach((head, column) => {
    const kind = head.dataset.sort;
    if (!kind) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : kind === "number";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(column, kind, descending);
    });
  });
  const filter = document.querySelector(".filter");
  filter.hidden = false;
  filter.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = [...row.cells].slice(0, 4).map((cell) => cell.textContent).join(" ").toLocaleLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
})();
