// Lays JSON text out, a member a line. The text is never parsed into numbers: ids above 2^53 keep their digits.

const INDENT = "  ";
const TOKEN = /"(?:[^"\\]|\\.)*"?|[{}[\],:]|[^\s{}[\],:"]+/gs;

/** Lays out text that begins as JSON, also where its end was cut off. */
export function layOut(text) {
  let lines = "";
  let depth = 0;
  let before = "";
  for (const [token] of text.matchAll(TOKEN)) {
    const opens = before === "{" || before === "[";
    const closes = token === "}" || token === "]";
    if (closes) {
      depth = Math.max(depth - 1, 0);
    }
    if ((opens && !closes) || (closes && !opens) || before === ",") {
      lines += `\n${INDENT.repeat(depth)}`;
    }
    lines += token === ":" ? ": " : token;
    if (token === "{" || token === "[") {
      depth += 1;
    }
    before = token;
  }
  return lines;
}

/** Lays out what is JSON, and leaves everything else as it is. */
export function layOutIfJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  return layOut(text);
}
