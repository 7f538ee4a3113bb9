// Shows a reading: the text, its doubts, what was left out, and each digit as the model saw it; and how old it is.

import { digitCard } from "./cards.js";

const SAY_READING_MS = 300;
const SAY_SLOW_MS = 4000;
const MANY_DIGITS = 16; // of which the list scrolls in place of the page
const MANY_LINES = 6; // of which the text is small, and scrolls
const MOST_REMARKS = 5; // that are shown at once

export class ReadingView {
  constructor({ text, marks, digits, boxes, progress, drawing, corrections, corrected }) {
    Object.assign(this, { text, marks, digits, boxes, progress, drawing, corrections, corrected });
    this.reading = { lines: [] };
    this.lines = []; // of what stands in the text: digits and signs
    this.all = []; // these, and what was left out
    this.timers = [];
    for (const part of [text, digits]) {
      part.addEventListener("pointermove", ({ target }) => this.#light(numberOf(target)));
      part.addEventListener("pointerleave", () => this.#light(null));
    }
    digits.addEventListener("focusin", ({ target }) => this.#light(numberOf(target)));
    digits.addEventListener("focusout", () => this.#light(null));
    marks.addEventListener("pointermove", ({ target }) => this.#light(numberOf(target)));
    marks.addEventListener("pointerleave", () => this.#light(null));
    drawing.canvas.addEventListener("pointermove", (event) => event.buttons || this.#light(this.#under(event), true));
    drawing.canvas.addEventListener("pointerleave", () => this.#light(null));
  }

  /** What is shown is of an older drawing, or a part of this one, until `show` says otherwise. */
  outdate() {
    this.#setAge(true);
    if (this.timers.length) return;
    const say = (words) => () => (this.progress.textContent = words);
    this.timers = [setTimeout(say("Reading …"), SAY_READING_MS), setTimeout(say("The server is slow. Still reading …"), SAY_SLOW_MS)];
  }

  /**
   * A reading of the picture at `place` on the drawing's sheet; without one, nothing was there to read. `current`: it is of
   * the drawing as it is now.
   */
  show(reading, place, current = true) {
    Object.assign(this, { reading, place });
    if (current) this.#markCurrent();
    this.#fill();
  }

  /** Show the reading as it is corrected by now. */
  refresh() {
    const focused = numberOf(document.activeElement);
    this.#fill();
    if (focused) this.digits.querySelector(`[data-number="${focused}"] select`)?.focus();
  }

  /** Lay the boxes where the marks are on the surface, which may have another size by now. */
  placeBoxes() {
    this.boxes.replaceChildren(...this.all.map((mark) => this.#box(mark)));
  }

  clear(words = "Nothing to read yet") {
    this.show({ lines: [] }, null);
    this.text.textContent = words;
  }

  /** What stands in the text: digits and signs. */
  get written() {
    return this.lines.flat().filter(({ box }) => box);
  }

  /** The text, as it is corrected. */
  get plainText() {
    return this.lines.map((line) => line.map(({ text }) => text).join("")).join("\n");
  }

  /** Digits and signs as comma-separated values: line, place, text, probability, what is marked, and the box. */
  csv() {
    const rows = this.lines.flatMap((line, number) =>
      line.filter(({ box }) => box).map((mark, place) => [number + 1, place + 1, mark.text, mark.probability, mark.why, ...mark.box]),
    );
    const head = ["line", "place", "text", "probability", "why", "left", "top", "right", "bottom"];
    return [head, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
  }

  /** Nothing is being read for now; what is shown stays as old as it is. */
  rest() {
    this.timers.forEach(clearTimeout);
    this.timers = [];
    this.progress.textContent = "";
  }

  #markCurrent() {
    this.#setAge(false);
    this.rest();
  }

  #setAge(old) {
    for (const part of [this.text, this.marks, this.digits, this.boxes]) part.classList.toggle("old", old);
    this.text.setAttribute("aria-busy", String(old));
  }

  #fill() {
    this.lines = this.reading.lines.map((line, number) => marksOf(line, number, this.corrections));
    const left = (this.reading.left_out ?? []).map((each) => ({ ...each, text: "", kind: each.may_be_digit ? "left-out" : "left-out small" }));
    this.all = [...this.written, ...left];
    this.all.forEach((mark, i) => (mark.number = String(i)));
    this.#showText();
    this.marks.replaceChildren(...remarksOn(this.reading, this.written, left));
    const digits = this.written.filter(({ digit }) => digit);
    this.digits.replaceChildren(...digits.map((mark) => digitCard(mark, (label) => this.corrected(mark, label))));
    // A long list scrolls by itself, which the keyboard must reach.
    if (digits.length > MANY_DIGITS) this.digits.tabIndex = 0;
    else this.digits.removeAttribute("tabindex");
    this.placeBoxes();
  }

  #showText() {
    const empty = !this.lines.length;
    this.text.dataset.empty = String(empty);
    this.text.dataset.many = String(this.lines.length > MANY_LINES);
    this.text.tabIndex = this.lines.length > MANY_LINES ? 0 : -1;
    if (empty) {
      this.text.textContent = this.place ? "No digits found" : "Nothing to read yet";
      return;
    }
    const spans = (line) => line.map((mark) => (mark.number ? numbered("span", mark, { className: mark.kind, textContent: mark.text }) : mark.text));
    this.text.replaceChildren(...this.lines.flatMap((line, number) => [...(number ? ["\n"] : []), ...spans(line)]));
  }

  #box(mark) {
    const box = numbered("span", mark, { className: mark.kind });
    box.dataset.label = mark.text;
    const place = this.drawing.onSurface(mark.box, this.place);
    for (const [side, value] of Object.entries(place)) box.style[side] = `${value}px`;
    return box;
  }

  /** The number of the mark at a pointer on the drawing. */
  #under({ clientX: x, clientY: y }) {
    const found = [...this.boxes.children].find((box) => {
      const { left, top, right, bottom } = box.getBoundingClientRect();
      return x >= left && x <= right && y >= top && y <= bottom;
    });
    return found?.dataset.number ?? null;
  }

  /** Light up one mark, wherever it is shown; `scroll` its card into the list's view. */
  #light(number, scroll = false) {
    if (number === this.lit) return;
    this.lit = number;
    for (const part of [this.text, this.digits, this.boxes, this.marks]) {
      for (const lit of part.querySelectorAll(".lit")) lit.classList.remove("lit");
      if (number) for (const each of part.querySelectorAll(`[data-number="${number}"]`)) each.classList.add("lit");
    }
    const card = scroll && number && this.digits.querySelector(`[data-number="${number}"]`);
    if (card) this.digits.scrollTop = card.offsetTop - 8;
  }
}

/** What stands in a line, from left to right: digits, signs, and the spaces between them. */
function marksOf(line, number, corrections) {
  let digits = 0;
  const signs = new Map((line.signs ?? []).map((sign) => [sign.place, sign]));
  let place = 0;
  return [...line.text].map((character) => {
    if (character === " " || character === "\t") return { text: character };
    const sign = signs.get(place++);
    if (sign) return { text: character, kind: "sign", box: sign.box, probability: "", why: "" };
    digits += 1;
    return digitMark(line.digits[digits - 1], { line: number, place: digits }, corrections);
  });
}

function digitMark(digit, where, corrections) {
  const said = digit.is_digit ? digit.label : "?";
  const correction = corrections.of(digit.image);
  const corrected = correction !== undefined && correction !== said;
  const kind = corrected ? "corrected" : !digit.is_digit ? "nodigit" : digit.doubtful ? "doubtful" : "";
  const why = corrected ? `corrected; was ${said}` : digit.why;
  return { ...where, digit, said, kind, why, text: corrected ? correction : said, box: digit.box, probability: corrected ? "" : digit.probability };
}

/** What is to be said of a reading as a whole, of what was left out, and of its doubts; the first few, and the rest on demand. */
function remarksOn(reading, written, left) {
  const turned = reading.turned_degrees ? [element("li", { className: "small", textContent: `Read with the page turned by ${reading.turned_degrees} degrees` })] : [];
  const notes = (reading.notes ?? []).map((note) => element("li", { className: "note", textContent: capital(note) }));
  const several = reading.lines.length > 1;
  const doubts = written.filter(({ digit, kind }) => digit && kind && kind !== "corrected").map((mark) => {
    const name = `${several ? `Line ${mark.line + 1}, digit` : "Digit"} ${mark.place}`;
    return numbered("li", mark, { className: mark.kind, textContent: `${name} ${mark.why}`.replace(/ no digit:/, " is no digit:") });
  });
  const remarks = [...notes, ...turned, ...leftOutRemarks(left), ...doubts];
  if (remarks.length <= MOST_REMARKS + 1) return remarks;
  const more = element("details", {});
  const list = element("ul", {});
  list.append(...remarks.slice(MOST_REMARKS));
  more.append(element("summary", { textContent: `${remarks.length - MOST_REMARKS} more` }), list);
  const last = element("li", {});
  last.append(more);
  return [...remarks.slice(0, MOST_REMARKS), last];
}

/** One remark for each reason. */
function leftOutRemarks(left) {
  const reasons = [...new Set(left.map(({ why }) => why))];
  return reasons.map((why) => {
    const those = left.filter((each) => each.why === why);
    const serious = those.some(({ may_be_digit }) => may_be_digit);
    const count = those.length > 1 ? `${those.length} marks` : "1 mark";
    return numbered("li", those[0], { className: serious ? "left-out" : "left-out small", textContent: `Left out: ${count} (${why}), framed in the picture` });
  });
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A cell of comma-separated values (RFC 4180). */
const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));

const numberOf = (target) => target?.closest?.("[data-number]")?.dataset.number ?? null;

function numbered(name, mark, properties) {
  const made = element(name, properties);
  made.dataset.number = mark.number;
  return made;
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}
