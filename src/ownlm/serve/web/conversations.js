// Conversations, kept in this browser alone.
//
// A conversation is a tree: asking again and editing a message make a second branch beside the first, and nothing is
// lost. `chosen` says at each fork which branch is shown.

import { newId } from "./dom.js";

const PREFIX = "ownlm.conversation.";
const FORMAT = 1;

/** One conversation: messages by id, each with its parent. */
export class Conversation {
  constructor(saved = {}) {
    this.id = saved.id ?? newId();
    this.title = saved.title ?? "";
    this.created = saved.created ?? Date.now();
    this.updated = saved.updated ?? this.created;
    this.messages = saved.messages ?? {};
    this.chosen = saved.chosen ?? {};
    for (const message of Object.values(this.messages)) {
      // The page went away in the middle of it.
      if (message.answering) message.stopped = true;
      delete message.answering;
    }
  }

  /**
   * Adds a message behind another, and shows it.
   * @param {?string} parent the message before it; null for the first
   * @returns the message, whose fields may be changed until the conversation is saved
   */
  add(parent, role, text = "") {
    const message = { id: newId(), parent, role, text, created: Date.now() };
    this.messages[message.id] = message;
    this.chosen[parent ?? ""] = message.id;
    if (!this.title && role === "user") this.title = shortened(text);
    return message;
  }

  /** The messages that are shown, in order. */
  path() {
    const path = [];
    for (let id = this.chosen[""]; id && this.messages[id]; id = this.chosen[id]) path.push(this.messages[id]);
    return path;
  }

  /** The messages up to one, with it. */
  pathTo(message) {
    const path = [];
    for (let at = message; at; at = this.messages[at.parent]) path.unshift(at);
    return path;
  }

  /** The messages that stand at the same place, oldest first. */
  versions(message) {
    const same = Object.values(this.messages).filter((other) => other.parent === message.parent);
    return same.sort((a, b) => a.created - b.created);
  }

  /** Shows another message at its place. */
  choose(message) {
    this.chosen[message.parent ?? ""] = message.id;
  }

  /** Takes a message away that has nothing behind it, such as an answer that never came. */
  remove(message) {
    delete this.messages[message.id];
    const others = this.versions(message);
    if (others.length) this.chosen[message.parent ?? ""] = others.at(-1).id;
    else delete this.chosen[message.parent ?? ""];
  }

  /** What a file of it holds: the shown branch as the API takes it, and the whole tree. */
  exported(system) {
    const said = this.path().filter((message) => message.text);
    const messages = said.map((message) => ({ role: message.role, content: message.text }));
    if (system) messages.unshift({ role: "system", content: system });
    return { format: "ownlm-conversation", version: FORMAT, title: this.title, messages, tree: this };
  }
}

/** All conversations of this browser. */
export class Conversations {
  /** @param {(text: string) => void} complain is told when the browser has no room left */
  constructor(complain) {
    this.complain = complain;
    this.memory = new Map();
    for (const key of storedKeys()) {
      const saved = parsed(localStorage.getItem(key));
      if (saved?.id && typeof saved.messages === "object") this.memory.set(saved.id, new Conversation(saved));
    }
  }

  /** All of them, the one that was used last first. */
  all() {
    return [...this.memory.values()].sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    return this.memory.get(id);
  }

  /** Keeps a conversation as it is now. */
  save(conversation, touched = true) {
    if (touched) conversation.updated = Date.now();
    this.memory.set(conversation.id, conversation);
    try {
      localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
    } catch {
      this.complain("This browser has no room left to keep this conversation. Export or delete some.");
    }
  }

  delete(conversation) {
    this.memory.delete(conversation.id);
    try {
      localStorage.removeItem(PREFIX + conversation.id);
    } catch {
      // There was no storage to begin with.
    }
  }

  /** Takes over what another tab has changed; the id of the conversation, or null where it was something else. */
  follow(event) {
    if (!event.key?.startsWith(PREFIX)) return null;
    const id = event.key.slice(PREFIX.length);
    const saved = parsed(event.newValue);
    if (saved) this.memory.set(id, new Conversation(saved));
    else this.memory.delete(id);
    return id;
  }
}

/** A value of this browser's storage; `fallback` where there is none or it cannot be read. */
export function recall(key, fallback) {
  try {
    return parsed(localStorage.getItem(`ownlm.${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keeps a value in this browser's storage, where there is one. */
export function remember(key, value) {
  try {
    localStorage.setItem(`ownlm.${key}`, JSON.stringify(value));
  } catch {
    // It holds for as long as the page is open, then.
  }
}

/** A text's beginning, as a title. */
export function shortened(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

function storedKeys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
