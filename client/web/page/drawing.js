// The drawing surface: strokes of a mouse, pen, finger or the keyboard, or a picture in their place.
//
// Strokes keep the places and widths that they had on the surface as it was when the first of them was drawn, its sheet.
// A surface of another size shows the sheet as large as it can, and what is read does not change with the window.
// A picture may be looked at closer; that changes the view of the sheet, and nothing that is read.

import { coverErased, drawStrokes, exampleStrokes, newCanvas } from "./ink.js";
import { inkOn, paperNear, paperOf, partOf, shrunk, turned } from "./picture.js";

const STEP = 12;
const FINE_STEP = 3;
const EDGE = 30; // pixels from the surface's edge that the keyboard's pen keeps, where the picture goes on
const MOST_CHANGES = 100; // that undo takes back
const LARGEST_PICTURE = 2000; // pixels on a side that are sent; more says nothing more about digits
const LARGEST_KEPT = 4096; // of a picture here
const MOST_PICTURES = 8; // that undo keeps, of 64 MB at most each

const ERASER = 2.5; // its width over the pen's
export const CLOSER = 1.5; // by a key or a button
const CLOSEST = 8;
const SMALLEST_PART = 8; // pixels on a side that are cut out

export class Drawing {
  /** `changed(finished)` is called after every change; `finished` is false while a stroke goes on. */
  constructor({ surface, canvas, pen, changed }) {
    Object.assign(this, { surface, canvas, pen, changed });
    this.moved = null; // called when what is drawn lies elsewhere on the surface
    this.tool = "pen"; // or "eraser" or "crop"
    this.zoom = { factor: 1, x: 0, y: 0 }; // of the sheet, and its point in the surface's middle
    this.touches = new Map(); // fingers on the surface, and where
    this.strokes = [];
    this.picture = null;
    this.past = []; // what undo goes back to, each {strokes, picture}, the newest last
    this.future = []; // what redo goes on to, the next one last
    this.current = null;
    this.cursor = null; // of the keyboard's pen
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftCursor());
    // The focus ring is for the keyboard: who draws with a pen sees where they are.
    for (const back of ["blur", "keydown"]) canvas.addEventListener(back, () => delete surface.dataset.pointer);
    new ResizeObserver(() => this.#resize()).observe(surface);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
    this.#resize();
  }

  /** Take a tool in hand. */
  use(tool) {
    this.tool = tool;
    this.surface.dataset.tool = tool;
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
    this.#replace(exampleStrokes(this.#sheet()), null);
  }

  /** Show a picture file instead of strokes; rejects if the browser cannot decode it. */
  async show(file) {
    const picture = await shrunk(await createImageBitmap(file, { imageOrientation: "from-image" }), LARGEST_KEPT);
    picture.paper = paperOf(picture);
    this.use("pen");
    this.#replace([], picture);
  }

  /** Turn the picture by a quarter, clockwise, with what is written on it. */
  turn() {
    return this.#change((canvas) => turned(canvas));
  }

  /** Cut the picture to what lies between two points of the sheet. */
  #crop(corners) {
    const [across, down] = [0, 1].map((side) => corners.map((corner) => corner[side]).sort((one, other) => one - other));
    return this.#change((canvas, { left, top, scale }) => {
      const within = (value, limit) => Math.round(Math.min(Math.max(value / scale, 0), limit));
      const [x, y] = [across.map((value) => within(value - left, canvas.width)), down.map((value) => within(value - top, canvas.height))];
      return Math.min(x[1] - x[0], y[1] - y[0]) < SMALLEST_PART ? null : partOf(canvas, [x[0], y[0]], [x[1], y[1]]);
    });
  }

  /** Put another picture in place of this one: what `make` makes of it, unless that is nothing. */
  async #change(make) {
    const before = this.picture;
    if (!before) return;
    const { canvas, place } = this.#render(LARGEST_KEPT);
    const changed = make(canvas, place);
    const picture = changed && (await createImageBitmap(changed));
    if (!picture || this.picture !== before) return this.#paint();
    picture.paper = before.paper;
    this.use("pen");
    this.#replace([], picture);
  }

  /** What is to be read, as an image file, strokes being dark on light; and its place on the sheet. */
  async blob() {
    const { canvas, place } = this.#render(LARGEST_PICTURE);
    const type = this.picture ? "image/jpeg" : "image/png";
    return { place, blob: await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95)) };
  }

  /** As `blob`, as a canvas. */
  get seen() {
    return this.#render(LARGEST_PICTURE).canvas;
  }

  /** What is drawn, as a canvas of at most `largest` pixels on a side; and its place on the sheet. */
  #render(largest) {
    const area = this.#extent();
    const fit = this.#fit();
    const finest = this.picture ? 1 / fit.scale : 1; // pixels of the picture for one of the sheet
    const factor = Math.min(finest, largest / Math.max(area.width, area.height));
    const canvas = newCanvas(Math.max(1, Math.round(area.width * factor)), Math.max(1, Math.round(area.height * factor)));
    const context = canvas.getContext("2d");
    context.fillStyle = this.picture?.paper ?? "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.scale(factor, factor);
    context.translate(-area.left, -area.top);
    if (this.picture) {
      context.drawImage(this.picture, fit.left, fit.top, this.picture.width * fit.scale, this.picture.height * fit.scale);
      coverErased(context, this.strokes);
    }
    drawStrokes(context, this.strokes, inkOn(this.picture));
    return { canvas, place: { left: area.left, top: area.top, scale: 1 / factor } };
  }

  /** Where a box of a reading is on the surface; `place` is that of the picture that was read, on the sheet. */
  onSurface([left, top, right, bottom], place) {
    const view = this.#view();
    const scale = place.scale * view.scale;
    const across = (x) => view.left + (place.left + x * place.scale) * view.scale;
    const down = (y) => view.top + (place.top + y * place.scale) * view.scale;
    return { left: across(left), top: down(top), width: (right - left) * scale, height: (bottom - top) * scale };
  }

  /** Look closer, or less close, by a factor, at what is at a point of the surface: its middle, if none is given. */
  zoomBy(factor, { x, y } = { x: this.width / 2, y: this.height / 2 }) {
    if (!this.picture) return;
    const before = this.#view();
    const [across, down] = [(x - before.left) / before.scale, (y - before.top) / before.scale];
    this.zoom.factor = Math.min(Math.max(this.zoom.factor * factor, 1), CLOSEST);
    const { scale } = this.#view();
    this.#look(across - (x - this.width / 2) / scale, down - (y - this.height / 2) / scale);
  }

  /** Move what is looked at by pixels of the surface. */
  pan(x, y) {
    const { scale } = this.#view();
    this.#look(this.zoom.x - x / scale, this.zoom.y - y / scale);
  }

  /** Have a point of the sheet in the surface's middle, as far as the sheet goes. */
  #look(x, y) {
    const sheet = this.#sheet();
    const { scale } = this.#view();
    const within = (value, half, size) => (2 * half >= size ? size / 2 : Math.min(Math.max(value, half), size - half));
    this.zoom.x = within(x, this.width / 2 / scale, sheet.width);
    this.zoom.y = within(y, this.height / 2 / scale, sheet.height);
    this.#paint();
    this.moved?.();
  }

  #lookAtAll() {
    this.zoom = { factor: 1, x: this.#sheet().width / 2, y: this.#sheet().height / 2 };
  }

  /** Strokes and picture by others, as one change. */
  #replace(strokes, picture) {
    this.#remember();
    Object.assign(this, { strokes, picture });
    this.#lookAtAll();
    this.#endStroke();
    this.#changed(true);
  }

  #remember() {
    this.#keepSheet();
    this.past.push({ strokes: [...this.strokes], picture: this.picture });
    const pictures = () => new Set(this.past.map(({ picture }) => picture)).size;
    while (this.past.length > MOST_CHANGES || pictures() > MOST_PICTURES) this.past.shift();
    this.future = [];
  }

  /** One step from one of the two histories, and what was there to the other. */
  #go(from, to) {
    if (!from.length) return;
    to.push({ strokes: [...this.strokes], picture: this.picture });
    const before = this.picture;
    Object.assign(this, from.pop());
    if (this.picture !== before) this.#lookAtAll();
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
    const scale = Math.min(this.width / sheet.width, this.height / sheet.height) * this.zoom.factor;
    const [x, y] = this.zoom.factor > 1 ? [this.zoom.x, this.zoom.y] : [sheet.width / 2, sheet.height / 2];
    return { left: this.width / 2 - x * scale, top: this.height / 2 - y * scale, scale };
  }

  /** What is read: the sheet or the picture, and what was drawn beside it. */
  #extent() {
    const { left, top, scale } = this.#fit();
    const size = this.picture ? { width: this.picture.width * scale, height: this.picture.height * scale } : this.#sheet();
    const drawn = this.strokes.filter(({ erases }) => !erases);
    const corners = drawn.flatMap(({ width, points }) => points.flatMap(([x, y]) => [[x - width, y - width], [x + width, y + width]]));
    const edge = (side, which, start) => corners.reduce((found, corner) => which(found, corner[side]), start);
    const [first, upper] = [edge(0, Math.min, left), edge(1, Math.min, top)];
    const [last, lower] = [edge(0, Math.max, left + size.width), edge(1, Math.max, top + size.height)];
    return { left: first, top: upper, width: last - first, height: lower - upper };
  }

  /** What is under way goes no further: the stroke that it would go on is gone. */
  #endStroke() {
    this.current = null;
    if (this.cursor) this.cursor.down = false;
  }

  #down(event) {
    if (event.pointerType === "touch") this.touches.set(event.pointerId, this.#place(event));
    if (this.touches.size === 2 && this.picture) return this.#dropStroke(); // two fingers look closer
    if (event.button || this.current || this.touches.size > 1) return;
    event.preventDefault();
    this.surface.dataset.pointer = "true";
    this.cursor = null;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.#begin(event.pointerId, this.#point(event));
  }

  #begin(pointer, point) {
    const width = (Number(this.pen.value) / this.#view().scale) * (this.tool === "eraser" ? ERASER : 1);
    if (this.tool === "crop" && this.picture) this.current = { pointer, cut: true, points: [point, point] };
    else if (this.tool === "eraser" && this.empty) return;
    else {
      this.#remember();
      const erasing = this.tool === "eraser" ? { erases: true, paper: this.#paperAt(point, width) } : {};
      this.current = { pointer, width, points: [point], ...erasing };
      this.strokes.push(this.current);
      this.#changed(false);
    }
  }

  /** The colour of the picture's paper around a point of the sheet. */
  #paperAt([x, y], width) {
    const { left, top, scale } = this.#fit();
    return this.picture && paperNear(this.picture, (x - left) / scale, (y - top) / scale, (1.5 * width) / scale);
  }

  #move(event) {
    if (this.touches.has(event.pointerId) && this.touches.size === 2 && this.picture && !this.current) return this.#pinch(event);
    if (event.pointerId !== this.current?.pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#goOn(this.#point(each));
  }

  #goOn(point) {
    if (this.current.cut) {
      this.current.points[1] = point;
      this.#paint();
    } else {
      this.current.points.push(point);
      this.#changed(false);
    }
  }

  #up(event) {
    this.touches.delete(event.pointerId);
    if (event.pointerId === this.current?.pointer) this.#finish();
  }

  #finish() {
    const { cut, points } = this.current;
    this.current = null;
    if (!cut) return this.#changed(true);
    this.#crop(points);
  }

  /** A stroke that a finger began, before it proved to be one of two. */
  #dropStroke() {
    if (!this.current) return;
    const { cut } = this.current;
    this.#endStroke();
    if (cut) return this.#paint();
    Object.assign(this, this.past.pop());
    this.#changed(true);
  }

  /** Two fingers hold the picture. */
  #pinch(event) {
    const before = this.#grip();
    this.touches.set(event.pointerId, this.#place(event));
    const after = this.#grip();
    this.pan(after.x - before.x, after.y - before.y);
    this.zoomBy(after.apart / before.apart, after);
  }

  #grip() {
    const [one, other] = [...this.touches.values()];
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.max(1, Math.hypot(one.x - other.x, one.y - other.y)) };
  }

  /** With Control (and the fingers of a trackpad) the wheel looks closer; where it is close, the wheel moves the picture. */
  #wheel(event) {
    if (!this.picture || (!event.ctrlKey && this.zoom.factor === 1)) return;
    event.preventDefault();
    if (event.ctrlKey) this.zoomBy(Math.exp(-event.deltaY / 300), this.#place(event));
    else this.pan(-event.deltaX, -event.deltaY);
  }

  /** Where an event is on the surface. */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #point(event) {
    const { x, y } = this.#place(event);
    const view = this.#view();
    return [(x - view.left) / view.scale, (y - view.top) / view.scale];
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") this.#toggleCursor();
    else if ((event.key === "+" || event.key === "-") && this.picture) this.zoomBy(event.key === "+" ? CLOSER : 1 / CLOSER, this.#cursorPlace());
    else if (event.key in steps) this.#moveCursor(steps[event.key], event.shiftKey ? FINE_STEP : STEP);
    else return;
    event.preventDefault();
  }

  #moveCursor([x, y], step) {
    const { width, height } = this.#sheet();
    const cursor = this.#cursor();
    const within = (value, limit) => Math.min(Math.max(value, 2), limit - 2);
    cursor.x = within(cursor.x + (x * step) / this.zoom.factor, width);
    cursor.y = within(cursor.y + (y * step) / this.zoom.factor, height);
    this.#keepInView();
    if (cursor.down && this.current) this.#goOn([cursor.x, cursor.y]);
    else this.#paint();
  }

  /** Where the keyboard's pen is on the surface; its middle, if it is nowhere. */
  #cursorPlace() {
    const view = this.#view();
    return this.cursor ? { x: view.left + this.cursor.x * view.scale, y: view.top + this.cursor.y * view.scale } : undefined;
  }

  #keepInView() {
    const { x, y } = this.#cursorPlace();
    const beyond = (value, size) => Math.min(value - EDGE, 0) + Math.max(value + EDGE - size, 0);
    if (this.zoom.factor > 1) this.pan(-beyond(x, this.width), -beyond(y, this.height));
  }

  #toggleCursor() {
    const cursor = this.#cursor();
    if (cursor.down) return this.#liftCursor();
    cursor.down = true;
    this.#begin("keyboard", [cursor.x, cursor.y]);
  }

  /** The keyboard's pen, which begins in the middle of what is seen. */
  #cursor() {
    const view = this.#view();
    this.cursor ??= { x: (this.width / 2 - view.left) / view.scale, y: (this.height / 2 - view.top) / view.scale, down: false };
    return this.cursor;
  }

  #liftCursor() {
    if (!this.cursor) return;
    const wasDown = this.cursor.down;
    this.cursor.down = false;
    if (wasDown && this.current) this.#finish();
    else this.#paint();
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
    this.zoom.factor > 1 ? this.#look(this.zoom.x, this.zoom.y) : this.#paint();
    this.moved?.();
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
      coverErased(context, this.strokes);
    }
    const ink = getComputedStyle(this.surface).getPropertyValue("--ink").trim();
    drawStrokes(context, this.strokes, this.picture ? inkOn(this.picture) : ink);
    if (this.current?.cut) this.#paintCut(context, view.scale);
    if (this.cursor && document.activeElement === this.canvas) this.#paintCursor(context);
  }

  #paintCut(context, scale) {
    const [[x, y], [right, bottom]] = this.current.points;
    for (const [colour, dash] of [["#fff", []], ["#000", [6 / scale, 6 / scale]]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2 / scale;
      context.setLineDash(dash);
      context.strokeRect(x, y, right - x, bottom - y);
    }
    context.setLineDash([]);
  }

  #paintCursor(context) {
    const { x, y, down } = this.cursor;
    context.strokeStyle = getComputedStyle(this.surface).getPropertyValue("--accent").trim();
    const { scale } = this.#view();
    context.lineWidth = (down ? 4 : 2) / scale;
    context.beginPath();
    context.arc(x, y, (Number(this.pen.value) / 2 + 4) / scale, 0, 2 * Math.PI);
    context.stroke();
  }
}
