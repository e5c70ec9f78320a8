// Compiles one .mo file beside this script, once with each way of persisting:
//
//   node build.mjs NAME.mo DIRECTORY
//
// writes motoko-NAME.wasm (enhanced orthogonal persistence, a 64-bit main memory) and motoko-NAME-classic.wasm
// (classical persistence, a 32-bit main memory) into the directory. Each file gets a process of its own: the compiler
// numbers things across all it has compiled, so that one file's module would otherwise depend on the files before it.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const mo = require("motoko");

// In this order, because the compiler fails when it is switched back from classical persistence.
const modes = [
  { suffix: "", flag: "enhancedOP" },
  { suffix: "-classic", flag: "classicOP" },
];

const [file, outDirectory] = process.argv.slice(2);
if (outDirectory === undefined) {
  console.error("usage: node build.mjs NAME.mo DIRECTORY");
  process.exit(2);
}

mo.loadPackage(require("motoko/packages/latest/core.json"));
// Public, so that whoever holds the module can read its interface.
mo.setPublicMetadata(["candid:service"]);
mo.write(file, fs.readFileSync(path.join(import.meta.dirname, file), "utf8"));

const errors = mo.check(file).filter((diagnostic) => diagnostic.severity === 1);
for (const { range, message } of errors) {
  console.error(`${file}:${range.start.line + 1}:${range.start.character + 1}: ${message}`);
}
if (errors.length > 0) process.exit(1);

for (const { suffix, flag } of modes) {
  mo.compiler.gcFlags(flag);
  const { wasm } = mo.wasm(file, "ic");
  fs.writeFileSync(path.join(outDirectory, `motoko-${path.parse(file).name}${suffix}.wasm`), wasm);
}
