// How answers are drawn, and how the page looks: kept in this browser, the same for all conversations.

import { byId, icon } from "./dom.js";
import { recall, remember } from "./conversations.js";

export const DEFAULTS = Object.freeze({ system: "", temperature: 0.7, top_p: 0.95, max_tokens: 1024, seed: null });
const RANGES = ["temperature", "top_p"];
const NUMBERS = ["max_tokens", "seed"];

/** The form of the options, and what it says. */
export class Settings {
  constructor() {
    this.form = byId("settings");
    this.values = { ...DEFAULTS, ...recall("settings", {}) };
    this.form.addEventListener("input", () => this.read());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("reset").addEventListener("click", () => {
      this.values = { ...DEFAULTS };
      remember("settings", this.values);
      this.show();
    });
    this.show();
  }

  /** What the form says, as a request has it; empty fields are left out. */
  request() {
    const { temperature, top_p, max_tokens, seed } = this.values;
    const given = { temperature, top_p, max_tokens, seed };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  }

  read() {
    const fields = this.form.elements;
    const values = { ...this.values, system: fields.system.value };
    for (const name of RANGES) values[name] = Number(fields[name].value);
    for (const name of NUMBERS) {
      // A number that is being written, or is none, holds nothing yet.
      const field = fields[name];
      values[name] = field.value !== "" && field.checkValidity() && Number.isSafeInteger(field.valueAsNumber) ? field.valueAsNumber : null;
    }
    this.values = values;
    remember("settings", values);
    this.showRanges();
  }

  show() {
    const fields = this.form.elements;
    for (const [name, value] of Object.entries(this.values)) if (fields[name]) fields[name].value = value ?? "";
    this.showRanges();
  }

  showRanges() {
    for (const name of RANGES) byId(`${name}-value`).value = this.values[name].toFixed(2);
  }
}

/** Light or dark: as the system is, or as was chosen. */
export class Theme {
  /** @param {(text: string) => void} say tells a screen reader */
  constructor(say) {
    this.say = say;
    this.select = byId("theme");
    this.button = byId("toggle-theme");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.select.value = recall("theme", "") ?? "";
    this.select.addEventListener("change", () => this.set(this.select.value));
    this.button.addEventListener("click", () => this.toggle());
    this.dark.addEventListener("change", () => this.show());
    this.show();
  }

  get isDark() {
    return this.select.value ? this.select.value === "dark" : this.dark.matches;
  }

  toggle() {
    this.set(this.isDark ? "light" : "dark");
    this.say(this.isDark ? "Dark" : "Light");
  }

  set(theme) {
    this.select.value = theme;
    remember("theme", theme);
    this.show();
  }

  show() {
    const chosen = this.select.value;
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
    const next = this.isDark ? "light" : "dark";
    this.button.setAttribute("aria-label", `Switch to ${next}`);
    this.button.title = `Switch to ${next} (Alt+M)`;
    this.button.replaceChildren(icon(this.isDark ? "sun" : "moon"));
  }
}
