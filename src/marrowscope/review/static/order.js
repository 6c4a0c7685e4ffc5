// Which cells are shown, and in what order. Pure: columns in, positions out.
export const ORDERS = ["least", "most", "cblc", "not_cblc", "large", "small", "category", "field", "similar"];
export const BLINDED_ORDERS = ["field", "large", "small", "category", "similar"]; // what a reader without the calls can sort by
export const KINDS = ["all", "open", "reviewed", "changed", "removed", "drawn"];
export const EVERYTHING = {
  order: "least", show: "all", categories: [], field: "", certainty: [null, null], cblc: [null, null], area: [null, null],
};

const within = (value, [from, to]) => (from === null && to === null) || (value !== null && (from === null || value >= from) && (to === null || value <= to));

export function isShown(cells, i, view) {
  const c = cells.columns;
  const removed = cells.isRemoved(i);
  const kinds = {
    all: !removed, open: !removed && !cells.isReviewed(i), reviewed: cells.isReviewed(i) && !removed,
    changed: cells.isChanged(i) && !(removed && c.origin[i] !== "model"), removed, drawn: c.origin[i] !== "model" && !removed,
  };
  return kinds[view.show]
    && (!view.categories.length || view.categories.includes(cells.category(i)))
    && (!view.field || c.field_id[i] === view.field)
    && within(c.certainty[i], view.certainty) && within(c.p_cblc[i], view.cblc) && within(c.area_um2[i], view.area);
}

/** Return positions of the shown cells in order; `rank` maps a cell's id to its likeness for the order "similar". */
export function ordered(cells, view, rank = null) {
  const c = cells.columns;
  const shown = [];
  for (let i = 0; i < cells.length; i++) if (isShown(cells, i, view)) shown.push(i);
  const of = new Map(cells.categories.map((name, k) => [name, k]));
  const last = 1e9;
  const keys = {
    least: (i) => c.certainty[i] ?? 2, // what the machine says nothing of comes last
     most: (i) => -(c.certainty[i] ?? -1),
    cblc: (i) => -(c.p_cblc[i] ?? -1), not_cblc: (i) => c.p_cblc[i] ?? 2,
    large: (i) => -(c.area_um2[i] ?? c.w[i] * c.h[i]), small: (i) => c.area_um2[i] ?? c.w[i] * c.h[i],
    category: (i) => (of.get(cells.category(i)) ?? last) + (1 - (c.certainty[i] ?? 1)) / 2,
    field: () => 0, similar: (i) => rank?.get(c.cell_id[i]) ?? last,
  };
  const key = Float64Array.from(shown, keys[view.order] ?? keys.least);
  const fields = view.order === "field" ? c.field_id : null;
  const at = shown.map((_, k) => k);
  at.sort((a, b) => key[a] - key[b]
    || (fields ? (fields[shown[a]] < fields[shown[b]] ? -1 : fields[shown[a]] > fields[shown[b]] ? 1 : 0) : 0)
    || shown[a] - shown[b]);
  return at.map((k) => shown[k]);
}
