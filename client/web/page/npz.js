// Writes NumPy's archives: a ZIP file, uncompressed, of arrays of bytes.
//
// numpy.org/doc/stable/reference/generated/numpy.lib.format.html, and PKWARE's APPNOTE.TXT on ZIP

const ALIGNED = 64; // bytes, by which an array's values begin
const LOCAL_FILE = 0x04034b50;
const DIRECTORY_ENTRY = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20; // of ZIP, that a reader must know
const FIRST_DAY = 0x21; // 1980-01-01: the archive says nothing of when it was made

/** An archive of arrays, each {shape, data}, data being a Uint8Array in C order; as a Blob. */
export function npz(arrays) {
  const files = [];
  const directory = [];
  let offset = 0;
  for (const [name, array] of Object.entries(arrays)) {
    const content = npy(array);
    const file = header(`${name}.npy`, content);
    files.push(fields([LOCAL_FILE, 4], ...file.about), file.name, content);
    // Versions and flags as before each file, then: no comment, disk 0, no attributes, and where the file is.
    directory.push(fields([DIRECTORY_ENTRY, 4], [VERSION, 2], ...file.about, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), file.name);
    offset += LOCAL_BYTES + file.name.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = directory.length / 2;
  const end = fields([END, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...files, ...directory, end], { type: "application/zip" });
}

const LOCAL_BYTES = 30; // before the name

function header(name, content) {
  const bytes = new TextEncoder().encode(name);
  const crc = crc32(content);
  const about = [[VERSION, 2], [0, 2], [0, 2], [0, 2], [FIRST_DAY, 2], [crc, 4], [content.length, 4], [content.length, 4], [bytes.length, 2], [0, 2]];
  return { name: bytes, about };
}

function npy({ shape, data }) {
  const about = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const start = "\x93NUMPY\x01\x00";
  const length = Math.ceil((start.length + 2 + about.length + 1) / ALIGNED) * ALIGNED - start.length - 2;
  const text = `${about.padEnd(length - 1)}\n`;
  const content = new Uint8Array(start.length + 2 + length + data.length);
  content.set(Uint8Array.from(start, (c) => c.charCodeAt(0)));
  content.set(fields([length, 2]), start.length);
  content.set(Uint8Array.from(text, (c) => c.charCodeAt(0)), start.length + 2);
  content.set(data, start.length + 2 + length);
  return content;
}

/** Numbers, each of so many bytes, the lowest first. */
function fields(...numbers) {
  return Uint8Array.from(numbers.flatMap(([value, size]) => Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) % 256)));
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
