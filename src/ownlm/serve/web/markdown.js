// Markdown as models write it, made into elements: paragraphs, headings, lists, quotes, tables, code, emphasis, links.
// A subset of CommonMark with GitHub's tables. Elements are made one by one and text stays text, so what a model writes
// can be no script; HTML shows as it is written, and pictures as links, since nothing here loads from elsewhere.

import { copy, icon, make } from "./dom.js";

const DEEPEST = 12;
// Beyond this, a paragraph is shown without its marks, so that nothing a model writes can hold the page up.
const LONGEST = 20_000;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}(?=\S)| {5,}|[ \t]*$)/;
const TABLE_LINE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** Shows a text that grows, redrawing only the blocks that have changed. */
export class Markdown {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    this.sources = [];
  }

  /** @param {string} text the whole text so far */
  update(text) {
    const blocks = split(text);
    let same = 0;
    while (same < blocks.length && this.sources[same] === blocks[same].source) same += 1;
    while (this.place.childNodes.length > same) this.place.lastChild.remove();
    for (const block of blocks.slice(same)) this.place.append(block.draw());
    this.sources = blocks.map((block) => block.source);
  }
}

/**
 * The blocks of a text, each with the lines it comes from, a function that draws it as one element, and whether there is
 * a blank line between it and the one before.
 * @param {string} text
 */
export function split(text, depth = 0) {
  // Without form feeds and such, a line's end is a line's end.
  const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  const blocks = [];
  let at = 0;
  let gap = false;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      gap = blocks.length > 0;
      continue;
    }
    const [end, draw] = readBlock(lines, at, depth);
    blocks.push({ source: lines.slice(at, end).join("\n"), draw, gap });
    at = end;
    gap = false;
  }
  return blocks;
}

/** Reads the block that begins at a line: where it ends, and what draws it. */
function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = line.match(FENCE);
  if (fence) return readCode(lines, at, fence);
  const heading = line.match(HEADING);
  if (heading) return [at + 1, () => drawHeading(heading)];
  if (RULE.test(line)) return [at + 1, () => make("hr")];
  if (depth < DEEPEST) {
    if (QUOTE.test(line)) return readQuote(lines, at, depth);
    if (ITEM.test(line)) return readList(lines, at, depth);
  }
  if (line.includes("|") && at + 1 < lines.length && TABLE_LINE.test(lines[at + 1]) && columns(line).length === columns(lines[at + 1]).length) {
    return readTable(lines, at);
  }
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(lines[end])) end += 1;
  return [end, () => inline(lines.slice(at, end).map((part) => part.trimStart()).join("\n").trimEnd(), make("p", { dir: "auto" }))];
}

/** Whether a line ends the paragraph before it; of numbered lists only one that begins with 1 does. */
function interrupts(line) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = line.match(ITEM);
  return Boolean(item) && item[3].trim() === "" && /\S/.test(line.slice(item[0].length)) && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1);
}

function drawHeading(heading) {
  // The page has levels 1 and 2 itself.
  const level = Math.min(6, heading[1].length + 2);
  return inline((heading[2] ?? "").replace(/[ \t]+#+[ \t]*$/, "").trim(), make(`h${level}`, { dir: "auto" }));
}

function readCode(lines, at, fence) {
  const indent = lines[at].match(/^ */)[0].length;
  let end = at + 1;
  const closes = (line) => {
    const mark = line.trim();
    return mark.length >= fence[1].length && mark === fence[1][0].repeat(mark.length) && line.search(/\S/) < 4;
  };
  while (end < lines.length && !closes(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).map((line) => line.replace(new RegExp(`^ {0,${indent}}`), "")).join("\n");
  return [Math.min(end + 1, lines.length), () => drawCode(text, fence[2].trim().split(/\s/)[0])];
}

function drawCode(text, language) {
  const label = make("span", {}, "Copy");
  const button = make("button", { type: "button", class: "copy-code" }, icon("copy"), label);
  button.addEventListener("click", async () => {
    label.textContent = (await copy(text)) ? "Copied" : "Not copied";
    setTimeout(() => (label.textContent = "Copy"), 2000);
  });
  const code = make("pre", { tabindex: "0" }, make("code", { dir: "ltr" }, text));
  return make("figure", { class: "code" }, make("figcaption", {}, make("span", {}, language || "text"), button), code);
}

function readQuote(lines, at, depth) {
  let end = at;
  const inner = [];
  while (end < lines.length && (QUOTE.test(lines[end]) || (lines[end].trim() && !interrupts(lines[end])))) {
    inner.push(lines[end].replace(QUOTE, ""));
    end += 1;
  }
  return [end, () => drawAll(inner.join("\n"), make("blockquote"), depth + 1)];
}

function readList(lines, at, depth) {
  const first = lines[at].match(ITEM);
  const ordered = /\d/.test(first[2]);
  const kind = first[2].at(-1);
  const items = [];
  let end = at;
  let loose = false;
  while (end < lines.length) {
    const item = lines[end].match(ITEM);
    if (!item || item[2].at(-1) !== kind || RULE.test(lines[end])) break;
    const inside = item[1].length + item[2].length + Math.min(Math.max(item[3].length, 1), 4);
    const inner = [lines[end].slice(item[0].length)];
    end += 1;
    while (end < lines.length) {
      const blank = !lines[end].trim();
      const indented = lines[end].search(/\S/) >= inside;
      const next = lines.slice(end).findIndex((line) => line.trim());
      if (blank && (next < 0 || lines[end + next].search(/\S/) < inside)) break;
      // A line that goes on with the item's paragraph need not be indented.
      if (!blank && !indented && (ITEM.test(lines[end]) || interrupts(lines[end]) || !lines[end - 1].trim())) break;
      inner.push(indented ? lines[end].slice(inside) : lines[end].trimStart());
      end += 1;
    }
    items.push(inner.join("\n"));
    const more = lines.slice(end).findIndex((line) => line.trim());
    if (more > 0 && ITEM.test(lines[end + more]) && lines[end + more].match(ITEM)[2].at(-1) === kind) {
      loose = true;
      end += more;
    }
  }
  return [end, () => drawList(items, ordered ? parseInt(first[2], 10) : null, loose, depth)];
}

function drawList(items, start, loose, depth) {
  const list = start === null ? make("ul") : make("ol", { start: start === 1 ? null : start });
  const parts = items.map((item) => split(item, depth + 1));
  const isLoose = loose || parts.flat().some((block) => block.gap);
  for (const blocks of parts) {
    const entry = make("li", { dir: "auto" });
    for (const block of blocks) {
      const drawn = block.draw();
      // A tight list has no paragraphs.
      if (!isLoose && drawn.tagName === "P") entry.append(...drawn.childNodes);
      else entry.append(drawn);
    }
    list.append(entry);
  }
  return list;
}

/** The cells of a table's line; a backslash keeps a bar from being a border. */
function columns(line) {
  const cells = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1").split(/(?<!\\)\|/);
  return cells.map((cell) => cell.replace(/\\\|/g, "|").trim());
}

function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) end += 1;
  return [end, () => drawTable(columns(lines[at]), columns(lines[at + 1]), lines.slice(at + 2, end).map(columns))];
}

function drawTable(heads, rules, rows) {
  const side = rules.map((rule) => (/^:.*:$/.test(rule) ? "middle" : rule.endsWith(":") ? "end" : null));
  const cell = (name, text, index) => inline(text ?? "", make(name, { class: side[index], dir: "auto", scope: name === "th" ? "col" : null }));
  const head = make("thead", {}, make("tr", {}, ...heads.map((text, index) => cell("th", text, index))));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...heads.map((_, index) => cell("td", row[index], index)))));
  return make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, make("table", {}, head, body));
}

function drawAll(text, place, depth) {
  place.append(...split(text, depth).map((block) => block.draw()));
  return place;
}

const MARK = /\\\n|\\[!-/:-@[-`{-~]|`+|!?\[|\*{1,3}|_{1,3}|~~|<(?:https?:\/\/|mailto:)[^\s<>]+>|https?:\/\/[^\s<>]+| *\n/g;
const TARGET = /^\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/;

/**
 * Text with its marks into an element.
 * @param {string} text
 * @param {HTMLElement} place
 * @returns the element
 */
export function inline(text, place, depth = 0) {
  if (text.length > LONGEST || depth > DEEPEST) {
    place.append(text);
    return place;
  }
  let at = 0;
  const mark = new RegExp(MARK);
  for (let found = mark.exec(text); found; found = mark.exec(text)) {
    const read = readMark(text, found, depth);
    if (!read) {
      // No mark after all: it is text, and what comes right behind it may be one.
      mark.lastIndex = found.index + (/^[*_~`]/.test(found[0]) ? found[0].length : 1);
      continue;
    }
    place.append(text.slice(at, found.index), ...read.nodes);
    at = mark.lastIndex = read.end;
  }
  place.append(text.slice(at));
  return place;
}

/** What a mark and what follows it is: elements, and where they end; null where it is text. */
function readMark(text, found, depth) {
  const [mark] = found;
  const after = found.index + mark.length;
  // Two spaces or a backslash at a line's end break it there.
  if (mark.endsWith("\n")) return { nodes: mark.length > 2 || mark[0] === "\\" ? [make("br")] : ["\n"], end: after };
  if (mark[0] === "\\") return { nodes: [mark[1]], end: after };
  if (mark[0] === "`") return readCodeSpan(text, mark, after);
  if (mark.endsWith("[")) return readLink(text, mark, after, depth);
  if (mark[0] === "<") return { nodes: [link(mark.slice(1, -1), [mark.slice(1, -1)])], end: after };
  if (mark.startsWith("http")) return readAddress(mark, found.index);
  return readEmphasis(text, mark, found.index, depth);
}

function readCodeSpan(text, mark, after) {
  for (const closing of text.slice(after).matchAll(/`+/g)) {
    if (closing[0].length !== mark.length) continue;
    let inner = text.slice(after, after + closing.index).replace(/\n/g, " ");
    if (/^ .*[^ ].* $/.test(inner)) inner = inner.slice(1, -1);
    return { nodes: [make("code", { dir: "ltr" }, inner)], end: after + closing.index + mark.length };
  }
  return null;
}

function readLink(text, mark, after, depth) {
  let open = 1;
  let end = after;
  for (; end < text.length && end - after < 2000; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === "[") open += 1;
    else if (text[end] === "]" && --open === 0) break;
  }
  const target = open === 0 ? text.slice(end + 1, end + 4000).match(TARGET) : null;
  if (!target) return null;
  const said = inline(text.slice(after, end), make("span"), depth + 1).childNodes;
  const nodes = said.length ? [...said] : [target[1]];
  const picture = mark[0] === "!" ? [make("span", { class: "picture" }, "picture: ")] : [];
  return { nodes: [link(target[1], [...picture, ...nodes])], end: end + 1 + target[0].length };
}

/** A bare address; punctuation at its end belongs to the sentence. */
function readAddress(mark, start) {
  let address = mark.replace(/[.,:;!?'"*_~`]+$/, "");
  while (address.endsWith(")") && address.split(")").length > address.split("(").length) address = address.slice(0, -1);
  address = address.replace(/[.,:;!?'"*_~\]]+$/, "");
  return { nodes: [link(address, [address])], end: start + address.length };
}

/** A link to the web or to a mailbox; anything else, such as javascript:, stays text. */
function link(address, nodes) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    // Not absolute: there is nothing here that it could mean.
  }
  if (!url || !["http:", "https:", "mailto:"].includes(url.protocol)) return make("span", {}, ...nodes);
  return make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...nodes);
}

function readEmphasis(text, mark, start, depth) {
  const after = start + mark.length;
  const word = /[\p{L}\p{N}]/u;
  // Opens only before a word, and underscores not within one.
  if (!text[after] || /\s/.test(text[after]) || (mark[0] === "_" && start > 0 && word.test(text[start - 1]))) return null;
  for (let end = text.indexOf(mark, after); end >= 0; end = text.indexOf(mark, end + 1)) {
    const longer = text[end + mark.length] === mark[0];
    if (/\s/.test(text[end - 1]) || text[end - 1] === "\\" || end === after) continue;
    if (mark.length === 1 && (longer || text[end - 1] === mark)) {
      // Part of a longer run, which opens or closes another.
      while (text[end + 1] === mark[0]) end += 1;
      continue;
    }
    if (mark.length === 2 && longer) end += 1;
    if (mark[0] === "_" && text[end + mark.length] && word.test(text[end + mark.length])) continue;
    const inner = text.slice(after, end);
    const names = mark[0] === "~" ? ["del"] : [[], ["em"], ["strong"], ["em", "strong"]][mark.length];
    const inmost = names.reduceRight((child, name) => (child ? make(name, {}, child) : make(name)), null);
    inline(inner, names.length === 2 ? inmost.firstChild : inmost, depth + 1);
    return { nodes: [inmost], end: end + mark.length };
  }
  return null;
}
