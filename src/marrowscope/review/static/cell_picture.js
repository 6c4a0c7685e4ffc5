// A part of a field drawn on a canvas around one point, with the outline of a cell where it is asked for.
const SIDE_UM = 28.8, UNSCALED_SIDE_PX = 192; // the side of every crop, as the classifier sees it
const GROUND = "#efece5", OUTLINE = "#74195a", HALO = "rgb(255 255 255 / 80%)";

/** The side of a cell's picture in pixels of its field. */
export const nominalSide = (field) => (field?.um_per_px ? SIDE_UM / field.um_per_px : UNSCALED_SIDE_PX);

/** The middle of a cell: the centroid of its outline where that is known, else the middle of its box. */
export function centerOf(cells, i) {
  const c = cells.columns;
  const contour = cells.contours.get(c.cell_id[i]);
  return contour ? centroid(contour) : [c.x[i] + c.w[i] / 2, c.y[i] + c.h[i] / 2];
}

/** Draw `picture` with (x, y) of the field in the middle of the canvas, `scale` canvas pixels to one of the field. */
export function drawPart(pen, picture, { x, y, scale }, contour = null) {
  const { width, height } = pen.canvas;
  const [left, top] = [x - width / 2 / scale, y - height / 2 / scale];
  pen.fillStyle = GROUND;
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, left, top, width / scale, height / scale, 0, 0, width, height);
  if (!contour) return;
  pen.beginPath();
  for (let k = 0; k < contour.length; k += 2) pen.lineTo((contour[k] - left) * scale, (contour[k + 1] - top) * scale);
  pen.closePath();
  for (const [color, thickness] of [[HALO, 5], [OUTLINE, 3]]) {
    pen.lineWidth = thickness;
    pen.strokeStyle = color;
    pen.stroke();
  }
}

function centroid(contour) {
  let [twice, sx, sy] = [0, 0, 0];
  for (let k = 0, j = contour.length - 2; k < contour.length; j = k, k += 2) {
    const cross = contour[j] * contour[k + 1] - contour[k] * contour[j + 1];
    twice += cross;
    sx += (contour[j] + contour[k]) * cross;
    sy += (contour[j + 1] + contour[k + 1]) * cross;
  }
  return twice === 0 ? [contour[0], contour[1]] : [sx / (3 * twice), sy / (3 * twice)];
}
