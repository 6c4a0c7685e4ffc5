// Keys of the codes: at most two each, none of which begins those of another code, none that is a command's.
import { data, kept } from "./page_data.js";

/** Keys of commands; no code's keys may begin with one. They are named by what the keyboard says. */
export const COMMANDS = ["g", "u", "y", "x", "c", "h", "o", "s", "t", "z", "i", "d", "k", "w", "q", "?", "/", "+", "-", "=", "[", "]", " "];

export class Hotkeys {
  constructor(vocabulary) {
    this.place = `keys.${vocabulary.name}.${data.reader}`;
    this.defaults = new Map(vocabulary.codes.map((code) => [code.code, code.hotkey]));
    const own = new Map(kept.read(this.place, []).filter(([code]) => this.defaults.has(code)));
    const merged = new Map([...this.defaults, ...own]);
    this.keys = problems(merged).length ? new Map(this.defaults) : merged;
    this.typed = "";
  }

  of(code) { return this.keys.get(code); }

  /** Take other keys; returns what is wrong with them, and takes none where something is. */
  remap(keys) {
    const found = problems(keys);
    if (!found.length) {
      this.keys = new Map(keys);
      kept.write(this.place, [...keys].filter(([code, own]) => own !== this.defaults.get(code)));
    }
    return found;
  }

  begins(key) { return [...this.keys.values()].some((keys) => keys.startsWith(this.typed + key)); }

  /** Type one key. Gives {code} when keys are complete, {waiting} for a first key, null for a key of no code. */
  type(key) {
    if (!this.begins(key)) this.typed = "";
    if (!this.begins(key)) return null;
    this.typed += key;
    const code = [...this.keys].find(([, keys]) => keys === this.typed)?.[0];
    if (code !== undefined) this.typed = "";
    return code === undefined ? { waiting: this.typed } : { code };
  }

  clear() {
    const had = this.typed !== "";
    this.typed = "";
    return had;
  }

  /** Codes that the keys typed so far can still become. */
  open() { return [...this.keys].filter(([, keys]) => this.typed && keys.startsWith(this.typed)).map(([code]) => code); }
}

/** List what is wrong: {kind, code, other?, keys}. */
export function problems(keys) {
  const found = [];
  const entries = [...keys];
  entries.forEach(([code, own], at) => {
    if (own.length < 1 || own.length > 2) found.push({ kind: "length", code, keys: own });
    else if (COMMANDS.includes(own[0])) found.push({ kind: "command", code, keys: own });
    for (const [other, theirs] of entries.slice(at + 1)) {
      if (own && theirs && (own.startsWith(theirs) || theirs.startsWith(own))) found.push({ kind: "collision", code, other, keys: own });
    }
  });
  return found;
}

/** The key of an event: the letter also where an input method of another script has taken it. */
export function keyOf(event) {
  if (event.key === "Process" || event.isComposing) {
    const code = event.code;
    if (/^Key[A-Z]$/.test(code)) return code[3].toLowerCase();
    if (/^(Digit|Numpad)\d$/.test(code)) return code.slice(-1);
  }
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}
