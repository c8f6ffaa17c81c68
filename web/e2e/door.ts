import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

/** The address of every host of a development cluster. */
const LOOPBACK = { address: "127.0.0.1", family: 4 };

export interface DoorAnswer {
  status: number;
  body: string;
}

/** GET from a door of a cluster on this machine, under whichever host name; `authority` vouches for HTTPS (PEM). */
export function get(url: string, authority?: Buffer): Promise<DoorAnswer> {
  return ask("GET", url, authority);
}

/** POST without a body, to the operators' HTTP of a door. */
export function post(url: string): Promise<DoorAnswer> {
  return ask("POST", url);
}

function ask(method: string, url: string, authority?: Buffer): Promise<DoorAnswer> {
  const request = url.startsWith("https:") ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const options = {
      method,
      ca: authority,
      // No name server knows these hosts.
      lookup: (_host: string, _options: object, found: (error: null, addresses: (typeof LOOPBACK)[]) => void) =>
        found(null, [LOOPBACK]),
      autoSelectFamily: true,
    };
    const sent = request(url, options, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() }));
      response.once("error", reject);
    });
    sent.once("error", reject);
    sent.end();
  });
}
