import { fileURLToPath } from "node:url";

import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** What the doors send with the pages; here so that the preview server, and the tests that use it, are as strict. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "media-src 'self' blob:",
  "connect-src 'self' http://localhost:* ws://localhost:* http://127.0.0.1:* ws://127.0.0.1:*",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export default defineConfig({
  // Tailwind's own optimiser would rewrite light-dark() into a form that does not follow a nested color-scheme.
  plugins: [react(), tailwindcss({ optimize: false })],
  resolve: { alias: { "@": fileURLToPath(new URL("src", import.meta.url)) } },
  build: {
    target: ["chrome123", "firefox120", "safari17.5"],
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The policy allows no data: scripts or styles, so nothing is inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": { target: "http://localhost:7100", ws: true } } },
  preview: { headers: { "content-security-policy": contentSecurityPolicy } },
  test: {
    projects: [
      // Without a document: the SDK must not need one.
      { extends: true, test: { name: "sdk", environment: "node", include: ["src/sdk/**/*.test.ts"] } },
      { extends: true, test: { name: "measures", environment: "node", include: ["e2e/*.test.ts"] } },
      {
        extends: true,
        test: {
          name: "pages",
          environment: "jsdom",
          include: ["src/**/*.test.{ts,tsx}"],
          exclude: ["src/sdk/**"],
          setupFiles: ["src/testing/setup.ts"],
          // Axe and a whole page in jsdom take their time on a busy machine.
          testTimeout: 30_000,
        },
      },
    ],
  },
});
