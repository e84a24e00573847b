// Text to token ids and back, as gentext/tokenizer.py does it: the same cuts, the same merges, the same ids.
//
//     const tokenizer = createTokenizer(state.tokenizer); // what `live.tokens.state` put there
//     tokenizer.encode("KING ") -> [41, 7, ...]              tokenizer.decode([41, 7]) -> "KI"
//     tokenizer.label(7) -> "I"                               one token for a person: a space is ␣, a line break ↵

const TOKENIZER_FORMAT = "gentext tokenizer 1";

// GPT-2's cuts, and a variant in which digits stand alone. \s of JavaScript is not Unicode's white space, so name it.
const LETTERS_AND_MARKS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+";
const OTHERS = " ?[^\\p{White_Space}\\p{L}\\p{N}]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";
const TOKENIZER_CUTS = {
  gpt2: new RegExp(`${LETTERS_AND_MARKS}| ?\\p{N}+|${OTHERS}`, "gu"),
  digits: new RegExp(`${LETTERS_AND_MARKS}|\\p{N}|${OTHERS}`, "gu"),
};

// GPT-2 writes each byte as one visible character: those of Latin-1 as themselves, the others from code point 256 on.
const bytesFrom = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
const VISIBLE_BYTES = [...bytesFrom(33, 126), ...bytesFrom(161, 172), ...bytesFrom(174, 255)];
const HIDDEN_BYTES = bytesFrom(0, 255).filter((byte) => !VISIBLE_BYTES.includes(byte));
const BYTE_CHARACTERS = [
  ...VISIBLE_BYTES.map((byte) => [String.fromCharCode(byte), byte]),
  ...HIDDEN_BYTES.map((byte, index) => [String.fromCharCode(256 + index), byte]),
]; // in the order of their ids

// A tokenizer from the content of its JSON file. An Error says what is wrong with it.
export function createTokenizer(content) {
  if (content?.format !== TOKENIZER_FORMAT) throw new Error(`The tokenizer does not say "${TOKENIZER_FORMAT}".`);
  if (content.kind === "characters") return characterTokenizer(content);
  if (content.kind === "byte pairs" && TOKENIZER_CUTS[content.pattern]) return bytePairTokenizer(content);
  throw new Error(`There is no tokenizer of kind ${content.kind} with pattern ${content.pattern}.`);
}

// Spaces and line breaks that can be seen.
const showBlanks = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");

function characterTokenizer({ special_tokens: specials, tokens: characters }) {
  const tokens = [...specials, ...characters];
  const ids = new Map(characters.map((character, index) => [character, specials.length + index]));
  return {
    vocabSize: tokens.length,
    specials: new Map(specials.map((name, id) => [name, id])),
    encode(text) {
      return Array.from(text, (character) => {
        if (!ids.has(character)) throw new Error(`“${character}” is none of the ${ids.size} characters this model knows.`);
        return ids.get(character);
      });
    },
    decode: (chosen) => Array.from(chosen, (id) => tokens[id]).join(""),
    label: (id) => showBlanks(tokens[id]),
  };
}

function bytePairTokenizer({ special_tokens: specials, pattern, merges }) {
  // Ids: special tokens, the 256 bytes, one for each merge that makes a new token. Tokens in visible characters.
  const tokens = [...specials, ...BYTE_CHARACTERS.map(([character]) => character)];
  const ids = new Map(BYTE_CHARACTERS.map(([character], index) => [character, specials.length + index]));
  const merged = new Map(); // "left right" as ids -> { rank, id }
  merges.forEach((merge, rank) => {
    const [left, right] = merge.split(" ");
    const joined = left + right;
    if (!ids.has(joined)) {
      ids.set(joined, tokens.length);
      tokens.push(joined);
    }
    merged.set(`${ids.get(left)} ${ids.get(right)}`, { rank, id: ids.get(joined) });
  });
  const byteOf = new Map(BYTE_CHARACTERS);
  const idOfByte = new Map(BYTE_CHARACTERS.map(([, byte], index) => [byte, specials.length + index]));
  const utf8 = new TextEncoder();
  const known = new Map(); // pieces met before

  // Of all merges that apply the one learned first, the leftmost first, until none applies.
  function mergeBytes(bytes) {
    const row = Array.from(bytes, (byte) => idOfByte.get(byte));
    for (;;) {
      let best = null;
      let place = -1;
      for (let index = 0; index + 1 < row.length; index++) {
        const found = merged.get(`${row[index]} ${row[index + 1]}`);
        if (found && (!best || found.rank < best.rank)) [best, place] = [found, index];
      }
      if (!best) return row;
      row.splice(place, 2, best.id);
    }
  }

  function bytesOfTokens(chosen) {
    const bytes = [];
    for (const id of chosen) {
      if (id < specials.length) bytes.push(...utf8.encode(tokens[id]));
      else bytes.push(...Array.from(tokens[id], (character) => byteOf.get(character)));
    }
    return Uint8Array.from(bytes);
  }

  const decode = (chosen) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytesOfTokens(chosen));
  return {
    vocabSize: tokens.length,
    specials: new Map(specials.map((name, id) => [name, id])),
    encode(text) {
      const row = [];
      for (const piece of text.match(TOKENIZER_CUTS[pattern]) ?? []) {
        if (!known.has(piece)) known.set(piece, mergeBytes(utf8.encode(piece)));
        row.push(...known.get(piece));
      }
      return row;
    },
    decode,
    label: (id) => showBlanks(decode([id])),
  };
}
