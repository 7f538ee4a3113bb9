// Pictures in place of strokes, or under them: their paper, their turns and their parts.

import { newCanvas } from "./ink.js";

/** The paper behind a picture: black if it is partly transparent and what is drawn on it is light, as the reader has it. */
export function paperOf(picture) {
  const { data } = smallCopy(picture, 128, [0, 0, picture.width, picture.height]);
  let [light, alpha] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    light += ((data[i] + data[i + 1] + data[i + 2]) / 3) * (data[i + 3] / 255);
    alpha += data[i + 3] / 255;
  }
  return light > 128 * alpha && alpha <= (0.95 * data.length) / 4 ? "#000" : "#fff";
}

/** The paper around a place of a picture: the colour that half of the pixels there are darker than. */
export function paperNear(picture, x, y, reach) {
  const { data } = smallCopy(picture, 32, [x - reach, y - reach, 2 * reach, 2 * reach], picture.paper);
  const middle = (channel) => data.filter((_, i) => i % 4 === channel).sort()[data.length / 8];
  return `rgb(${[0, 1, 2].map(middle).join(" ")})`;
}

/** The ink to write with on a picture, or without one. */
export const inkOn = (picture) => (picture?.paper === "#000" ? "#fff" : "#000");

/** A picture of at most `largest` pixels on a side. */
export function shrunk(picture, largest) {
  const factor = largest / Math.max(picture.width, picture.height);
  if (factor >= 1) return picture;
  const [resizeWidth, resizeHeight] = [picture.width, picture.height].map((size) => Math.max(1, Math.round(size * factor)));
  return createImageBitmap(picture, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

/** A canvas turned by a quarter, clockwise. */
export function turned(before) {
  const canvas = newCanvas(before.height, before.width);
  const context = canvas.getContext("2d");
  context.translate(canvas.width, 0);
  context.rotate(Math.PI / 2);
  context.drawImage(before, 0, 0);
  return canvas;
}

/** The part of a canvas between two of its points. */
export function partOf(before, [left, top], [right, bottom]) {
  const canvas = newCanvas(right - left, bottom - top);
  canvas.getContext("2d").drawImage(before, -left, -top);
  return canvas;
}

function smallCopy(picture, side, area, paper = "") {
  const context = newCanvas(side, side).getContext("2d");
  if (paper) {
    context.fillStyle = paper;
    context.fillRect(0, 0, side, side);
  }
  context.drawImage(picture, ...area, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}
