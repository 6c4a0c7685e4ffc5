"use strict";
// Sorts the cohort table on a click on a column head, and filters it; without scripts the table stays as written.
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
  const search = filter.querySelector("input");
  const selects = [...filter.querySelectorAll("select")];
  const shown = filter.querySelector("output");
  const fits = (row, column, wanted) => {
    const found = row.dataset[column] ?? "";
    if (column !== "flags") return found === wanted;
    if (wanted === "*" || wanted === "-") return (found !== "") === (wanted === "*");
    return found.split(" ").includes(wanted);
  };
  const apply = () => {
    const words = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...body.rows].filter((row) => row.dataset.call);
    let n = 0;
    for (const row of rows) {
      const text = row.textContent.toLocaleLowerCase();
      const found = words.every((word) => text.includes(word))
        && selects.every((select) => !select.value || fits(row, select.dataset.column, select.value));
      row.hidden = !found;
      n += found;
    }
    shown.textContent = n < rows.length ? shown.dataset.text.replace("#", n) : "";
  };
  filter.hidden = false;
  search.addEventListener("input", apply);
  selects.forEach((select) => select.addEventListener("change", apply));
  filter.querySelector(".clear").addEventListener("click", () => {
    search.value = "";
    selects.forEach((select) => { select.value = ""; });
    apply();
    search.focus();
  });
  apply(); // a browser may keep what was typed when the page is loaded again
})();
