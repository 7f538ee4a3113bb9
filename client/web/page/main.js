// Ties the surface, the server and the view together.

import { annotated } from "./annotated.js";
import { Corrections } from "./corrections.js";
import { CLOSER, Drawing } from "./drawing.js";
import { ReadingView } from "./reading.js";
import { Server } from "./server.js";

const WHILE_DRAWING_MS = 220;
const AFTER_A_STROKE_MS = 40;
const WHEN_BUSY_MS = 1000;

const by = (id) => document.getElementById(id);
const drawing = new Drawing({ surface: by("surface"), canvas: by("canvas"), pen: by("pen"), changed });
const parts = Object.fromEntries(["text", "marks", "digits", "boxes", "progress"].map((id) => [id, by(id)]));
const corrections = new Corrections();
const view = new ReadingView({ ...parts, drawing, corrections, corrected });
drawing.moved = () => view.placeBoxes();
const server = new Server({ state: showState });

let version = 0; // of the drawing
let asking = false;
let timer = 0;

function changed(finished) {
  version += 1;
  by("clear").disabled = drawing.empty;
  by("undo").disabled = !drawing.canUndo;
  by("redo").disabled = !drawing.canRedo;
  by("picture-tools").hidden = !drawing.picture;
  showTool();
  offerText(false);
  if (drawing.empty) {
    clearTimeout(timer);
    timer = 0;
    view.clear();
    describe("");
    if (server.available !== false) hideTrouble();
    return;
  }
  view.outdate();
  describe("");
  if (finished) {
    clearTimeout(timer);
    timer = setTimeout(ask, AFTER_A_STROKE_MS);
  } else timer ||= setTimeout(ask, WHILE_DRAWING_MS);
}

/** One question at a time; if the drawing changed meanwhile, the next one follows. */
async function ask() {
  timer = 0;
  if (asking || drawing.empty) return;
  asking = true;
  const asked = version;
  let again = 0;
  try {
    const { blob, place } = await drawing.blob();
    const reading = await server.read(blob);
    if (!drawing.empty) show(reading, place, asked === version);
  } catch (error) {
    // When the server is away, the drawing is kept and asked about again when it is back.
    if (error.busy) again = WHEN_BUSY_MS;
    else if (error.away) view.rest();
    else if (asked === version) {
      view.clear("This was not read");
      showAlert(`This could not be read: ${error.message}`);
    }
  } finally {
    asking = false;
  }
  if (asked !== version) again ||= AFTER_A_STROKE_MS;
  if (again) timer ||= setTimeout(ask, again);
}

function show(reading, place, current) {
  view.show(reading, place, current);
  offerText(current && reading.lines.length > 0);
  describe(current ? view.plainText : "");
  if (server.available !== false) hideTrouble();
}

/** Whether there is a text to take away. */
function offerText(there) {
  for (const id of ["copy", "csv", "save"]) by(id).disabled = !there;
}

/** Somebody says what a digit is. */
function corrected({ digit, said }, label) {
  corrections.set(digit.image, label, said);
  view.refresh();
  describe(view.plainText);
  showCorrections();
}

function showCorrections() {
  const { count } = corrections;
  by("kept").hidden = !corrections.kept.size;
  by("training").disabled = !count;
  by("kept-count").textContent = count === 1 ? "1 corrected digit is kept in this browser." : `${count} corrected digits are kept in this browser.`;
}

function showTool() {
  for (const tool of ["eraser", "crop"]) by(tool).setAttribute("aria-pressed", String(drawing.tool === tool));
}

/** Take a tool in hand, or lay it down. */
function use(tool) {
  if (tool === "crop" && !drawing.picture) return;
  drawing.use(drawing.tool === tool ? "pen" : tool);
  showTool();
}

function describe(text) {
  const what = drawing.empty ? "empty" : drawing.picture ? "showing a picture" : `${drawing.strokes.length} strokes`;
  by("canvas").setAttribute("aria-label", `Drawing surface, ${what}${text ? `, read as ${text.replaceAll("\n", ", ")}` : ""}`);
}

function showState(state, before) {
  by("status").title = state.server ? `${state.model} on ${state.server}` : "";
  by("status").dataset.state = state.slow ? "unknown" : state.available ? "ready" : "away";
  if (state.slow) {
    by("status-text").textContent = "server slow";
    hideTrouble();
    return;
  }
  by("status-text").textContent = state.available ? `${state.model} · version ${state.version}` : "server away";
  if (!state.available) {
    const where = state.server ? ` at ${state.server}` : "";
    showAlert(`The model server${where} is away. What you draw is kept, and is read as soon as it is back.`, state.reason);
    return;
  }
  if (before?.available === false) {
    showAlert("The server is back.");
    by("alert").classList.add("good");
    setTimeout(() => by("alert").classList.contains("good") && (by("alert").hidden = true), 4000);
  }
  if (!drawing.empty) ask();
}

function showAlert(message, title = "") {
  by("alert").classList.remove("good");
  by("alert").textContent = message;
  by("alert").title = title;
  by("alert").hidden = false;
}

/** Good news stay for their time. */
function hideTrouble() {
  if (!by("alert").classList.contains("good")) by("alert").hidden = true;
}

async function open(file) {
  try {
    await drawing.show(file);
  } catch {
    showAlert(`${file.name || "This"} is not a picture that this browser can open; try a PNG or JPEG.`);
  }
}

const pictureIn = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/") || !file.type);

by("undo").addEventListener("click", () => drawing.undo());
by("redo").addEventListener("click", () => drawing.redo());
by("turn").addEventListener("click", () => drawing.turn());
by("clear").addEventListener("click", () => drawing.clear());
by("example").addEventListener("click", () => drawing.example());
for (const tool of ["eraser", "crop"]) by(tool).addEventListener("click", () => use(tool));
by("closer").addEventListener("click", () => drawing.zoomBy(CLOSER));
by("farther").addEventListener("click", () => drawing.zoomBy(1 / CLOSER));
by("copy").addEventListener("click", async () => {
  const said = await navigator.clipboard?.writeText(view.plainText).then(() => "Copied", () => "");
  by("progress").textContent = said || "This browser does not let a page copy; select the text instead";
});
by("csv").addEventListener("click", () => save(new Blob([view.csv()], { type: "text/csv" }), "reading.csv"));
by("save").addEventListener("click", () => annotated(drawing.seen, view.all).toBlob((blob) => save(blob, "reading.png")));
by("training").addEventListener("click", () => save(corrections.trainingSet(), "corrections.npz"));
by("forget").addEventListener("click", () => {
  corrections.forget();
  view.refresh();
  showCorrections();
  by("text").focus();
});
for (const [button, input] of [["open", "file"], ["camera", "photo"]]) {
  by(button).addEventListener("click", () => by(input).click());
  by(input).addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0]);
    target.value = "";
  });
}
addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) open(file);
});
const LETTERS = { e: () => drawing.example(), x: () => use("eraser"), c: () => use("crop"), t: () => drawing.turn() };
let dragging = 0;
addEventListener("dragenter", () => by("surface").classList.toggle("dragging", ++dragging > 0));
addEventListener("dragleave", () => by("surface").classList.toggle("dragging", --dragging > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragging = 0;
  by("surface").classList.remove("dragging");
  const file = pictureIn(event.dataTransfer);
  if (file) open(file);
});
addEventListener("keydown", (event) => {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  // Keys alone mean something only where the drawing has the focus (WCAG 2.1.4).
  const onDrawing = event.target === by("canvas");
  if (command && ((key === "z" && event.shiftKey) || key === "y")) drawing.redo();
  else if (command && key === "z") drawing.undo();
  else if (command && key === "o") by("file").click();
  else if (onDrawing && key === "escape" && !drawing.empty) drawing.clear();
  else if (onDrawing && key in LETTERS && !command && !event.altKey) LETTERS[key]();
  else return;
  event.preventDefault();
});

/** Hand a file to the browser to be kept. */
function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

showCorrections();
server.check();
