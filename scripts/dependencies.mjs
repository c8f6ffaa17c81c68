// Reads `cargo metadata` from standard input and an npm lock file named on the command line; prints what must not be
// there and exits 1, or prints a count.
import { readFileSync } from 'node:fs';

const ALLOWED_LICENCES = new Set([
  '0BSD', 'Apache-2.0', 'Apache-2.0 WITH LLVM-exception', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'BSL-1.0', 'CC0-1.0',
  'CDLA-Permissive-2.0', 'ISC', 'MIT', 'MIT-0', 'MPL-2.0', 'OpenSSL', 'Python-2.0', 'Unicode-3.0', 'Unlicense', 'Zlib', 'zlib-acknowledgement',
]);
// One crypto library for the whole tree: aws-lc-rs (docs in ARCHITECTURE.md).
const REFUSED_CRATES = new Map([
  ['ring', 'aws-lc-rs is the one crypto library: choose the feature of the crate that pulls it in'],
  ['openssl', 'aws-lc-rs is the one crypto library: choose the feature of the crate that pulls it in'],
  ['openssl-sys', 'aws-lc-rs is the one crypto library: choose the feature of the crate that pulls it in'],
  ['native-tls', 'it brings OpenSSL: choose the rustls feature of the crate that pulls it in'],
]);

/** Whether an SPDX expression can be satisfied: `OR` by one side, `AND` by both. */
export function allowed(expression) {
  const tokens = expression.replaceAll('/', ' OR ').match(/\(|\)|[^\s()]+/g) ?? [];
  let at = 0;
  const term = () => {
    if (tokens[at] === '(') {
      at += 1;
      const inner = either();
      at += 1;
      return inner;
    }
    let licence = tokens[at++];
    if (tokens[at] === 'WITH') licence += ` WITH ${tokens[(at += 2) - 1]}`;
    return ALLOWED_LICENCES.has(licence);
  };
  const both = () => {
    let result = term();
    while (tokens[at] === 'AND') { at += 1; result = term() && result; }
    return result;
  };
  const either = () => {
    let result = both();
    while (tokens[at] === 'OR') { at += 1; result = both() || result; }
    return result;
  };
  return tokens.length > 0 && either();
}

function crates(metadata) {
  const used = new Set(metadata.resolve.nodes.map((node) => node.id));
  const external = metadata.packages.filter((crate) => crate.source !== null && used.has(crate.id));
  return { external, dependents: (id) => metadata.resolve.nodes.filter((n) => n.dependencies.includes(id)).map((n) => n.id) };
}

function problemsOfCrates({ external, dependents }) {
  const problems = [];
  for (const crate of external) {
    const name = `${crate.name} ${crate.version}`;
    const refused = REFUSED_CRATES.get(crate.name);
    if (refused) problems.push(`crate ${name}: ${refused} (used by ${dependents(crate.id).join(', ')})`);
    if (!crate.license && !crate.license_file) problems.push(`crate ${name}: no licence`);
    else if (crate.license && !allowed(crate.license)) problems.push(`crate ${name}: licence ${crate.license}`);
  }
  return problems;
}

function problemsOfPackages(lock) {
  return Object.entries(lock.packages)
    .filter(([path]) => path !== '')
    .filter(([, entry]) => !allowed(entry.license ?? ''))
    .map(([path, entry]) => `package ${path.replace(/^.*node_modules\//, '')}: licence ${entry.license ?? 'not stated'}`);
}

const read = crates(JSON.parse(readFileSync(0, 'utf8')));
const lock = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const problems = [...problemsOfCrates(read), ...problemsOfPackages(lock)];
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exit(1);
}
console.log(`${read.external.length} crates and ${Object.keys(lock.packages).length - 1} packages: licences and crypto library as agreed`);
