// Digits that were corrected by hand: kept in this browser, and handed out as a set to train on.

import { drawnDigit } from "./ink.js";
import { npz } from "./npz.js";

const KEY = "inkling.corrections";
const MOST = 2000; // of a kilobyte each; the oldest go first
const PIXELS = 28 * 28;
const TEST_EVERY = 5;
const CLASSES = 10;

export class Corrections {
  constructor() {
    this.kept = new Map(); // the 28 x 28 pixels of a digit, in base64: what it is, a digit or "?"
    this.#load();
  }

  /** How many of them can be trained on. */
  get count() {
    return this.#digits().length;
  }

  /** What the digit of these pixels was said to be; undefined if nothing was said. */
  of(image) {
    return this.kept.get(image);
  }

  /** Keep what a digit is, or forget it if that is what the model says too. */
  set(image, label, said) {
    this.#load(); // what another window may have kept
    this.kept.delete(image);
    if (label !== said) this.kept.set(image, label);
    for (const oldest of this.kept.keys()) if (this.kept.size > MOST) this.kept.delete(oldest);
    this.#store();
  }

  forget() {
    this.kept.clear();
    this.#store();
  }

  /**
   * A set for `python -m train --data`: an .npz of x_train, y_train, x_test and y_test, a fifth for the test.
   * Training needs each of the ten digits, so those that nobody corrected are there once, drawn by this page.
   */
  trainingSet() {
    const digits = this.#digits().map(([image, label]) => [bytesOf(image), Number(label)]);
    const test = digits.filter((_, i) => i % TEST_EVERY === 0);
    const train = digits.filter((_, i) => i % TEST_EVERY !== 0);
    for (let label = 0; label < CLASSES; label++) if (!train.some(([, is]) => is === label)) train.push([drawnDigit(label), label]);
    return npz({ x_train: imagesOf(train), y_train: labelsOf(train), x_test: imagesOf(test), y_test: labelsOf(test) });
  }

  #digits() {
    return [...this.kept].filter(([, label]) => label !== "?");
  }

  #load() {
    try {
      this.kept = new Map(JSON.parse(localStorage.getItem(KEY) ?? "[]").filter(isOne));
    } catch {
      // No storage, or not ours: what is corrected lasts as long as the page.
    }
  }

  #store() {
    try {
      localStorage.setItem(KEY, JSON.stringify([...this.kept]));
    } catch {
      // As above.
    }
  }
}

const isOne = (entry) => Array.isArray(entry) && /^[0-9?]$/.test(entry[1]) && bytesOf(String(entry[0])).length === PIXELS;

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function imagesOf(digits) {
  const data = new Uint8Array(digits.length * PIXELS);
  digits.forEach(([pixels], i) => data.set(pixels, i * PIXELS));
  return { shape: [digits.length, 28, 28], data };
}

const labelsOf = (digits) => ({ shape: [digits.length], data: Uint8Array.from(digits, ([, label]) => label) });
