// What the server wrote into the page: words in the reader's language, the patient, colors of the categories.
export const data = JSON.parse(document.querySelector("#page-data").textContent);

/** Return the text of a key with {places} filled in; the key itself where the catalog has none. */
export function t(key, values = {}) {
  const text = data.words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
}

export const has = (key) => key in data.words;

/** The sign of a category that the bundle learned from simulated cells only; nothing for others. */
export const mark = (category) => (data.patient?.simulated_only?.includes(category) ? " †" : "");

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** Make an element: attributes, then children; a child that is a string becomes text, never markup. */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * A select whose options exist while it is used alone: a patient of 500 fields would be a thousand nodes otherwise.
 * `first` is an option that always stands, or null. Setting `.value` through `set` keeps the chosen option there.
 */
export function selectOf(attributes, list, first = null) {
  const option = ({ value, text }) => make("option", { value }, text);
  const select = make("select", attributes);
  const fill = (items) => {
    const value = select.value;
    select.replaceChildren(...(first ? [option(first)] : []), ...items.map(option));
    select.value = value;
  };
  select.set = (value) => {
    const chosen = list.find((item) => item.value === value);
    select.replaceChildren(...(first ? [option(first)] : []), ...(chosen ? [option(chosen)] : []));
    select.value = value;
  };
  const open = () => fill(list);
  select.addEventListener("focus", open);
  select.addEventListener("pointerdown", open);
  select.addEventListener("blur", () => select.set(select.value));
  select.set(first?.value ?? list[0]?.value);
  return select;
}

const OWN = "marrowscope.";

/** Keep something in this browser; a browser that keeps nothing is no reason to stop. */
export const kept = {
  read(key, otherwise = null, store = localStorage) {
    try {
      return JSON.parse(store.getItem(OWN + key)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(key, value, store = localStorage) {
    try {
      store.setItem(OWN + key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
  remove(key) {
    try {
      localStorage.removeItem(OWN + key);
    } catch {
      // nothing is kept here
    }
  },
  /** The name under which something is kept, of a key of the browser's storage; empty for another page's. */
  name: (key) => (key?.startsWith(OWN) ? key.slice(OWN.length) : ""),
  names() {
    try {
      return Object.keys(localStorage).map(kept.name);
    } catch {
      return [];
    }
  },
};
