import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

/** Tests with real browsers: one after the other, because the machine is small and the ports are fixed. */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  resolve: { alias: { "@": fileURLToPath(new URL("../src", import.meta.url)) } },
  test: {
    include: ["e2e/**/*.spec.ts", "e2e/screenshots.ts"],
    environment: "node",
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["verbose"],
  },
});
