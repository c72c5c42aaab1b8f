// The keyboard: every shortcut has Alt, so that none is in the way of writing (WCAG 2.1.4); Esc takes back.

import { byId } from "./dom.js";
import { ask } from "./sidebar.js";

/** @param {object} chat the page's controller */
export function listen(chat) {
  const lastOf = (role) => chat.current().path().findLast((message) => message.role === role);
  const onLast = (role, act) => () => {
    const message = lastOf(role);
    if (message && !message.answering) act(message);
  };
  // By the key's place, since Alt with a letter is another character on some keyboards.
  const actions = {
    KeyN: () => chat.begin(),
    KeyL: () => chat.sidebar.focus(),
    KeyI: () => byId("prompt").focus(),
    KeyR: onLast("assistant", (message) => chat.again(message)),
    KeyU: onLast("user", (message) => chat.messages.view(message).edit()),
    KeyC: onLast("assistant", (message) => chat.copy(message)),
    KeyO: () => chat.toggleOptions(),
    KeyM: () => chat.theme.toggle(),
    KeyK: () => ask("keys-dialog"),
    ArrowUp: () => chat.messages.step(-1),
    ArrowDown: () => chat.messages.step(1) || byId("prompt").focus(),
  };

  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (chat.answering) chat.stop();
      else if (chat.sidebar.isOver) chat.sidebar.slide(false);
      else if (!byId("options").hidden) chat.toggleOptions(false);
      return;
    }
    const action = event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey ? actions[event.code] : null;
    if (!action) return;
    event.preventDefault();
    action();
  });
}
