import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import type { PopList } from "@/sdk/protocol.gen";

import { get, post } from "./door";
import { eventually } from "./waiting";

const REPOSITORY = new URL("../..", import.meta.url).pathname;
const READY_WITHIN_MS = 60_000;
/** From a PoP's public port to that of its operators' HTTP. */
const OPS_OFFSET = 1;

/** A development cluster of real processes, on free ports, in a folder of its own. */
export class Cluster {
  readonly #process: ChildProcess;
  readonly #state: string;
  readonly #temporary: boolean;
  /** Origins of the doors by PoP. */
  #doors: ReadonlyMap<string, string> = new Map();

  private constructor(domain: string | undefined) {
    const given = process.env["ISTHMUS_STATE_DIR"];
    this.#temporary = given === undefined;
    this.#state = given ?? mkdtempSync(join(tmpdir(), "isthmus-e2e-"));
    const web = join(REPOSITORY, "web/dist");
    const flags = ["--state", this.#state, "--base-port", "0", "--web", web];
    if (domain !== undefined) flags.push("--https", "--domain", domain);
    this.#process = spawn(program(), ["dev", ...flags], { cwd: REPOSITORY, stdio: ["ignore", "pipe", "inherit"] });
  }

  /**
   * Starts one and waits until each door knows every PoP. With a domain the doors are hosts of it and speak HTTPS.
   * The folder is ISTHMUS_STATE_DIR, or a new one that goes with the cluster.
   */
  static async start(domain?: string): Promise<Cluster> {
    const cluster = new Cluster(domain);
    try {
      cluster.#doors = await ready(cluster.#process);
      // A PoP's entry travels to the other stores with the replicator's delay.
      for (const pop of cluster.#doors.keys()) {
        await eventually(() => cluster.#listsEveryPop(pop), 15_000, `the door of ${pop} lists every PoP`);
      }
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** The certificate of the development authority, which signs those of the doors. */
  get authority(): string {
    return join(this.#state, "ca/ca.pem");
  }

  door(pop: string): string {
    const door = this.#doors.get(pop);
    if (door === undefined) throw new Error(`The cluster has no PoP ${pop}`);
    return door;
  }

  /** SIGKILL for the processes whose names begin so: `panama` for a whole PoP, `panama-door` for its doors. */
  kill(prefix: string): void {
    const pids = this.#pids().filter(([name]) => name.startsWith(`${prefix}-`));
    if (pids.length === 0) throw new Error(`No process of the cluster begins with ${prefix}`);
    for (const [, pid] of pids) process.kill(pid, "SIGKILL");
  }

  /** Asks a PoP, the way an operator does, to take nobody new and to send its people elsewhere. */
  async drain(pop: string): Promise<void> {
    const door = new URL(this.door(pop));
    const { status, body } = await post(`http://127.0.0.1:${Number(door.port) + OPS_OFFSET}/drain`);
    if (status !== 200) throw new Error(`${pop} does not drain: ${status} ${body}`);
  }

  /** Waits until a killed PoP has been started again, and is known again at every door. */
  async restarted(pop: string): Promise<void> {
    for (const door of this.#doors.keys()) {
      await eventually(() => this.#listsEveryPop(door), 30_000, `${pop} is listed again by the door of ${door}`);
    }
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGTERM");
      await ended;
    }
    if (this.#temporary) rmSync(this.#state, { recursive: true, force: true });
  }

  async #listsEveryPop(pop: string): Promise<boolean> {
    const answer = await get(`${this.door(pop)}/v1/pops`, readFileSync(this.authority)).catch(() => undefined);
    if (answer?.status !== 200) return false;
    const { pops } = JSON.parse(answer.body) as PopList;
    return pops.filter(({ state }) => state === "ready").length === this.#doors.size;
  }

  #pids(): [name: string, pid: number][] {
    return Object.entries(JSON.parse(readFileSync(join(this.#state, "pids.json"), "utf8")) as Record<string, number>);
  }
}

/** The program under test: ISTHMUS_BIN, else the release build, else the debug build. */
function program(): string {
  const built = ["release", "debug"].map((profile) => join(REPOSITORY, "target", profile, "isthmus"));
  const chosen = process.env["ISTHMUS_BIN"] ?? built.find((path) => existsSync(path));
  if (chosen === undefined) throw new Error("isthmus is not built: run `make build`, or say where it is in ISTHMUS_BIN");
  return chosen;
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
