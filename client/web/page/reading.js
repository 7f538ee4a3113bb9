// Shows a reading: the text, its doubts, and each digit as the model saw it, with ten bars.

const percent = (p) => (p >= 0.9995 ? "100 %" : `${(100 * p).toFixed(p >= 0.1 ? 0 : 1)} %`);
const kind = (digit) => (digit.is_digit ? (digit.doubtful ? "doubtful" : "") : "nodigit");
const shown = (digit) => (digit.is_digit ? digit.label : "?");

export class ReadingView {
  constructor({ text, marks, digits, boxes, drawing }) {
    Object.assign(this, { text, marks, digits, boxes, drawing });
  }

  /** `drawn`: whether there was anything to read. */
  show(reading, drawn) {
    const all = reading.lines.flatMap((line) => line.digits);
    this.#showText(reading, drawn);
    this.marks.replaceChildren(...marksOf(reading).map((mark) => element("li", { textContent: mark })));
    this.digits.replaceChildren(...all.map(digitCard));
    this.boxes.replaceChildren(...all.map((digit) => this.#box(digit)));
  }

  clear() {
    this.show({ lines: [] }, false);
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
    const place = this.drawing.place(digit.box);
    for (const [side, value] of Object.entries(place)) box.style[side] = `${value}px`;
    return box;
  }
}

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
