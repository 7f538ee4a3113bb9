// The drawing surface: strokes of a mouse, pen, finger or the keyboard, or a picture in their place.
//
// Strokes keep the places and widths that they had on the surface as it was when the first of them was drawn, its sheet.
// A surface of another size shows the sheet as large as it can, and what is read does not change with the window.

const STEP = 12;
const FINE_STEP = 3;
const MOST_CHANGES = 100; // that undo takes back
const LARGEST_PICTURE = 2000; // pixels on a side that are sent; more says nothing more about digits

// Outlines of an example, in units of the digits' height: each digit is a list of strokes.
const EXAMPLE = [
  [[[0.42, 0.02], [0.08, 0.62], [0.62, 0.6]], [[0.46, 0.36], [0.42, 1.0]]],
  [[[0.5, 0.08], [0.2, 0.06], [0.06, 0.5], [0.2, 0.94], [0.46, 0.92], [0.6, 0.5], [0.46, 0.08]]],
  [[[0.06, 0.08], [0.58, 0.06], [0.36, 0.5], [0.22, 1.0]]],
  [[[0.3, 0.0], [0.26, 0.5], [0.22, 1.0]]],
];

export class Drawing {
  /** `changed(finished)` is called after every change; `finished` is false while a stroke goes on. */
  constructor({ surface, canvas, pen, changed }) {
    Object.assign(this, { surface, canvas, pen, changed });
    this.resized = null; // called when the surface has another size
    this.strokes = [];
    this.picture = null;
    this.past = []; // what undo goes back to, each {strokes, picture}, the newest last
    this.future = []; // what redo goes on to, the next one last
    this.current = null;
    this.cursor = null; // of the keyboard's pen
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftCursor());
    // The focus ring is for the keyboard: who draws with a pen sees where they are.
    for (const back of ["blur", "keydown"]) canvas.addEventListener(back, () => delete surface.dataset.pointer);
    new ResizeObserver(() => this.#resize()).observe(surface);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
    this.#resize();
  }

  get empty() {
    return !this.strokes.length && !this.picture;
  }

  get canUndo() {
    return this.past.length > 0;
  }

  get canRedo() {
    return this.future.length > 0;
  }

  /** Take the last change back, whichever it was. */
  undo() {
    this.#go(this.past, this.future);
  }

  redo() {
    this.#go(this.future, this.past);
  }

  clear() {
    if (!this.empty) this.#replace([], null);
  }

  example() {
    const { width, height } = this.#sheet();
    const size = Math.min(height * 0.55, width / (EXAMPLE.length * 0.95));
    const left = (width - EXAMPLE.length * 0.88 * size) / 2;
    const top = (height - size) / 2;
    const strokes = EXAMPLE.flatMap((digit, place) =>
      digit.map((stroke) => ({
        width: Math.max(7, size * 0.075),
        points: stroke.map(([x, y]) => [left + (x + place * 0.88 + 0.1) * size, top + y * size]),
      })),
    );
    this.#replace(strokes, null);
  }

  /** Show a picture file instead of strokes; rejects if the browser cannot decode it. */
  async show(file) {
    const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
    picture.paper = paperOf(picture);
    this.#replace([], picture);
  }

  get canTurn() {
    return Boolean(this.picture) && !this.strokes.length;
  }

  /** Turn the picture by a quarter, clockwise. */
  async turn() {
    const before = this.picture;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [before.height, before.width];
    const context = canvas.getContext("2d");
    context.translate(canvas.width, 0);
    context.rotate(Math.PI / 2);
    context.drawImage(before, 0, 0);
    const picture = await createImageBitmap(canvas);
    picture.paper = before.paper;
    if (this.picture === before && this.canTurn) this.#replace([], picture);
  }

  /** What is to be read, as an image file, strokes being dark on light; and its place on the sheet. */
  async blob() {
    const canvas = document.createElement("canvas");
    const { left, top, scale } = this.#fit();
    // A picture alone is sent as it is; with strokes on it, as it is seen.
    const alone = this.picture && !this.strokes.length;
    const factor = alone ? Math.min(1, LARGEST_PICTURE / Math.max(this.picture.width, this.picture.height)) : 1;
    const seen = this.#extent();
    canvas.width = Math.max(1, Math.round(alone ? this.picture.width * factor : seen.width));
    canvas.height = Math.max(1, Math.round(alone ? this.picture.height * factor : seen.height));
    const context = canvas.getContext("2d");
    context.fillStyle = this.picture?.paper ?? "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (alone) context.drawImage(this.picture, 0, 0, canvas.width, canvas.height);
    else {
      context.translate(-seen.left, -seen.top);
      if (this.picture) context.drawImage(this.picture, left, top, this.picture.width * scale, this.picture.height * scale);
      drawStrokes(context, this.strokes, inkOn(this.picture));
    }
    const place = alone ? { left, top, scale: scale / factor } : { left: seen.left, top: seen.top, scale: 1 };
    const type = alone ? "image/jpeg" : "image/png";
    return { place, blob: await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95)) };
  }

  /** Where a box of a reading is on the surface; `place` is that of the picture that was read, on the sheet. */
  onSurface([left, top, right, bottom], place) {
    const view = this.#view();
    const scale = place.scale * view.scale;
    const across = (x) => view.left + (place.left + x * place.scale) * view.scale;
    const down = (y) => view.top + (place.top + y * place.scale) * view.scale;
    return { left: across(left), top: down(top), width: (right - left) * scale, height: (bottom - top) * scale };
  }

  /** Strokes and picture by others, as one change. */
  #replace(strokes, picture) {
    this.#remember();
    Object.assign(this, { strokes, picture });
    this.#endStroke();
    this.#changed(true);
  }

  #remember() {
    this.#keepSheet();
    this.past.push({ strokes: [...this.strokes], picture: this.picture });
    if (this.past.length > MOST_CHANGES) this.past.shift();
    this.future = [];
  }

  /** One step from one of the two histories, and what was there to the other. */
  #go(from, to) {
    if (!from.length) return;
    to.push({ strokes: [...this.strokes], picture: this.picture });
    Object.assign(this, from.pop());
    this.#endStroke();
    this.#changed(true);
  }

  /** The surface is the sheet until something is drawn on it. */
  #keepSheet() {
    if (this.empty && !this.canUndo && !this.canRedo) this.sheet = { width: this.width, height: this.height };
  }

  #sheet() {
    this.#keepSheet();
    return this.sheet;
  }

  /** Where the sheet is on the surface, and how large. */
  #view() {
    const sheet = this.#sheet();
    const scale = Math.min(this.width / sheet.width, this.height / sheet.height);
    return { left: (this.width - sheet.width * scale) / 2, top: (this.height - sheet.height * scale) / 2, scale };
  }

  /** The sheet, and what was drawn beside it while the surface had another shape. */
  #extent() {
    const sheet = this.#sheet();
    const corners = this.strokes.flatMap(({ width, points }) => points.flatMap(([x, y]) => [[x - width, y - width], [x + width, y + width]]));
    const edge = (side, which, start) => corners.reduce((found, corner) => which(found, corner[side]), start);
    const [left, top] = [edge(0, Math.min, 0), edge(1, Math.min, 0)];
    return { left, top, width: edge(0, Math.max, sheet.width) - left, height: edge(1, Math.max, sheet.height) - top };
  }

  /** What is under way goes no further: the stroke that it would go on is gone. */
  #endStroke() {
    this.current = null;
    if (this.cursor) this.cursor.down = false;
  }

  #down(event) {
    if (event.button || this.current) return;
    event.preventDefault();
    this.surface.dataset.pointer = "true";
    this.cursor = null;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.#begin(event.pointerId, this.#point(event));
  }

  #begin(pointer, point) {
    this.#remember();
    this.current = { pointer, width: Number(this.pen.value) / this.#view().scale, points: [point] };
    this.strokes.push(this.current);
    this.#changed(false);
  }

  #move(event) {
    if (event.pointerId !== this.current?.pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.current.points.push(this.#point(each));
    this.#changed(false);
  }

  #up(event) {
    if (event.pointerId !== this.current?.pointer) return;
    this.current = null;
    this.#changed(true);
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    const view = this.#view();
    return [(event.clientX - box.left - view.left) / view.scale, (event.clientY - box.top - view.top) / view.scale];
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") this.#toggleCursor();
    else if (event.key in steps) this.#moveCursor(steps[event.key], event.shiftKey ? FINE_STEP : STEP);
    else return;
    event.preventDefault();
  }

  #moveCursor([x, y], step) {
    const { width, height } = this.#sheet();
    this.cursor ??= { x: width / 2, y: height / 2, down: false };
    const within = (value, limit) => Math.min(Math.max(value, 2), limit - 2);
    this.cursor.x = within(this.cursor.x + x * step, width);
    this.cursor.y = within(this.cursor.y + y * step, height);
    if (this.cursor.down) this.current.points.push([this.cursor.x, this.cursor.y]);
    this.cursor.down ? this.#changed(false) : this.#paint();
  }

  #toggleCursor() {
    const { width, height } = this.#sheet();
    this.cursor ??= { x: width / 2, y: height / 2, down: false };
    if (this.cursor.down) return this.#liftCursor();
    this.cursor.down = true;
    this.#begin("keyboard", [this.cursor.x, this.cursor.y]);
  }

  #liftCursor() {
    if (!this.cursor) return;
    const wasDown = this.cursor.down;
    this.cursor.down = false;
    if (wasDown) {
      this.current = null;
      this.#changed(true);
    } else this.#paint();
  }

  #changed(finished) {
    this.surface.dataset.empty = String(this.empty);
    this.surface.classList.toggle("picture", Boolean(this.picture));
    this.#paint();
    this.changed(finished);
  }

  #resize() {
    const { width, height } = this.surface.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    Object.assign(this, { width, height, ratio });
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.#paint();
    this.resized?.();
  }

  /** Where the picture is on the sheet. */
  #fit() {
    if (!this.picture) return { left: 0, top: 0, scale: 1 };
    const { width, height } = this.#sheet();
    const scale = Math.min(width / this.picture.width, height / this.picture.height);
    const left = (width - this.picture.width * scale) / 2;
    return { left, top: (height - this.picture.height * scale) / 2, scale };
  }

  #paint() {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const view = this.#view();
    context.translate(view.left, view.top);
    context.scale(view.scale, view.scale);
    const { left, top, scale } = this.#fit();
    if (this.picture) {
      const area = [left, top, this.picture.width * scale, this.picture.height * scale];
      context.fillStyle = this.picture.paper;
      context.fillRect(...area);
      context.drawImage(this.picture, ...area);
    }
    const ink = getComputedStyle(this.surface).getPropertyValue("--ink").trim();
    drawStrokes(context, this.strokes, this.picture ? inkOn(this.picture) : ink);
    if (this.cursor && document.activeElement === this.canvas) this.#paintCursor(context);
  }

  #paintCursor(context) {
    const { x, y, down } = this.cursor;
    context.strokeStyle = getComputedStyle(this.surface).getPropertyValue("--accent").trim();
    context.lineWidth = down ? 4 : 2;
    context.beginPath();
    context.arc(x, y, Number(this.pen.value) / 2 / this.#view().scale + 4, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** The paper behind a picture: black if it is partly transparent and what is drawn on it is light, as the reader has it. */
function paperOf(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 128;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let [light, alpha] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    light += ((data[i] + data[i + 1] + data[i + 2]) / 3) * (data[i + 3] / 255);
    alpha += data[i + 3] / 255;
  }
  return light > 128 * alpha && alpha <= 0.95 * canvas.width * canvas.height ? "#000" : "#fff";
}

const inkOn = (picture) => (picture?.paper === "#000" ? "#fff" : "#000");

/** Round strokes through the points, smoothed by curves between their middles. */
function drawStrokes(context, strokes, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const { width, points } of strokes) {
    context.lineWidth = width;
    context.beginPath();
    if (points.length === 1) {
      context.arc(...points[0], width / 2, 0, 2 * Math.PI);
      context.fill();
      continue;
    }
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [x, y] = points[i];
      context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}
