// The agreement page is drawn by the station; only its head does something.
import "./entrance.js";

document.body.dataset.ready = "true";
