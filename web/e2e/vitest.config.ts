import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

/** Tests with real browsers: one after the other, because the machine is small. */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  resolve: { alias: { "@": fileURLToPath(new URL("../src", import.meta.url)) } },
  test: {
    environment: "node",
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["verbose"],
    projects: [
      { extends: true, test: { name: "calls", include: ["e2e/*.spec.ts"] } },
      // Run for the evidence alone.
      { extends: true, test: { name: "long", include: ["e2e/long/*.spec.ts"] } },
      { extends: true, test: { name: "screenshots", include: ["e2e/screenshots.ts"] } },
    ],
  },
});
