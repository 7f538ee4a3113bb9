// The drawing surface: strokes of a mouse, pen, finger or the keyboard, or a picture in their place.

const STEP = 12;
const FINE_STEP = 3;
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
    this.strokes = [];
    this.picture = null;
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

  undo() {
    if (this.strokes.length) this.strokes.pop();
    else this.picture = null;
    this.#endStroke();
    this.#changed(true);
  }

  clear() {
    this.strokes = [];
    this.picture = null;
    this.#endStroke();
    this.#changed(true);
  }

  example() {
    this.clear();
    const height = Math.min(this.height * 0.55, this.width / (EXAMPLE.length * 0.95));
    const left = (this.width - EXAMPLE.length * 0.88 * height) / 2;
    const top = (this.height - height) / 2;
    EXAMPLE.forEach((digit, place) => {
      for (const stroke of digit) {
        const points = stroke.map(([x, y]) => [left + (x + place * 0.88 + 0.1) * height, top + y * height]);
        this.strokes.push({ width: Math.max(7, height * 0.075), points });
      }
    });
    this.#changed(true);
  }

  /** Show a picture file instead of strokes; rejects if the browser cannot decode it. */
  async show(file) {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    this.strokes = [];
    this.picture = bitmap;
    this.#endStroke();
    this.#changed(true);
  }

  /** What is to be read, as an image file's bytes; always dark on light. */
  async blob() {
    const canvas = document.createElement("canvas");
    const { left, top, scale } = this.#fit();
    // A picture alone is sent as it is; with strokes on it, as it is seen.
    const alone = this.picture && !this.strokes.length;
    const factor = alone ? Math.min(1, LARGEST_PICTURE / Math.max(this.picture.width, this.picture.height)) : 1;
    canvas.width = Math.max(1, Math.round(alone ? this.picture.width * factor : this.width));
    canvas.height = Math.max(1, Math.round(alone ? this.picture.height * factor : this.height));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (alone) context.drawImage(this.picture, 0, 0, canvas.width, canvas.height);
    else {
      if (this.picture) context.drawImage(this.picture, left, top, this.picture.width * scale, this.picture.height * scale);
      drawStrokes(context, this.strokes, "#000");
    }
    this.sent = alone ? { left, top, scale: scale / factor } : { left: 0, top: 0, scale: 1 };
    const type = alone ? "image/jpeg" : "image/png";
    return new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  }

  /** A box of the reading, on the surface. */
  place([left, top, right, bottom], sent = this.sent) {
    const across = (x) => sent.left + x * sent.scale;
    const down = (y) => sent.top + y * sent.scale;
    return { left: across(left), top: down(top), width: (right - left) * sent.scale, height: (bottom - top) * sent.scale };
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
    this.current = { pointer: event.pointerId, width: Number(this.pen.value), points: [this.#point(event)] };
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
    return [event.clientX - box.left, event.clientY - box.top];
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
    this.cursor ??= { x: this.width / 2, y: this.height / 2, down: false };
    const within = (value, limit) => Math.min(Math.max(value, 2), limit - 2);
    this.cursor.x = within(this.cursor.x + x * step, this.width);
    this.cursor.y = within(this.cursor.y + y * step, this.height);
    if (this.cursor.down) this.current.points.push([this.cursor.x, this.cursor.y]);
    this.cursor.down ? this.#changed(false) : this.#paint();
  }

  #toggleCursor() {
    this.cursor ??= { x: this.width / 2, y: this.height / 2, down: false };
    if (this.cursor.down) return this.#liftCursor();
    this.cursor.down = true;
    this.current = { pointer: "keyboard", width: Number(this.pen.value), points: [[this.cursor.x, this.cursor.y]] };
    this.strokes.push(this.current);
    this.#changed(false);
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
  }

  #fit() {
    if (!this.picture) return { left: 0, top: 0, scale: 1 };
    const scale = Math.min(this.width / this.picture.width, this.height / this.picture.height);
    const left = (this.width - this.picture.width * scale) / 2;
    return { left, top: (this.height - this.picture.height * scale) / 2, scale };
  }

  #paint() {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const { left, top, scale } = this.#fit();
    if (this.picture) context.drawImage(this.picture, left, top, this.picture.width * scale, this.picture.height * scale);
    const ink = getComputedStyle(this.surface).getPropertyValue("--ink").trim();
    drawStrokes(context, this.strokes, this.picture ? "#000" : ink);
    if (this.cursor && document.activeElement === this.canvas) this.#paintCursor(context);
  }

  #paintCursor(context) {
    const { x, y, down } = this.cursor;
    context.strokeStyle = getComputedStyle(this.surface).getPropertyValue("--accent").trim();
    context.lineWidth = down ? 4 : 2;
    context.beginPath();
    context.arc(x, y, Number(this.pen.value) / 2 + 4, 0, 2 * Math.PI);
    context.stroke();
  }
}

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
