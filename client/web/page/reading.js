// Shows a reading: the text, its doubts, and each digit as the model saw it, with ten bars; and how old it is.

const SAY_READING_MS = 300;
const SAY_SLOW_MS = 4000;
const MANY_DIGITS = 12; // of which the list scrolls in place of the page

const percent = (p) => (p >= 0.9995 ? "100 %" : `${(100 * p).toFixed(p >= 0.1 ? 0 : 1)} %`);
const kind = (digit) => (digit.is_digit ? (digit.doubtful ? "doubtful" : "") : "nodigit");
const shown = (digit) => (digit.is_digit ? digit.label : "?");

export class ReadingView {
  constructor({ text, marks, digits, boxes, progress, drawing }) {
    Object.assign(this, { text, marks, digits, boxes, progress, drawing });
    this.reading = { lines: [] };
    this.timers = [];
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
    const all = reading.lines.flatMap((line) => line.digits);
    Object.assign(this, { reading, place });
    if (current) this.#markCurrent();
    this.#showText(reading, Boolean(place));
    this.marks.replaceChildren(...marksOf(reading).map((mark) => element("li", { textContent: mark })));
    this.digits.replaceChildren(...all.map(digitCard));
    // A long list scrolls by itself, which the keyboard must reach.
    if (all.length > MANY_DIGITS) this.digits.tabIndex = 0;
    else this.digits.removeAttribute("tabindex");
    this.placeBoxes();
    [...this.digits.children].forEach((card, number) => {
      const light = (lit) => () => this.boxes.children[number]?.classList.toggle("lit", lit);
      card.addEventListener("pointerenter", light(true));
      card.addEventListener("pointerleave", light(false));
    });
  }

  /** Lay the boxes where the digits are on the surface, which may have another size by now. */
  placeBoxes() {
    this.boxes.replaceChildren(...this.reading.lines.flatMap((line) => line.digits.map((digit) => this.#box(digit))));
  }

  clear(words = "Nothing to read yet") {
    this.show({ lines: [] }, null);
    this.text.textContent = words;
  }

  /** The digits as comma-separated values: line, place, label, probability, what is marked, and the box. */
  csv() {
    const rows = this.reading.lines.flatMap((line, number) =>
      line.digits.map((digit, place) => [number + 1, place + 1, shown(digit), digit.probability, digit.why, ...digit.box]),
    );
    const head = ["line", "digit", "label", "probability", "why", "left", "top", "right", "bottom"];
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

  #showText(reading, drawn) {
    const empty = !reading.lines.length;
    this.text.dataset.empty = String(empty);
    if (empty) {
      this.text.textContent = drawn ? "No digits found" : "Nothing to read yet";
      return;
    }
    const parts = reading.lines.flatMap((line, number) => [
      ...(number ? ["\n"] : []),
      ...line.digits.map((digit) => (kind(digit) ? element("span", { className: kind(digit), textContent: shown(digit) }) : shown(digit))),
    ]);
    this.text.replaceChildren(...parts);
    this.text.normalize();
  }

  #box(digit) {
    const box = element("span", { className: kind(digit) });
    box.dataset.label = shown(digit);
    const place = this.drawing.onSurface(digit.box, this.place);
    for (const [side, value] of Object.entries(place)) box.style[side] = `${value}px`;
    return box;
  }
}

/** A cell of comma-separated values (RFC 4180). */
const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));

function marksOf(reading) {
  const several = reading.lines.length > 1;
  return reading.lines.flatMap((line, number) =>
    line.digits.flatMap((digit, place) =>
      digit.why ? [`${several ? `Line ${number + 1}, digit` : "Digit"} ${place + 1} ${digit.why}`.replace(/ no digit:/, " is no digit:")] : [],
    ),
  );
}

function digitCard(digit) {
  const saw = element("canvas", { width: 28, height: 28, title: "As the model saw it: 28 × 28 pixels. It saw it upright too; the bars are the mean" });
  saw.setAttribute("role", "img");
  saw.setAttribute("aria-label", "The digit in the 28 by 28 pixels that the model saw");
  paint28(saw, digit.image);
  const label = element("div", { className: "label", textContent: shown(digit) });
  label.append(element("small", { textContent: percent(digit.probability) }));
  const top = element("div", { className: "top" });
  top.append(saw, label);
  const card = element("li", { className: `digit ${kind(digit)}` });
  card.append(top, bars(digit));
  return card;
}

function bars(digit) {
  const ranked = digit.probabilities.map((p, label) => [p, label]).sort(([a], [b]) => b - a);
  const group = element("div", { className: "bars" });
  group.setAttribute("role", "img");
  group.setAttribute("aria-label", ranked.slice(0, 3).map(([p, label]) => `${label}: ${percent(p)}`).join(", "));
  digit.probabilities.forEach((p, label) => {
    const bar = element("i", {});
    bar.style.setProperty("--p", p.toFixed(4));
    const column = element("div", { className: label === ranked[0][1] ? "best" : "", title: `${label}: ${percent(p)}` });
    column.append(bar, String(label));
    group.append(column);
  });
  return group;
}

function paint28(canvas, base64) {
  const grey = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(28, 28);
  grey.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}
