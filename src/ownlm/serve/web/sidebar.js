// The list of conversations: open, rename, export, delete.

import { byId, iconButton, make } from "./dom.js";

/** Shows all conversations, and does what is asked with the one that is open. */
export class Sidebar {
  /**
   * @param {object} chat what is open, and what happens then:
   *   conversations, current(), open(conversation), begin(), changed(), system()
   */
  constructor(chat) {
    this.chat = chat;
    this.list = byId("list");
    byId("new").addEventListener("click", () => chat.begin());
    byId("open-sidebar").addEventListener("click", () => this.slide(true));
    byId("close-sidebar").addEventListener("click", () => this.slide(false));
    byId("shade").addEventListener("click", () => this.slide(false));
    for (const button of document.querySelectorAll("dialog .cancel")) {
      button.addEventListener("click", () => button.closest("dialog").close("cancel"));
    }
  }

  /** Whether the list covers the page, as on a phone. */
  get isOver() {
    return document.body.classList.contains("sidebar-open");
  }

  /** Slides the list in or out on a phone; elsewhere it is always there. */
  slide(open) {
    if (open === this.isOver || (open && getComputedStyle(byId("open-sidebar")).display === "none")) return;
    document.body.classList.toggle("sidebar-open", open);
    byId("open-sidebar").setAttribute("aria-expanded", String(open));
    byId("stage").inert = open;
    (open ? byId("close-sidebar") : byId("open-sidebar")).focus();
  }

  /** Goes to the list by the keyboard. */
  focus() {
    this.slide(true);
    (this.list.querySelector('[aria-current="true"]') ?? this.list.querySelector("button") ?? byId("new")).focus();
  }

  show() {
    const all = this.chat.conversations.all();
    const focused = document.activeElement?.closest("#list")?.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.list.replaceChildren(...all.map((conversation) => this.entry(conversation)));
    byId("no-list").hidden = all.length > 0;
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  entry(conversation) {
    const current = conversation.id === this.chat.current().id;
    const open = make(
      "button",
      {
        type: "button",
        class: "open",
        title: conversation.title,
        "data-key": conversation.id,
        "aria-current": current ? "true" : null,
        onclick: () => this.chat.open(conversation),
      },
      make("span", { dir: "auto" }, conversation.title || "New conversation"),
    );
    if (!current) return make("li", {}, open);
    const tool = (name, label, action) => iconButton(name, label, action, { "data-key": `${conversation.id}-${name}` });
    const tools = make(
      "div",
      { class: "tools", role: "group", "aria-label": "This conversation" },
      tool("edit", "Rename", () => this.rename(conversation)),
      tool("download", "Export as JSON", () => this.export(conversation)),
      tool("trash", "Delete", () => this.delete(conversation)),
    );
    return make("li", { class: "current" }, open, tools);
  }

  async rename(conversation) {
    const field = byId("new-title");
    field.value = conversation.title;
    const asked = ask("rename-dialog");
    field.select();
    if ((await asked) !== "ok" || !field.value.trim()) return;
    conversation.title = field.value.trim();
    this.chat.conversations.save(conversation, false);
    this.chat.changed();
  }

  async delete(conversation) {
    byId("delete-name").textContent = conversation.title;
    if ((await ask("delete-dialog")) === "ok") this.chat.delete(conversation);
  }

  export(conversation) {
    const text = JSON.stringify(conversation.exported(this.chat.system()), null, 2);
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
    make("a", { href: address, download: `${name || "conversation"}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}

/** Shows a dialog and waits for what is chosen in it. */
export function ask(id) {
  const dialog = byId(id);
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}
