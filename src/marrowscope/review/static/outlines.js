// Geometry of outlines: flat arrays x0, y0, x1, y1, ... in pixels of the field, implicitly closed. Pure.
export function contains(contour, x, y) {
  let inside = false;
  for (let k = 0, j = contour.length - 2; k < contour.length; j = k, k += 2) {
    const [ax, ay, bx, by] = [contour[k], contour[k + 1], contour[j], contour[j + 1]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

export function area(contour) {
  let twice = 0;
  for (let k = 0, j = contour.length - 2; k < contour.length; j = k, k += 2) twice += contour[j] * contour[k + 1] - contour[k] * contour[j + 1];
  return Math.abs(twice) / 2;
}

const SAMPLES = 24;
/** Share of the smaller of two outlines that the other covers, by a grid of points in their common box. */
export function overlap(a, b, boxA, boxB) {
  const left = Math.max(boxA.x, boxB.x), right = Math.min(boxA.x + boxA.w, boxB.x + boxB.w);
  const top = Math.max(boxA.y, boxB.y), bottom = Math.min(boxA.y + boxA.h, boxB.y + boxB.h);
  if (left >= right || top >= bottom) return 0;
  let n = 0;
  for (let k = 0; k < SAMPLES * SAMPLES; k++) {
    const x = left + ((k % SAMPLES) + 0.5) * (right - left) / SAMPLES, y = top + (Math.floor(k / SAMPLES) + 0.5) * (bottom - top) / SAMPLES;
    if (contains(a, x, y) && contains(b, x, y)) n += 1;
  }
  return (n / SAMPLES ** 2) * (right - left) * (bottom - top) / Math.max(1, Math.min(area(a), area(b)));
}

/** Cut an outline in two along a drawn line that crosses it; null where the line does not cross it twice. */
export function cut(contour, line) {
  const n = contour.length / 2;
  const crossings = [];
  for (let s = 0; s + 3 < line.length; s += 2) {
    const here = [];
    for (let k = 0; k < n; k++) {
      const j = (k + 1) % n;
      const hit = crossing(line.slice(s, s + 4), [contour[2 * k], contour[2 * k + 1], contour[2 * j], contour[2 * j + 1]]);
      if (hit) here.push({ edge: k, segment: s / 2, ...hit });
    }
    crossings.push(...here.sort((a, b) => a.along - b.along));
  }
  if (crossings.length < 2) return null;
  const [from, to] = [crossings[0], crossings.at(-1)];
  const inner = [];
  for (let s = from.segment + 1; s <= to.segment; s++) inner.push([line[2 * s], line[2 * s + 1]]);
  const walk = (start, end) => { // along the outline from one crossing to the other
    const points = [[start.x, start.y]];
    const steps = (end.edge - start.edge + n) % n || (end.edge === start.edge && end.at < start.at ? n : 0);
    for (let k = 1; k <= steps; k++) {
      const j = (start.edge + k) % n;
      points.push([contour[2 * j], contour[2 * j + 1]]);
    }
    return [...points, [end.x, end.y]];
  };
  const one = [...walk(from, to), ...[...inner].reverse()].flat();
  const other = [...walk(to, from), ...inner].flat();
  return area(one) > 1 && area(other) > 1 ? [tidy(one), tidy(other)] : null;
}

function crossing([ax, ay, bx, by], [cx, cy, dx, dy]) {
  const d = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx);
  if (d === 0) return null;
  const along = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / d;
  const at = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / d;
  if (along < 0 || along > 1 || at < 0 || at >= 1) return null;
  return { along, at, x: ax + along * (bx - ax), y: ay + along * (by - ay) };
}

/** Drop points that repeat the one before; a hundredth of a pixel is less than anybody draws. */
export function tidy(contour) {
  const kept = [];
  for (let k = 0; k < contour.length; k += 2) {
    const [x, y] = [Math.round(contour[k] * 100) / 100, Math.round(contour[k + 1] * 100) / 100];
    if (kept.length && Math.hypot(kept.at(-2) - x, kept.at(-1) - y) < 0.05) continue;
    kept.push(x, y);
  }
  return kept;
}

/** Thin a line that was drawn by hand to points at least `step` apart. */
export function thin(line, step) {
  const kept = line.slice(0, 2);
  for (let k = 2; k < line.length; k += 2) if (Math.hypot(kept.at(-2) - line[k], kept.at(-1) - line[k + 1]) >= step) kept.push(line[k], line[k + 1]);
  return kept;
}
