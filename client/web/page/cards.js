// A digit's card: the pixels that the model saw, what it is, which can be corrected, and ten bars where there is doubt.

const percent = (p) => (p >= 0.9995 ? "100 %" : `${(100 * p).toFixed(p >= 0.1 ? 0 : 1)} %`);
const CHOICES = [...Array.from({ length: 10 }, (_, label) => String(label)), "?"];

/** The card of a digit; `corrected(label)` is called when somebody says what it is. */
export function digitCard(mark, corrected) {
  const { digit, kind, why } = mark;
  const card = element("li", { className: `digit ${kind}` });
  card.dataset.number = mark.number;
  const top = element("div", { className: "top" });
  top.append(whatTheModelSaw(digit), labelOf(mark, corrected));
  card.append(top);
  const doubt = kind && kind !== "corrected";
  if (doubt) card.append(bars(digit));
  if (doubt && why) card.append(element("p", { className: "why", textContent: why }));
  return card;
}

function whatTheModelSaw(digit) {
  const canvas = element("canvas", { width: 28, height: 28, title: "As the model saw it: 28 × 28 pixels. It saw it upright too; the probability is the mean" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The digit in the 28 by 28 pixels that the model saw");
  paint28(canvas, digit.image);
  return canvas;
}

function labelOf({ digit, text, said, kind, line, place }, corrected) {
  const choice = element("select", { title: "Not right? Say what it is" });
  choice.setAttribute("aria-label", `Line ${line + 1}, digit ${place}: read as ${said === "?" ? "no digit" : said}`);
  for (const each of CHOICES) choice.append(element("option", { value: each, textContent: each, selected: each === text }));
  choice.addEventListener("change", () => corrected(choice.value));
  const box = element("div", { className: "label" });
  box.append(choice, element("small", { textContent: kind === "corrected" ? `was ${said}` : percent(digit.probability) }));
  return box;
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
