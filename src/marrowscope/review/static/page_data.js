// What the server wrote into the page: words in the reader's language, the patient, colors of the categories.
export const data = JSON.parse(document.querySelector("#page-data").textContent);

/** Return the text of a key with {places} filled in; the key itself where the catalog has none. */
export function t(key, values = {}) {
  const text = data.words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
}

export const has = (key) => key in data.words;

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

/** Keep something in this browser; a browser that keeps nothing is no reason to stop. */
export const kept = {
  read(key, otherwise = null, store = localStorage) {
    try {
      return JSON.parse(store.getItem(`marrowscope.${key}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(key, value, store = localStorage) {
    try {
      store.setItem(`marrowscope.${key}`, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};
