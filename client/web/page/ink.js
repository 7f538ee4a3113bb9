// What strokes look like, and ten digits made of them.

// Outlines of the digits 0 to 9, in units of their height: each is a list of strokes.
const OUTLINES = [
  [[[0.5, 0.08], [0.2, 0.06], [0.06, 0.5], [0.2, 0.94], [0.46, 0.92], [0.6, 0.5], [0.46, 0.08]]],
  [[[0.3, 0.0], [0.26, 0.5], [0.22, 1.0]]],
  [[[0.06, 0.24], [0.3, 0.0], [0.58, 0.2], [0.4, 0.55], [0.04, 0.98], [0.64, 0.96]]],
  [[[0.08, 0.1], [0.38, 0.0], [0.56, 0.22], [0.26, 0.46], [0.62, 0.7], [0.36, 1.0], [0.04, 0.88]]],
  [[[0.42, 0.02], [0.08, 0.62], [0.62, 0.6]], [[0.46, 0.36], [0.42, 1.0]]],
  [[[0.16, 0.03], [0.12, 0.42], [0.4, 0.36], [0.62, 0.68], [0.36, 1.0], [0.04, 0.9]], [[0.16, 0.03], [0.58, 0.02]]],
  [[[0.5, 0.0], [0.14, 0.45], [0.12, 0.85], [0.38, 1.0], [0.58, 0.74], [0.36, 0.52], [0.12, 0.72]]],
  [[[0.06, 0.08], [0.58, 0.06], [0.36, 0.5], [0.22, 1.0]]],
  [[[0.52, 0.12], [0.28, 0.0], [0.1, 0.22], [0.34, 0.46], [0.58, 0.76], [0.3, 1.0], [0.06, 0.76], [0.3, 0.48], [0.56, 0.2], [0.46, 0.06]]],
  [[[0.54, 0.2], [0.3, 0.02], [0.08, 0.26], [0.28, 0.52], [0.54, 0.3], [0.55, 0.12], [0.48, 1.0]]],
];
const EXAMPLE = [4, 0, 7, 1];

/** An example as large as the sheet lets it be. */
export function exampleStrokes({ width, height }) {
  const size = Math.min(height * 0.55, width / (EXAMPLE.length * 0.95));
  const left = (width - EXAMPLE.length * 0.88 * size) / 2;
  const top = (height - size) / 2;
  return EXAMPLE.flatMap((digit, place) => outline(digit, { left: left + (place * 0.88 + 0.1) * size, top, size, pen: Math.max(7, size * 0.075) }));
}

/** A digit in MNIST's form: 28 x 28 grey levels, 0 for paper, row by row. */
export function drawnDigit(digit) {
  const context = newCanvas(28, 28).getContext("2d");
  drawStrokes(context, outline(digit, { left: 7.5, top: 5, size: 18, pen: 2.4 }), "#fff");
  const { data } = context.getImageData(0, 0, 28, 28);
  return Uint8Array.from({ length: 28 * 28 }, (_, i) => data[4 * i + 3]);
}

/** Round strokes through the points, smoothed by curves between their middles; an eraser's take away what is before them. */
export function drawStrokes(context, strokes, colour) {
  if (!strokes.some(({ erases }) => erases)) {
    for (const stroke of strokes) drawStroke(context, stroke, colour);
    return;
  }
  // On a layer of their own, as an eraser leaves the picture under them.
  const layer = newCanvas(context.canvas.width, context.canvas.height).getContext("2d");
  layer.setTransform(context.getTransform());
  for (const stroke of strokes) {
    layer.globalCompositeOperation = stroke.erases ? "destination-out" : "source-over";
    drawStroke(layer, stroke, colour);
  }
  context.save();
  context.resetTransform();
  context.drawImage(layer.canvas, 0, 0);
  context.restore();
}

/** Lay paper on a picture where an eraser went over it. */
export function coverErased(context, strokes) {
  for (const stroke of strokes) if (stroke.paper) drawStroke(context, stroke, stroke.paper);
}

export function newCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

function outline(digit, { left, top, size, pen }) {
  return OUTLINES[digit].map((stroke) => ({ width: pen, points: stroke.map(([x, y]) => [left + x * size, top + y * size]) }));
}

function drawStroke(context, { width, points }, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width;
  context.beginPath();
  if (points.length === 1) {
    context.arc(...points[0], width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
  }
  context.lineTo(...points.at(-1));
  context.stroke();
}
