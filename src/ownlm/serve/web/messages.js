// The messages of a conversation as they are shown, each with what can be done with it.

import { byId, icon, iconButton, make } from "./dom.js";
import { Markdown } from "./markdown.js";

/** Shows the messages of one conversation. */
export class Messages {
  /**
   * @param {object} doing what a message's buttons do: edit(message, text), again(message), retry(message), copy(message),
   *   choose(message), rate(message, feedback), signIn(); and canRate, whether answers can be rated
   */
  constructor(doing) {
    this.doing = doing;
    this.list = byId("messages");
    this.views = new Map();
  }

  /** Draws a conversation; messages that have not changed stay as they are. */
  show(conversation) {
    this.conversation = conversation;
    const path = conversation.path();
    const seen = new Set(path.map((message) => message.id));
    for (const [id, view] of this.views) {
      if (seen.has(id)) continue;
      view.element.remove();
      this.views.delete(id);
    }
    for (const message of path) {
      let view = this.views.get(message.id);
      if (!view || view.message !== message) {
        view?.element.remove();
        view = message.role === "user" ? new UserMessage(message, this) : new Answer(message, this);
        this.views.set(message.id, view);
      }
      if (this.list.children[path.indexOf(message)] !== view.element) {
        this.list.insertBefore(view.element, this.list.children[path.indexOf(message)] ?? null);
      }
      view.update();
    }
  }

  view(message) {
    return this.views.get(message.id);
  }

  /** Goes to the message before or after the one that has the focus. */
  step(by) {
    const all = [...this.list.children];
    const at = all.findIndex((element) => element.contains(document.activeElement));
    const next = at < 0 ? (by < 0 ? all.at(-1) : null) : all[at + by];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
    return Boolean(next);
  }

  /** The buttons that go through the versions of a message; null where there is one. */
  versions(message) {
    const all = this.conversation.versions(message);
    if (all.length < 2) return null;
    const at = all.indexOf(message);
    const step = (by, name, label) =>
      iconButton(name, label, () => this.doing.choose(all[at + by], name), { disabled: !all[at + by] });
    const where = make("span", {}, make("span", { class: "visually-hidden" }, "Version "), `${at + 1}/${all.length}`);
    return make("span", { class: "versions" }, step(-1, "left", "Version before"), where, step(1, "right", "Next version"));
  }
}

/** What the user wrote. */
class UserMessage {
  constructor(message, messages) {
    Object.assign(this, { message, messages });
    this.text = make("div", { class: "text", dir: "auto" }, message.text);
    this.actions = make("div", { class: "actions", role: "group", "aria-label": "Your message" });
    const who = make("h2", { class: "visually-hidden" }, "You");
    this.element = make("li", { class: "message user", tabindex: "-1" }, who, this.text, this.actions);
  }

  update() {
    if (this.editor) return;
    const { doing } = this.messages;
    const versions = this.messages.versions(this.message);
    keepFocus(this.actions, [
      versions,
      iconButton("edit", "Edit and go on from here", () => this.edit()),
      copyButton(() => doing.copy(this.message), "Copy your message"),
    ]);
  }

  /** Puts a field in the message's place. */
  edit() {
    if (this.editor) return;
    const field = make("textarea", { rows: "3", "aria-label": "Edit your message" });
    field.value = this.message.text;
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.text.hidden = this.actions.hidden = false;
      this.element.classList.remove("editing");
      this.update();
    };
    const cancel = () => {
      close();
      this.actions.querySelector("button")?.focus();
    };
    const save = () => {
      const text = field.value.trim();
      if (!text) return;
      close();
      this.messages.doing.edit(this.message, text);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        cancel();
      }
    });
    const buttons = make(
      "div",
      { class: "row end" },
      make("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel"),
      make("button", { type: "button", class: "primary", onclick: save }, "Send"),
    );
    this.editor = make("div", { class: "sheet" }, field, buttons);
    this.text.hidden = this.actions.hidden = true;
    this.element.classList.add("editing");
    this.element.append(this.editor);
    field.focus();
    this.editor.scrollIntoView({ block: "nearest" });
  }
}

/** What the model answered, or is answering. */
class Answer {
  constructor(message, messages) {
    Object.assign(this, { message, messages });
    this.text = make("div", { class: "text" });
    this.markdown = new Markdown(this.text);
    this.waiting = make("div", { class: "thinking" }, make("i"), make("i"), make("i"));
    this.below = make("div", {});
    this.actions = make("div", { class: "actions", role: "group", "aria-label": "This answer" });
    const who = make("h2", { class: "visually-hidden" }, "Answer");
    this.element = make("li", { class: "message assistant", tabindex: "-1" }, who, this.text, this.waiting, this.below, this.actions);
  }

  /** Draws everything. */
  update() {
    const { message } = this;
    this.grow();
    this.element.setAttribute("aria-busy", String(Boolean(message.answering)));
    this.below.replaceChildren(...[this.note(), this.problem()].filter(Boolean));
    // What failed is tried again by the button beside the reason.
    this.actions.hidden = Boolean(message.answering || (message.problem && !message.text));
    if (this.actions.hidden) return;
    const { doing } = this.messages;
    const parts = [this.messages.versions(message)];
    if (message.text) parts.push(copyButton(() => doing.copy(message), "Copy the answer"));
    parts.push(iconButton("again", "Answer again", () => doing.again(message)));
    if (doing.canRate && message.complete) parts.push(this.thumb("up", "Good answer"), this.thumb("down", "Bad answer"));
    parts.push(make("span", { class: "facts" }, factsOf(message)));
    keepFocus(this.actions, parts);
    if (this.sheet) this.element.append(this.sheet);
  }

  /** Draws the text that has come since. */
  grow() {
    this.markdown.update(this.message.text);
    this.waiting.hidden = !this.message.answering || Boolean(this.message.text);
  }

  note() {
    const { finish, stopped } = this.message;
    if (stopped) return make("p", { class: "note" }, "Stopped.");
    if (finish === "length") return make("p", { class: "note" }, "The answer ends here because it reached the most tokens that it may have, or that fit.");
    return null;
  }

  problem() {
    const { problem } = this.message;
    if (!problem) return null;
    const { doing } = this.messages;
    const button = problem.signIn
      ? make("button", { type: "button", class: "primary", onclick: () => doing.signIn() }, "Sign in")
      : make("button", { type: "button", class: "primary", onclick: () => doing.retry(this.message) }, "Try again");
    return make("div", { class: "problem" }, make("p", {}, problem.text), button);
  }

  thumb(rating, label) {
    const pressed = this.message.feedback?.rating === rating;
    return iconButton(`thumb-${rating}`, label, () => this.rate(rating), { "aria-pressed": String(pressed) });
  }

  /** Sends a thumb at once, and asks what else there is to say. */
  async rate(rating) {
    const { doing } = this.messages;
    this.sheet?.remove();
    this.sheet = null;
    const before = this.message.feedback;
    if (before?.rating !== rating && !(await doing.rate(this.message, { ...before, rating }))) return;
    const reason = make("textarea", { rows: "2", id: `reason-${this.message.id}` });
    const correction = make("textarea", { rows: "4", id: `correction-${this.message.id}` });
    reason.value = this.message.feedback?.reason ?? "";
    correction.value = this.message.feedback?.correction || this.message.text;
    const close = () => {
      this.sheet?.remove();
      this.sheet = null;
      this.actions.querySelector(`[aria-label="${rating === "up" ? "Good" : "Bad"} answer"]`)?.focus();
    };
    const send = async () => {
      // An answer that was left as it is, or that is good, is not corrected.
      const same = rating === "up" || correction.value.trim() === this.message.text.trim();
      const corrected = same ? "" : correction.value.trim();
      if (await doing.rate(this.message, { rating, reason: reason.value.trim(), correction: corrected })) close();
    };
    const asked = make("label", { for: correction.id }, "What should the answer have been? (optional)");
    this.sheet = make(
      "div",
      { class: "sheet", role: "group", "aria-label": "Your feedback" },
      make("label", { for: reason.id }, rating === "up" ? "What was good about it? (optional)" : "What was wrong with it? (optional)"),
      reason,
      ...(rating === "up" ? [] : [asked, correction]),
      make(
        "div",
        { class: "row end" },
        make("button", { type: "button", class: "quiet", onclick: close }, "Leave it at that"),
        make("button", { type: "button", class: "primary", onclick: send }, "Send feedback"),
      ),
    );
    this.sheet.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    });
    this.element.append(this.sheet);
    reason.focus();
    this.sheet.scrollIntoView({ block: "nearest" });
  }
}

/** How fast and how much, in a few words. */
export function factsOf(message) {
  const { usage, seconds, firstToken } = message;
  const facts = [];
  if (usage) facts.push(`${usage.completion_tokens.toLocaleString("en")} tokens`);
  const writing = (seconds ?? 0) - (firstToken ?? 0);
  if (usage?.completion_tokens > 1 && writing > 0) facts.push(`${((usage.completion_tokens - 1) / writing).toFixed(1)} tokens/s`);
  if (firstToken !== undefined) facts.push(`first after ${firstToken.toFixed(1)} s`);
  if (usage) facts.push(`prompt ${usage.prompt_tokens.toLocaleString("en")} tokens`);
  return facts.join(" · ");
}

function copyButton(copy, label) {
  const button = iconButton("copy", label, async () => {
    const done = await copy();
    button.replaceChildren(icon(done ? "check" : "close"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

/** Replaces the children of a group of buttons; the focus stays with the one of the same name. */
function keepFocus(group, children) {
  const name = group.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  group.replaceChildren(...children.filter(Boolean));
  if (name) group.querySelector(`[aria-label="${CSS.escape(name)}"]:not(:disabled)`)?.focus();
}
