// What a first visit downloads: every script and style of the build, gzipped. Fails above the budget.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const BUDGET_KB = 230;
const assets = new URL("../dist/assets/", import.meta.url);
const sizes = readdirSync(assets)
  .filter((name) => /\.(js|css)$/.test(name))
  .map((name) => ({ name, kb: gzipSync(readFileSync(new URL(name, assets))).length / 1000 }));
const total = sizes.reduce((sum, { kb }) => sum + kb, 0);
for (const { name, kb } of sizes) process.stdout.write(`${name} ${kb.toFixed(1)} kB\n`);
process.stdout.write(`total ${total.toFixed(1)} kB gzipped, budget ${BUDGET_KB} kB\n`);
process.exitCode = total > BUDGET_KB ? 1 : 0;
