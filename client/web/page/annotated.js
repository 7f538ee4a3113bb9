// The picture that was read, with what was read in it, as a file to keep.

import { newCanvas } from "./ink.js";

const COLOURS = { doubtful: "#ca7000", nodigit: "#c81e2d", "left-out": "#c81e2d", corrected: "#1f4bb8" };
const SURE = "#17803d";
const LABEL_SHARE = 0.45; // of a mark's height; its label is so high, but no less than can be read
const LOWEST_LABEL = 14;

/** A canvas with a box around each mark and what it is below it. */
export function annotated(picture, marks) {
  const canvas = newCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const mark of marks) paint(context, mark);
  return canvas;
}

function paint(context, { box: [left, top, right, bottom], text, kind }) {
  const size = Math.max(LOWEST_LABEL, LABEL_SHARE * (bottom - top));
  context.strokeStyle = context.fillStyle = COLOURS[kind.split(" ")[0]] ?? SURE;
  context.lineWidth = Math.max(1.5, size / 12);
  context.strokeRect(left, top, right - left, bottom - top);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.lineJoin = "round";
  const place = [text, (left + right) / 2, bottom + size / 8];
  const colour = context.fillStyle;
  context.strokeStyle = "#fff"; // so that the label can be read on any picture
  context.lineWidth = size / 5;
  context.strokeText(...place);
  context.fillStyle = colour;
  context.fillText(...place);
}
