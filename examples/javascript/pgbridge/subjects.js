const plain = /[A-Za-z0-9_-]/;

/**
 * Any string as one token of a subject.
 * @param {string} text
 */
export function token(text) {
  let all = "";
  for (const byte of new TextEncoder().encode(text)) {
    const character = String.fromCharCode(byte);
    all += plain.test(character) ? character : "%" + byte.toString(16).toUpperCase().padStart(2, "0");
  }
  return all;
}

/**
 * The string that a token stands for, or "" where it stands for none.
 * @param {string} encoded
 */
export function untoken(encoded) {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return "";
  }
}

/**
 * What pgbridge calls a stream of its own.
 * @param {string} prefix
 * @param {string} name
 */
export const streamName = (prefix, name) => `${prefix.toUpperCase().replaceAll(".", "_")}_${name}`;

/**
 * Tokens as a subject; empty ones are left out.
 * @param {string[]} tokens
 */
export const join = (...tokens) => tokens.filter((t) => t !== "").join(".");
