// The chat: what is said goes to the server, and the answer comes back as it is written.

import { answer, models, Problem, sendFeedback } from "./api.js";
import { Conversation, Conversations, recall, remember } from "./conversations.js";
import { byId, copy, make } from "./dom.js";
import { Messages } from "./messages.js";
import { Settings, Theme } from "./settings.js";
import { ask, Sidebar } from "./sidebar.js";
import { listen } from "./shortcuts.js";

const CAN_RATE = document.documentElement.dataset.feedback === "on";
// A message must be within so many pixels of the end for the page to follow it.
const NEAR = 80;

class Chat {
  constructor() {
    this.conversations = new Conversations((text) => this.complain(text));
    this.conversation = this.conversations.get(recall("open", "")) ?? new Conversation();
    this.settings = new Settings();
    this.theme = new Theme((text) => this.say(text));
    this.messages = new Messages({
      canRate: CAN_RATE,
      edit: (message, text) => this.edit(message, text),
      again: (message) => this.again(message),
      retry: (message) => this.retry(message),
      choose: (message, side) => this.choose(message, side),
      copy: (message) => this.copy(message),
      rate: (message, feedback) => this.rate(message, feedback),
      signIn: () => location.reload(),
    });
    this.sidebar = new Sidebar(this);
    this.following = true;
    this.wire();
    listen(this);
    this.changed();
    this.toEnd();
    this.findModels();
    this.toPrompt();
  }

  wire() {
    const prompt = byId("prompt");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    prompt.addEventListener("input", () => this.fitPrompt());
    byId("stop").addEventListener("click", () => this.stop());
    byId("show-keys").addEventListener("click", () => ask("keys-dialog"));
    byId("toggle-options").addEventListener("click", () => this.toggleOptions());
    byId("close-options").addEventListener("click", () => this.toggleOptions(false));
    byId("model").addEventListener("change", (event) => this.choseModel(event.target.value));
    byId("to-end").addEventListener("click", () => this.toEnd());
    byId("main").addEventListener("scroll", () => this.scrolled());
    new ResizeObserver(() => this.follow()).observe(byId("main"));
    addEventListener("storage", (event) => this.otherTab(event));
    // What has come of an answer stays when the page goes away.
    addEventListener("pagehide", () => {
      if (!this.answering) return;
      this.stop();
      this.conversations.save(this.answering.conversation);
    });
  }

  // What the list of conversations asks for.

  current() {
    return this.conversation;
  }

  system() {
    return this.settings.values.system.trim();
  }

  begin() {
    this.open(new Conversation());
  }

  open(conversation) {
    this.conversation = conversation;
    remember("open", conversation.id);
    this.sidebar.slide(false);
    this.changed();
    this.toEnd();
    this.toPrompt();
  }

  delete(conversation) {
    if (this.answering?.conversation === conversation) this.stop();
    this.conversations.delete(conversation);
    this.open(this.conversations.all()[0] ?? new Conversation());
    this.say("The conversation is deleted.");
  }

  /** Draws everything that depends on the conversation. */
  changed() {
    const { conversation } = this;
    const title = conversation.title || "New conversation";
    byId("title").textContent = title;
    document.title = `${conversation.title || "Chat"} · ownlm`;
    byId("welcome").hidden = conversation.path().length > 0;
    byId("messages").hidden = conversation.path().length === 0;
    this.messages.show(conversation);
    this.sidebar.show();
    byId("send").hidden = Boolean(this.answering);
    byId("stop").hidden = !this.answering;
  }

  otherTab(event) {
    const id = this.conversations.follow(event);
    if (id === null) return;
    if (id === this.conversation.id && !this.answering) this.conversation = this.conversations.get(id) ?? new Conversation();
    this.changed();
  }

  // What is said.

  send() {
    const prompt = byId("prompt");
    const text = prompt.value.trim();
    if (!text || this.answering || !this.model) return;
    prompt.value = "";
    this.fitPrompt();
    this.ask(this.conversation.path().at(-1)?.id ?? null, text);
  }

  edit(message, text) {
    if (!this.answering) this.ask(message.parent, text);
  }

  ask(parent, text) {
    const message = this.conversation.add(parent, "user", text);
    this.answerTo(message.id);
  }

  /** Answers once more; the answer that is there stays as another version. */
  again(message) {
    if (this.answering) return;
    this.answerTo(message.parent);
  }

  /** Tries again what went wrong; what came of it goes, unless it has text. */
  retry(message) {
    if (this.answering) return;
    if (!message.text) this.conversation.remove(message);
    this.answerTo(message.parent);
  }

  choose(message, side) {
    this.conversation.choose(message);
    this.conversations.save(this.conversation, false);
    this.changed();
    const label = side === "left" ? "Version before" : "Next version";
    const buttons = [...this.messages.view(message).element.querySelectorAll(".versions button")];
    (buttons.find((button) => button.title === label && !button.disabled) ?? buttons.find((button) => !button.disabled))?.focus();
  }

  async answerTo(parent) {
    const { conversation } = this;
    const message = conversation.add(parent, "assistant");
    const messages = said(conversation.pathTo(conversation.messages[parent]), this.system());
    const body = { model: this.model.id, messages, ...this.settings.request() };
    Object.assign(message, { answering: true, model: this.model.id, release: this.model.release });
    const control = new AbortController();
    this.answering = { conversation, message, control };
    this.conversations.save(conversation);
    remember("open", conversation.id);
    this.changed();
    this.toEnd();
    this.say("The model is answering.");
    await this.receive(message, body, control.signal);
    delete message.answering;
    this.answering = null;
    this.conversations.save(conversation);
    this.changed();
    this.follow();
    if (document.activeElement === document.body) this.toPrompt();
    if (!this.model.release) this.findModels();
  }

  /** Fills an answer as it comes, and notes how it ended. */
  async receive(message, body, signal) {
    const begun = performance.now();
    const seconds = () => (performance.now() - begun) / 1000;
    try {
      for await (const piece of answer(body, signal)) {
        message.answer ??= piece.id;
        if (piece.text) {
          message.firstToken ??= seconds();
          message.text += piece.text;
          this.grow(message);
        }
        if (piece.finish) {
          message.finish = piece.finish;
          message.seconds = seconds();
        }
        if (piece.usage) message.usage = piece.usage;
      }
      message.complete = true;
      // To the last word, which may not be drawn yet.
      this.messages.view(message)?.grow();
      this.say(message.text ? `The answer: ${this.messages.view(message)?.text.innerText ?? message.text}` : "The answer is empty.");
    } catch (error) {
      if (signal.aborted) {
        message.stopped = true;
        this.say("Stopped.");
      } else {
        const known = error instanceof Problem;
        if (!known) console.error(error);
        message.problem = { text: known ? error.message : "Something in this page went wrong.", signIn: Boolean(error.signIn) };
        this.complain(message.problem.text, false);
      }
      message.seconds = seconds();
    }
  }

  stop() {
    this.answering?.control.abort();
  }

  /** Draws what has come, once for each picture of the screen. */
  grow(message) {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.messages.view(message)?.grow();
      this.follow();
    });
  }

  async rate(message, feedback) {
    try {
      const { rating, reason = "", correction = "" } = feedback;
      await sendFeedback({ id: message.answer, rating, reason, correction });
    } catch (error) {
      this.complain(error.message);
      return false;
    }
    message.feedback = feedback;
    this.conversations.save(this.conversation, false);
    this.changed();
    this.say("Your feedback is kept. Thank you.");
    return true;
  }

  async copy(message) {
    const done = await copy(message.text);
    this.say(done ? "Copied." : "The browser did not let this page copy.");
    return done;
  }

  // The model.

  async findModels() {
    try {
      const found = await models();
      this.models = found.filter((model) => model.capabilities?.includes("chat") ?? true);
      if (!this.models.length) this.complain(`${found[0]?.id ?? "This model"} has no chat template, so it cannot hold a conversation. It takes texts through the API.`);
    } catch (error) {
      this.complain(error.message, true, () => (error.signIn ? location.reload() : this.findModels()), error.signIn ? "Sign in" : "Try again");
      return;
    }
    const select = byId("model");
    select.replaceChildren(...this.models.map((model) => make("option", { value: model.id }, model.id)));
    select.hidden = this.models.length < 2;
    byId("model-name").hidden = this.models.length > 1;
    this.choseModel(this.models.some((model) => model.id === recall("model", "")) ? recall("model", "") : this.models[0]?.id);
  }

  choseModel(id) {
    this.model = this.models.find((model) => model.id === id) ?? null;
    remember("model", id);
    byId("model").value = id;
    byId("model-name").textContent = byId("welcome-model").textContent = id ?? "no model for conversations";
    byId("release").textContent = this.model?.release ? `release ${this.model.release.slice(0, 8)}` : "";
    byId("release").title = this.model?.release ?? "";
    byId("prompt").disabled = byId("send").disabled = !this.model;
  }

  // How the page behaves.

  toggleOptions(open = byId("options").hidden) {
    byId("options").hidden = !open;
    byId("toggle-options").setAttribute("aria-expanded", String(open));
    (open ? byId("system") : byId("toggle-options")).focus();
  }

  /** Makes the message box ready to be written in, except where that would bring up a keyboard over the page. */
  toPrompt() {
    if (!matchMedia("(pointer: coarse)").matches) byId("prompt").focus();
  }

  fitPrompt() {
    // Where the style sheet cannot do it alone.
    if (CSS.supports("field-sizing", "content")) return;
    const prompt = byId("prompt");
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight}px`;
  }

  scrolled() {
    const main = byId("main");
    this.following = main.scrollHeight - main.scrollTop - main.clientHeight < NEAR;
    byId("to-end").hidden = this.following;
  }

  follow() {
    if (this.following) this.toEnd();
    else this.scrolled();
  }

  toEnd() {
    const main = byId("main");
    main.scrollTop = main.scrollHeight;
    this.scrolled();
  }

  /** Tells a screen reader, when it has time. */
  say(text) {
    byId("status").textContent = text;
  }

  /** Tells everybody that something is wrong: a screen reader at once, and eyes unless they see it anyway. */
  complain(text, visibly = true, action = null, label = "") {
    byId("alert").textContent = text;
    if (!visibly) return;
    const close = make("button", { type: "button", class: "quiet", onclick: () => bar.remove() }, "Close");
    const again = action && make("button", { type: "button", class: "primary", onclick: () => (bar.remove(), action()) }, label);
    const bar = make("div", { class: "problem bar" }, make("p", {}, text), again, close);
    document.querySelector(".problem.bar")?.remove();
    byId("main").before(bar);
  }
}

/** Messages as the API takes them; two of one role in a row, as after an answer that failed, become one. */
function said(path, system) {
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const { role, text } of path) {
    if (!text) continue;
    if (messages.at(-1)?.role === role) messages.at(-1).content += `\n\n${text}`;
    else messages.push({ role, content: text });
  }
  return messages;
}

new Chat();
