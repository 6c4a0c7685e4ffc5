// Fields of a patient: their contours and pictures, fetched when they are first looked at.
import { fieldPath, read } from "./station.js";

const MOST_PICTURES = 8;

export class Fields {
  constructor(desk) {
    this.desk = desk;
    this.list = [];
    this.shapes = new Map();
    this.pictures = new Map();
  }

  async open() {
    this.list = (await read(`${this.desk.address}/fields`)).filter((field) => field.failed === null);
    this.byId = new Map(this.list.map((field) => [field.field_id, field]));
  }

  /** Contours of a field go into the cells; what the quality rules refused comes back. */
  async contours(fieldId, again = false) {
    if (again) this.shapes.delete(fieldId);
    if (!this.shapes.has(fieldId)) {
      const asked = read(`${this.desk.address}/fields/${fieldPath(fieldId)}`).then((field) => {
        for (const cell of field.cells) this.desk.cells.contours.set(cell.cell_id, cell.contour_xy);
        return field;
      });
      asked.catch(() => this.shapes.delete(fieldId));
      this.shapes.set(fieldId, asked);
    }
    return this.shapes.get(fieldId);
  }

  picture(fieldId) {
    let asked = this.pictures.get(fieldId);
    if (!asked) {
      asked = new Promise((resolve, reject) => {
        const picture = new Image();
        picture.onload = () => resolve(picture);
        picture.onerror = () => { this.pictures.delete(fieldId); reject(new Error(fieldId)); };
        picture.src = `/fields/${encodeURIComponent(this.desk.patientId)}/${fieldPath(fieldId)}.jpg`;
      });
    }
    this.pictures.delete(fieldId);
    this.pictures.set(fieldId, asked);
    if (this.pictures.size > MOST_PICTURES) this.pictures.delete(this.pictures.keys().next().value);
    return asked;
  }
}
