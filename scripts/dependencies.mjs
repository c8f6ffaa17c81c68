// Reads one Rust dependency a line, `NAME vVERSION|LICENCE`, from standard input and the npm lock file named on the command
// line; prints what must not be there and exits 1, or prints how many it read.
import { readFileSync } from 'node:fs';

const ALLOWED_LICENCES = new Set([
  '0BSD', 'Apache-2.0', 'Apache-2.0 WITH LLVM-exception', 'BSD-2-Clause', 'BSD-3-Clause', 'BSL-1.0', 'BlueOak-1.0.0',
  'CC0-1.0', 'CDLA-Permissive-2.0', 'ISC', 'MIT', 'MIT-0', 'MPL-2.0', 'Unicode-3.0', 'Unlicense', 'Zlib',
]);
const SECOND_CRYPTO = 'aws-lc-rs is the one crypto library: choose the feature of the crate that pulls it in (cargo tree -i)';
const REFUSED_CRATES = new Map(['ring', 'openssl', 'openssl-sys', 'native-tls'].map((name) => [name, SECOND_CRYPTO]));

/** Whether an SPDX expression can be satisfied: `OR` by one side, `AND` by both. */
function allowed(expression) {
  const tokens = expression.replaceAll('/', ' OR ').match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const next = () => tokens[at++];
  const takes = (word) => tokens[at] === word && next();
  const term = () => {
    if (takes('(')) {
      const inner = either();
      return takes(')') && inner;
    }
    const licence = next();
    return ALLOWED_LICENCES.has(takes('WITH') ? `${licence} WITH ${next()}` : licence);
  };
  const chain = (operand, word, combine) => {
    let result = operand();
    while (takes(word)) result = combine(result, operand());
    return result;
  };
  const both = () => chain(term, 'AND', (a, b) => a && b);
  const either = () => chain(both, 'OR', (a, b) => a || b);
  return tokens.length > 0 && either();
}

function crateProblems(lines) {
  return lines.flatMap((line) => {
    const [crate, licence] = line.split('|');
    const [name] = crate.split(' ');
    // The workspace's own crates say where they stand.
    if (crate.includes('(/')) return [];
    return [
      ...(REFUSED_CRATES.has(name) ? [`crate ${crate}: ${REFUSED_CRATES.get(name)}`] : []),
      ...(allowed(licence) ? [] : [`crate ${crate}: licence ${licence || 'not stated'}`]),
    ];
  });
}

function packageProblems(entries) {
  return entries
    .filter(([, entry]) => !allowed(entry.license ?? ''))
    .map(([path, entry]) => `package ${path.replace(/^.*node_modules\//, '')}: licence ${entry.license ?? 'not stated'}`);
}

const crates = readFileSync(0, 'utf8').trim().split('\n');
const packages = Object.entries(JSON.parse(readFileSync(process.argv[2], 'utf8')).packages).filter(([path]) => path !== '');
const problems = [...crateProblems(crates), ...packageProblems(packages)];
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exit(1);
}
console.log(`${crates.length} crates and ${packages.length} packages: licences and crypto library as agreed`);
