import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import type { PopList } from "@/sdk/protocol.gen";

import { eventually } from "./browser";

const REPOSITORY = new URL("../..", import.meta.url).pathname;
const PROGRAM = process.env["ISTHMUS_BIN"] ?? join(REPOSITORY, "target/debug/isthmus");
const READY_WITHIN_MS = 60_000;

/** A development cluster of real processes, on free ports, in a folder of its own. */
export class Cluster {
  /** Origins of the doors by PoP. */
  readonly doors: ReadonlyMap<string, string>;
  readonly #process: ChildProcess;
  readonly #state: string;
  readonly #temporary: boolean;

  private constructor(process: ChildProcess, state: string, temporary: boolean, doors: ReadonlyMap<string, string>) {
    this.#process = process;
    this.#state = state;
    this.#temporary = temporary;
    this.doors = doors;
  }

  /** Starts one and waits for its `ready`. The folder is ISTHMUS_STATE_DIR, or a new one that goes with the cluster. */
  static async start(): Promise<Cluster> {
    const given = process.env["ISTHMUS_STATE_DIR"];
    const state = given ?? mkdtempSync(join(tmpdir(), "isthmus-e2e-"));
    const child = spawn(PROGRAM, ["dev", "--state", state, "--base-port", "0", "--web", join(REPOSITORY, "web/dist")], {
      cwd: REPOSITORY,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const doors = await ready(child);
    // A PoP's entry travels to the other stores with the replicator's delay.
    for (const door of doors.values()) await eventually(() => lists(door, doors.size), 15_000, `${door} lists every PoP`);
    return new Cluster(child, state, given === undefined, doors);
  }

  door(pop: string): string {
    const door = this.doors.get(pop);
    if (door === undefined) throw new Error(`The cluster has no PoP ${pop}`);
    return door;
  }

  /** SIGKILL for the processes whose names begin so: `panama` for a whole PoP, `panama-door` for its doors. */
  kill(prefix: string): void {
    const pids = this.#pids().filter(([name]) => name.startsWith(`${prefix}-`));
    if (pids.length === 0) throw new Error(`No process of the cluster begins with ${prefix}`);
    for (const [, pid] of pids) process.kill(pid, "SIGKILL");
  }

  /** Waits until the processes that begin so have been started again. */
  async restarted(prefix: string): Promise<void> {
    const door = this.doors.get(prefix.split("-")[0] ?? "");
    const answers = async () => (await fetch(`${door}/v1/ping`).catch(() => undefined))?.ok === true;
    await eventually(answers, 20_000, `${prefix} answers again`);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGTERM");
    await ended;
    if (this.#temporary) rmSync(this.#state, { recursive: true, force: true });
  }

  #pids(): [name: string, pid: number][] {
    return Object.entries(JSON.parse(readFileSync(join(this.#state, "pids.json"), "utf8")) as Record<string, number>);
  }
}

async function lists(door: string, pops: number): Promise<boolean> {
  const list = (await (await fetch(`${door}/v1/pops`)).json()) as PopList;
  return list.pops.filter(({ state }) => state === "ready").length === pops;
}

/** The doors the cluster prints, `panama http://localhost:7100`, once it says that it is ready. */
function ready(child: ChildProcess): Promise<Map<string, string>> {
  return new Promise((resolve, reject) => {
    const doors = new Map<string, string>();
    const timer = setTimeout(() => reject(new Error(`Not ready within ${READY_WITHIN_MS} ms`)), READY_WITHIN_MS);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`The cluster ended with ${code} before it was ready`)));
    if (child.stdout === null) return;
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [, pop, door] = /^(\w+)\s+(https?:\S+)$/.exec(line) ?? [];
      if (pop !== undefined && door !== undefined) doors.set(pop, door);
      if (!line.startsWith("ready")) return;
      clearTimeout(timer);
      resolve(doors);
    });
  });
}
