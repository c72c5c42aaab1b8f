// Loaded before the page is drawn, so that it never shows in the wrong colours first.
"use strict";
{
  let theme = null;
  try {
    theme = JSON.parse(localStorage.getItem("ownlm.theme"));
  } catch {
    // No storage, as in some private windows: the system decides.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
