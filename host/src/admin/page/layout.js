// Lays JSON text out, a member a line. The text is never parsed into numbers: ids above 2^53 keep their digits.
//
// What is laid out may be of any size and depth: it comes piece by piece, takes time in proportion to its length, and is
// at most some seventy times as long as the text.

const INDENT = "  ";
/** Below so many levels lines are indented no further. */
const DEEPEST = 32;
/** What a piece holds, characters and lines. */
const PIECE = 32 << 10;
const LINES = 1_000;

const MARK = /[{}[\],:]/;
const ENDS_WORD = /[\s{}[\],:"]/g;
const BLANK = /\s/;

/** The tokens of text that begins as JSON. A string that is cut off is one that goes to the end. */
function* tokens(text) {
  let at = 0;
  while (at < text.length) {
    const begin = at;
    const sign = text[at];
    at += 1;
    if (BLANK.test(sign)) {
      continue;
    }
    if (sign === '"') {
      at = endOfString(text, at);
    } else if (!MARK.test(sign)) {
      ENDS_WORD.lastIndex = at;
      at = ENDS_WORD.exec(text)?.index ?? text.length;
    }
    yield text.slice(begin, at);
  }
}

function endOfString(text, from) {
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === "\\") {
      at += 1;
    } else if (text[at] === '"') {
      return at + 1;
    }
  }
  return text.length;
}

/** The parts of the laid out text. Each line but the first is the end of one. */
function* parts(text) {
  let depth = 0;
  let before = "";
  for (const token of tokens(text)) {
    const opens = before === "{" || before === "[";
    const closes = token === "}" || token === "]";
    if (closes) {
      depth = Math.max(depth - 1, 0);
    }
    if ((opens && !closes) || (closes && !opens) || before === ",") {
      yield `\n${INDENT.repeat(Math.min(depth, DEEPEST))}`;
    }
    yield token === ":" ? ": " : token;
    if (token === "{" || token === "[") {
      depth += 1;
    }
    before = token;
  }
}

/** Pieces of a bounded size. */
function* pieces(parts) {
  let piece = "";
  let lines = 0;
  for (const part of parts) {
    lines += part[0] === "\n" ? 1 : 0;
    if (piece !== "" && (lines > LINES || piece.length + part.length > PIECE)) {
      yield piece;
      [piece, lines] = ["", 0];
    }
    let rest = part;
    while (rest.length > PIECE) {
      // Two halves of one sign stay together.
      const end = /[\uD800-\uDBFF]/.test(rest[PIECE - 1]) ? PIECE - 1 : PIECE;
      yield rest.slice(0, end);
      rest = rest.slice(end);
    }
    piece += rest;
  }
  if (piece !== "") {
    yield piece;
  }
}

/** Lays out text that begins as JSON, also where its end was cut off, piece by piece. */
export function layOut(text) {
  return pieces(parts(text));
}

/** Lays out what is JSON, and leaves everything else as it is, piece by piece. */
export function layOutIfJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return pieces(linesOf(text));
  }
  return layOut(text);
}

function* linesOf(text) {
  let at = 0;
  while (at < text.length) {
    const next = text.indexOf("\n", at + 1);
    const end = next === -1 ? text.length : next;
    yield text.slice(at, end);
    at = end;
  }
}
